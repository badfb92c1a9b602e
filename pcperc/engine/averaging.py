# SPDX-License-Identifier: Apache-2.0
"""The mean of the weights of several checkpoints of one model ("model soup")."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pcperc.engine.checkpoint import CheckpointError, load_checkpoint, save_weights
from pcperc.engine.config import first_difference
from pcperc.engine.messages import say


@dataclass(frozen=True)
class AverageOptions:
    """What the command line says; see tools/README.md."""

    checkpoints: Sequence[Path]
    out: Path


def average_checkpoints(options: AverageOptions) -> Path:
    """Write the mean of the weights as a .safetensors file that test.py and infer.py take and training can start from.

    Every floating-point tensor is averaged, running statistics of norms too; tensors of whole numbers are those of the
    first file. It carries the config of the first file and says whether any was trained on simulated data.

    Returns:
        ``options.out``.
    Raises:
        ValueError: fewer than two checkpoints, one given twice or to be replaced, or another suffix than .safetensors.
        CheckpointError: one is unreadable or of another model; the first difference is named.
    Source: Wortsman et al., Model soups, ICML 2022 (the uniform soup).
    """
    paths = [Path(path) for path in options.checkpoints]
    if len({path.resolve() for path in paths}) != len(paths) or len(paths) < 2:
        raise ValueError(f"average_checkpoints: checkpoints must be two or more different files, got {len(paths)}")
    if options.out.suffix != ".safetensors":
        raise ValueError(f"average_checkpoints: --out must be a .safetensors file, got {options.out}")
    if options.out.resolve() in {path.resolve() for path in paths}:
        raise ValueError(f"average_checkpoints: --out must be another file than the checkpoints, got {options.out}")
    first = _load_finite(paths[0])
    meta, weights = dict(first["meta"]), first["state_dict"]
    sums = {name: value.double() for name, value in weights.items() if value.is_floating_point()}
    for path in paths[1:]:
        other = _load_finite(path)
        _check_same_model(paths[0], first, path, other)
        for name, total in sums.items():
            total += other["state_dict"][name].double()
        meta["simulated"] = bool(meta.get("simulated")) or bool(other["meta"].get("simulated"))
    mean = {name: _mean(value, sums.get(name), len(paths)) for name, value in weights.items()}
    meta["averaged_from"] = [str(path) for path in paths]
    save_weights(mean, options.out, meta=meta)
    say(f"{options.out}: the mean of {len(paths)} checkpoints, {len(mean)} tensors")
    return options.out


def _mean(value: Tensor, total: Tensor | None, count: int) -> Tensor:
    return value if total is None else (total / count).to(value.dtype)


def _load_finite(path: Path) -> dict:
    """Read a checkpoint; a diverged one would spoil the mean unseen."""
    checkpoint = load_checkpoint(path)
    for name, value in checkpoint["state_dict"].items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: '{name}' holds numbers that are not finite")
    return checkpoint


def _check_same_model(path: Path, checkpoint: dict, other_path: Path, other: dict) -> None:
    """Raise CheckpointError unless both have one model in their configs and tensors of the same names and shapes."""
    models = [one["meta"].get("config", {}).get("model") for one in (checkpoint, other)]
    difference = first_difference(*models, where="model") if all(models) else None
    ours, theirs = ({name: tuple(v.shape) for name, v in one["state_dict"].items()} for one in (checkpoint, other))
    if difference is None and ours != theirs:
        name = next(name for name in (*ours, *theirs) if ours.get(name) != theirs.get(name))
        difference = f"'{name}' is {theirs.get(name, 'absent')} in it, {ours.get(name, 'absent')} in {path}"
    if difference is not None:
        raise CheckpointError(f"{other_path}: is a checkpoint of another model than {path}: {difference}")
