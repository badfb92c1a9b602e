# SPDX-License-Identifier: Apache-2.0
"""Numbers of a config beside tensors on a GPU."""

from collections.abc import Sequence

import torch
from torch import Tensor

_kept: dict[tuple, Tensor] = {}  # for ever: a CUDA graph may read them, and configs have few


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Return ``like.new_tensor(values)``, made once: a copy to a GPU waits. Not to be written to."""
    if torch.compiler.is_compiling() or type(like) is not Tensor:  # part of the program, or fake as the rest of it
        return like.new_tensor(values)
    key = tuple(values), like.dtype, like.device
    if key not in _kept:
        with torch.inference_mode(False):  # it must also serve a later pass that records gradients
            made = torch.tensor(values, dtype=like.dtype, device=like.device)
        if type(made) is not Tensor:  # fake beside a real tensor
            return made
        _kept[key] = made
    return _kept[key]
