# SPDX-License-Identifier: Apache-2.0
"""A cloud's rows in buffers that have room for more."""

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import check_coords, check_float_matrix, check_same_device, describe


def pad_rows(coords: Tensor, feats: Tensor, *, to_coords: Tensor, to_feats: Tensor) -> None:
    """Copy rows into the first ones of two buffers and make those behind them padding, in one launch.

    Args:
        coords: (M, 1 + D) int32.
        feats: (M, C) floating point.
        to_coords: (N, 1 + D) int32, contiguous, N >= M: its rows behind the first M become -1.
        to_feats: (N, C) in the dtype of feats, contiguous: its rows behind the first M stay what they are.
    Raises:
        TypeError: not tensors, or feats not floating point.
        ValueError: wrong shape, dtype or device.
    Not differentiable.
    """
    op = "pad_rows"
    for name, tensor in {"coords": coords, "to_coords": to_coords}.items():
        check_coords(op, name, tensor)
    for name, tensor in {"feats": feats, "to_feats": to_feats}.items():
        check_float_matrix(op, name, tensor, columns="(M, C)", least=0)
    rows, room = coords.shape[0], to_coords.shape[0]
    if feats.shape[0] != rows:
        raise ValueError(f"{op}: feats must have {rows} rows like coords, got {describe(feats)}")
    if room < rows or to_coords.shape[1] != coords.shape[1] or not to_coords.is_contiguous():
        form = f"contiguous ({rows} or more, {coords.shape[1]})"
        raise ValueError(f"{op}: to_coords must be {form}, got {describe(to_coords)}")
    form = room, feats.shape[1]
    if to_feats.shape != form or to_feats.dtype != feats.dtype or not to_feats.is_contiguous():
        wanted = f"contiguous {form} in the dtype of feats, {describe(feats)}"
        raise ValueError(f"{op}: to_feats must be {wanted}, got {describe(to_feats)}")
    check_same_device(op, coords=coords, feats=feats, to_coords=to_coords, to_feats=to_feats)
    torch.ops.pcperc.pad_rows(coords, feats, to_coords, to_feats)


@torch.library.register_fake("pcperc::pad_rows")
def _(coords: Tensor, feats: Tensor, to_coords: Tensor, to_feats: Tensor) -> None:
    return None
