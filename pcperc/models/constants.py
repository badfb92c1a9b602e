# SPDX-License-Identifier: Apache-2.0
"""Numbers of a config beside tensors on a GPU."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Return ``like.new_tensor(values)``, made once: a copy to a GPU waits. Not to be written to."""
    if torch.compiler.is_compiling():  # part of the program then
        return like.new_tensor(values)
    return _made(tuple(values), like.dtype, like.device)


@lru_cache(maxsize=256)
def _made(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it must also serve a later pass that records gradients
        return torch.tensor(values, dtype=dtype, device=device)
