# SPDX-License-Identifier: Apache-2.0
"""Rows grouped by an integer key: what voxelization and bird's-eye-view pooling share."""

from typing import NamedTuple

import torch
from torch import Tensor

from pcperc.ops._checks import check_tensor, describe


class Groups(NamedTuple):
    """Rows that share a key, as consecutive entries of ``order``."""

    order: Tensor  # (K,) int32, rows with a valid key, sorted by key and, within a key, by row
    starts: Tensor  # (G + 1,) int32, entries of group g are order[starts[g] : starts[g + 1]]
    keys: Tensor  # (G,) int64, the key of each group, ascending
    inverse: Tensor  # (N,) int64, the group of each row, -1 where its key is not valid


def group_by_key(keys: Tensor, *, num_keys: int) -> Groups:
    """Group the rows of ``keys`` by value.

    Args:
        keys: (N,) int64; rows with a key outside [0, num_keys) belong to no group.
        num_keys: upper bound of the keys; a small one makes the sort faster.

    Returns:
        Groups, all empty (``starts`` is [0]) where no key is valid.

    Raises:
        TypeError, ValueError: keys is not (N,) int64.

    One stable radix sort; the same rows in the same order on CPU and CUDA. Not differentiable. On CUDA it waits for
    the device once.
    """
    check_tensor("group_by_key", "keys", keys)
    if keys.dim() != 1 or keys.dtype != torch.int64:
        raise ValueError(f"group_by_key: keys must be (N,) int64, got {describe(keys)}")
    return Groups(*torch.ops.pcperc.group_by_key(keys.contiguous(), num_keys))


@torch.library.register_fake("pcperc::group_by_key")
def _(keys, num_keys):
    context = torch.library.get_ctx()
    kept, groups = context.new_dynamic_size(), context.new_dynamic_size()
    return (
        keys.new_empty(kept, dtype=torch.int32),
        keys.new_empty(groups + 1, dtype=torch.int32),
        keys.new_empty(groups),
        torch.empty_like(keys),
    )
