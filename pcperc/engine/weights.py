# SPDX-License-Identifier: Apache-2.0
"""Weights of checkpoints put into models: all of one file, or the encoders of several."""

from collections.abc import Sequence
from pathlib import Path

import torch

from pcperc.engine.checkpoint import CheckpointError, load_checkpoint


def load_weights(model: torch.nn.Module, state_dict: dict, *, source: str | Path, partial: bool = False) -> list[str]:
    """Put ``state_dict`` into ``model``.

    Args:
        source: the file's name, for messages.
        partial: the model may have parts that the file lacks (a LiDAR checkpoint in a fusion model).
    Returns:
        Names of the model's tensors that the file does not have; empty unless ``partial``.
    Raises:
        CheckpointError: the file is of another model; the first differing tensor is named.
    """
    own = model.state_dict()
    foreign = [key for key in state_dict if key not in own]
    missing = [key for key in own if key not in state_dict]
    shapes = [k for k in state_dict if k in own and tuple(state_dict[k].shape) != tuple(own[k].shape)]
    if foreign or shapes or (missing and not partial) or len(missing) == len(own):
        raise CheckpointError(f"{source}: is a checkpoint of another model, {_difference(own, state_dict)}")
    model.load_state_dict(state_dict, strict=not partial)
    return missing


def load_stages(model: torch.nn.Module, paths: Sequence[Path], *, partial: bool = False) -> list[str]:
    """Put the weights of checkpoints of several stages into ``model``.

    Args:
        paths: the first gives all that it has; each further one the encoders of modalities (``encoders.<modality>.*``)
            that those before it lack: its own decoder and heads read another map.
        partial: the model may have parts that no file has.
    Returns:
        Names of the model's tensors that no file has; empty unless ``partial``.
    Raises:
        CheckpointError: a file is of another model, or a further one has no such encoder.
    """
    missing, present = set(model.state_dict()), set()
    for number, path in enumerate(paths):
        weights = load_checkpoint(path)["state_dict"]
        if number > 0:
            found = {_encoder(key) for key in weights} - {""}
            weights = {key: value for key, value in weights.items() if _encoder(key) in found - present}
            if not weights:
                before = ", ".join(map(str, paths[:number]))
                raise CheckpointError(
                    f"{path}: must have an encoder that {before} lacks, got {', '.join(sorted(found)) or 'none'}"
                )
        missing.intersection_update(load_weights(model, weights, source=path, partial=partial or len(paths) > 1))
        present |= {_encoder(key) for key in weights}
    if missing and not partial:
        files = ", ".join(map(str, paths))
        raise CheckpointError(f"{files}: lack {len(missing)} tensors of the model (first: '{min(missing)}')")
    return sorted(missing)


def _encoder(key: str) -> str:
    """Return "encoders.<modality>" of a tensor's name, "" for one of another part."""
    parts = key.split(".")
    return ".".join(parts[:2]) if parts[0] == "encoders" else ""


def _difference(own: dict, given: dict) -> str:
    """Say in a few words how two state dicts differ."""
    for key, value in given.items():
        if key in own and tuple(value.shape) != tuple(own[key].shape):
            return f"'{key}' must be {tuple(own[key].shape)}, got {tuple(value.shape)}"
    foreign = [key for key in given if key not in own]
    missing = [key for key in own if key not in given]
    parts = []
    if foreign:
        parts.append(f"{len(foreign)} tensors that this model lacks (first: '{foreign[0]}')")
    if missing:
        parts.append(f"{len(missing)} of this model's tensors are not in it (first: '{missing[0]}')")
    return "it has " + " and ".join(parts) if foreign else parts[0]
