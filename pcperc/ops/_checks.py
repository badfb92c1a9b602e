# SPDX-License-Identifier: Apache-2.0
"""Argument checks with one message form: "op: argument must be X, got Y"."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NUMPY = (np.generic, np.ndarray)  # not their union, which torch.compile cannot form
REDUCTIONS = ("max", "mean", "sum")


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which sums of a floating point type run."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def describe(value: object) -> str:
    """Say what was given: shape, dtype and device of a tensor, else the type's name."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"
    return type(value).__name__


def check_choice(op: str, name: str, value: object, choices: Sequence[str]) -> None:
    """Require one of a few words."""
    if value not in choices:
        raise ValueError(f"{op}: {name} must be one of {', '.join(choices)}, got {value!r}")


def check_tensor(op: str, name: str, value: object) -> None:
    """Require a tensor; a NumPy array is none."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {describe(value)}")


def check_float_matrix(
    op: str, name: str, tensor: Tensor, *, columns: str, least: int = 1, exact: bool = False
) -> None:
    """Require a floating point (N, columns) tensor with at least (or exactly) ``least`` columns."""
    check_tensor(op, name, tensor)
    if tensor.dim() != 2 or (tensor.shape[1] != least if exact else tensor.shape[1] < least):
        raise ValueError(f"{op}: {name} must be {columns}, got {describe(tensor)}")
    if tensor.dtype not in FLOAT_DTYPES:
        raise TypeError(f"{op}: {name} must have a floating point dtype, got {describe(tensor)}")


def check_fake_devices(op: str, *tensors: Tensor | None) -> None:
    """For fake kernels: torch calls one where a single argument is on meta, and takes what it makes for the result."""
    devices = {tensor.device for tensor in tensors if tensor is not None}
    if len(devices) > 1:
        raise RuntimeError(f"{op}: all tensors must be on one device, got {', '.join(sorted(map(str, devices)))}")


def check_same_device(op: str, **tensors: Tensor | None) -> None:
    """Require all tensors that are given to be on the device of the first."""
    first_name, device = "", None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if device is None:
            first_name, device = name, tensor.device
        elif tensor.device != device:
            raise ValueError(f"{op}: {name} must be on {device} like {first_name}, got {tensor.device}")


def floats(op: str, name: str, values: Sequence[float], count: int) -> list[float]:
    """Return ``count`` finite numbers as floats."""
    try:
        numbers = [float(v) for v in values]
    except (TypeError, ValueError):
        raise TypeError(f"{op}: {name} must be {count} numbers, got {values!r}") from None
    if len(numbers) != count or not all(-math.inf < v < math.inf for v in numbers):  # torch.compile traces no isfinite
        raise ValueError(f"{op}: {name} must be {count} finite numbers, got {values!r}")
    return numbers


def plain(value: object) -> object:
    """Return Python's own numbers for those of NumPy, as voxel grids are often computed with."""
    return value.tolist() if isinstance(value, _NUMPY) else value


def positive_int(op: str, name: str, value: int) -> int:
    """Return a whole number > 0; one of NumPy becomes an int."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
        raise TypeError(f"{op}: {name} must be a whole number > 0, got {value!r}")
    if value <= 0:
        raise ValueError(f"{op}: {name} must be a whole number > 0, got {value}")
    return value


def check_coords(op: str, name: str, coords: Tensor) -> None:
    """Require (N, 1 + D) int32 with D from 1 to 4; the values are checked by the kernels."""
    check_tensor(op, name, coords)
    if coords.ndim != 2 or not 2 <= coords.shape[1] <= 5 or coords.dtype != torch.int32:
        raise ValueError(
            f"{op}: {name} must be (N, 1 + D) int32 [batch, x, ...] with D from 1 to 4, got {describe(coords)}"
        )


def in_key_range(rows: Tensor) -> Tensor:
    """(N,) whether (N, 1 + D) numbers ``[batch, x, ...]`` can be coordinates (csrc/common/coord_key.h); not for NaN."""
    limit, max_batch = (2**17, 1022) if rows.shape[1] <= 4 else (2**13, 254)
    lattice = rows[:, 1:]
    in_range = (lattice >= -limit).all(1) & (lattice < limit).all(1)
    return in_range & (rows[:, 0] >= 0) & (rows[:, 0] <= max_batch)


def check_table(op: str, name: str, table: Tensor) -> None:
    """Require a (K, M) int32 neighbour table."""
    check_tensor(op, name, table)
    if table.ndim != 2 or table.dtype != torch.int32:
        raise ValueError(f"{op}: {name} must be (K, M) int32, got {describe(table)}")


def to_tuple(op: str, name: str, value: int | Sequence[int], dims: int, *, low: int) -> tuple[int, ...]:
    """Return one number for each of ``dims`` axes, whole and >= low; a single number stands for all of them."""
    if type(value) is tuple and len(value) == dims:  # what layers give: a few hundred times a network
        for number in value:
            if type(number) is not int or number < low:
                break
        else:
            return value
    value = plain(value)
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    values = tuple(plain(v) for v in value) if is_list else (value,) * dims
    if any(isinstance(v, bool) or not isinstance(v, int) for v in values):
        raise TypeError(f"{op}: {name} must be a whole number or {dims} of them, got {value!r}")
    if len(values) != dims or min(values) < low:
        raise ValueError(f"{op}: {name} must be a whole number >= {low} or {dims} of them, got {value!r}")
    return values


def conv_parameters(
    op: str,
    dims: int,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
) -> tuple[tuple[int, ...], ...]:
    """Return kernel size, stride, padding and dilation with one number for each axis."""
    return (
        to_tuple(op, "kernel_size", kernel_size, dims, low=1),
        to_tuple(op, "stride", stride, dims, low=1),
        to_tuple(op, "padding", padding, dims, low=0),
        to_tuple(op, "dilation", dilation, dims, low=1),
    )
