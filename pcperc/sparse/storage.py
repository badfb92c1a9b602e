# SPDX-License-Identifier: Apache-2.0
"""Sparse tensors in safetensors files: nothing in such a file is ever executed."""

import json
from fractions import Fraction
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pcperc import files
from pcperc.sparse._checks import check_not_padded
from pcperc.sparse.sparse_tensor import SparseTensor

_FORMAT = "pcperc sparse tensor 1"


def save(x: SparseTensor, path: str | Path) -> None:
    """Write coordinates, features and lattice to a .safetensors file, whole or not at all.

    Kernel maps are not written, they follow from the coordinates; nor is what autograd knows. Folders that are missing
    are made.

    Raises:
        TypeError: x is no sparse tensor.
        ValueError: x has padding.
        OSError: the file cannot be written; it is then what it was before.
    """
    if not isinstance(x, SparseTensor):
        raise TypeError(f"save: x must be a SparseTensor, got {type(x).__name__}")
    check_not_padded("save", x.topology)
    tensors = {"coords": x.coords, "feats": x.feats.detach()}
    stride = [str(s) for s in x.tensor_stride]  # "2", or "1/2" on a lattice finer than the network's input
    lattice = {"batch_size": x.batch_size, "spatial_shape": x.spatial_shape, "tensor_stride": stride}
    with files.written_whole(path) as partial:
        contiguous = {key: value.cpu().contiguous() for key, value in tensors.items()}
        save_file(contiguous, partial, metadata={"format": _FORMAT, "lattice": json.dumps(lattice)})
        files.set_usual_mode(partial)


def load(path: str | Path, device: torch.device | str = "cpu") -> SparseTensor:
    """Read a sparse tensor that :func:`save` wrote.

    Args:
        path: the file.
        device: where coordinates and features are put.
    Raises:
        FileNotFoundError: no such file.
        ValueError: no such tensor in it, or not a valid one; the message names the file and the key.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load: {path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"format must be '{_FORMAT}', got {metadata.get('format')!r}")
            missing = {"coords", "feats"} - set(file.keys())
            if missing:
                raise ValueError(f"there must be tensors coords and feats, got no {' and '.join(sorted(missing))}")
            coords, feats = file.get_tensor("coords"), file.get_tensor("feats")
        x = SparseTensor(coords, feats, **_lattice(metadata.get("lattice")))
    except (SafetensorError, OSError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"load: {path}: not a sparse tensor that pcperc.save wrote ({error})") from error
    return x.to(device)


def _lattice(text: str | None) -> dict:
    """The lattice of the header; the values themselves are checked by ``SparseTensor``."""
    if text is None:
        raise ValueError("the header must have lattice, got none")
    lattice = json.loads(text)
    wanted = {"batch_size", "spatial_shape", "tensor_stride"}
    if not isinstance(lattice, dict) or set(lattice) != wanted:
        raise ValueError(f"lattice must have the keys {', '.join(sorted(wanted))}, got {text}")
    lattice["tensor_stride"] = [Fraction(s) for s in lattice["tensor_stride"]]
    if lattice["batch_size"] == 0:  # no clouds at all: SparseTensor reads that from the coordinates
        lattice["batch_size"] = None
    return lattice
