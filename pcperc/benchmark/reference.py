# SPDX-License-Identifier: Apache-2.0
"""What a layer should give at some of its voxels and taps: straight from the definition, in float64, by NumPy alone."""

import itertools
from dataclasses import replace

import numpy as np
from torch import Tensor

from pcperc.benchmark.libraries import Layer


def relative_error(
    layer: Layer,
    weight: Tensor | None,
    *,
    in_coords: Tensor,
    in_feats: Tensor,
    out_coords: Tensor,
    out_feats: Tensor,
    rows: int = 512,
) -> float:
    """Largest error at ``rows`` output voxels spread over all, relative to the largest value among them.

    Args:
        weight: (K, Cin / groups, Cout), or None for pooling.
        in_coords, out_coords: (N, 4), (M, 4) ``[batch, x, y, z]``, any order.
        in_feats, out_feats: (N, Cin), (M, Cout), as the library took and gave them.
    """
    chosen = np.unique(np.linspace(0, len(out_coords) - 1, rows).astype(np.int64))
    targets = out_coords.cpu().numpy().astype(np.int64)[chosen]
    feats = in_feats.detach().cpu().double().numpy()
    table = _neighbors(layer, in_coords.cpu().numpy().astype(np.int64), targets)
    gathered = np.where(table[..., None] >= 0, feats[table], np.nan)  # (K, rows, Cin)
    if weight is None:
        wanted = np.nanmax(gathered, 0)
    else:
        kernel = weight.detach().cpu().double().numpy()
        groups = gathered.shape[2] // kernel.shape[1]
        split = np.nan_to_num(gathered).reshape(*gathered.shape[:2], groups, -1)
        kernel = kernel.reshape(*kernel.shape[:2], groups, -1)
        wanted = np.einsum("krgi,kigo->rgo", split, kernel).reshape(len(chosen), -1)
    got = out_feats.detach()[chosen].cpu().double().numpy()
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def gradient_error(
    layer: Layer,
    weight: Tensor,
    *,
    in_coords: Tensor,
    in_feats: Tensor,
    out_coords: Tensor,
    grad: Tensor,
    grad_feats: Tensor,
    grad_weight: Tensor,
) -> float:
    """Larger of the errors of both gradients of a layer of one group, each relative to its largest value.

    The gradient of the features is checked at 512 input voxels, that of the weight at its first and middle tap.

    Args:
        weight, in_coords, in_feats, out_coords: as in :func:`relative_error`.
        grad: (M, Cout), the gradient of the output.
        grad_feats, grad_weight: (N, Cin), (K, Cin, Cout), as the library gave them.
    """
    padding = layer.kernel_size // 2 if layer.kind == "submanifold" else layer.padding
    back = replace(layer, kind="strided" if layer.kind == "inverse" else "inverse", padding=padding)
    to_feats = relative_error(
        back,
        weight.transpose(1, 2),
        in_coords=out_coords,
        in_feats=grad,
        out_coords=in_coords,
        out_feats=grad_feats,
    )
    taps = [0, layer.kernel_size**3 // 2]
    sources, targets = (coords.cpu().numpy().astype(np.int64) for coords in (in_coords, out_coords))
    feats, above = (tensor.detach().cpu().double().numpy() for tensor in (in_feats, grad))
    wanted = [feats[rows[rows >= 0]].T @ above[rows >= 0] for rows in _neighbors(layer, sources, targets, taps)]
    got = grad_weight.detach()[taps].cpu().double().numpy()
    return max(to_feats, float(np.abs(got - wanted).max() / np.abs(wanted).max()))


def _neighbors(layer: Layer, sources: np.ndarray, targets: np.ndarray, taps: list[int] | None = None) -> np.ndarray:
    """(K, targets) row of ``sources`` under each tap, or each of ``taps``, of each target, or -1."""
    keys = _keys(sources)
    order = np.argsort(keys)
    steps = list(itertools.product(range(layer.kernel_size), repeat=3))
    steps = steps if taps is None else [steps[tap] for tap in taps]
    table = np.full((len(steps), len(targets)), -1)
    padding = layer.kernel_size // 2 if layer.kind == "submanifold" else layer.padding
    for k, tap in enumerate(steps):
        wanted = targets.copy()
        if layer.kind == "inverse":  # fine = stride * coarse + tap - padding, solved for coarse
            wanted[:, 1:] += padding - np.array(tap)
            exists = (wanted[:, 1:] % layer.stride == 0).all(1)
            wanted[:, 1:] //= layer.stride
        else:
            wanted[:, 1:] = layer.stride * wanted[:, 1:] + np.array(tap) - padding
            exists = np.ones(len(wanted), bool)
        place = np.searchsorted(keys[order], _keys(wanted)).clip(max=len(keys) - 1)
        found = order[place]
        table[k] = np.where(exists & (keys[found] == _keys(wanted)), found, -1)
    return table


def _keys(coords: np.ndarray) -> np.ndarray:
    batch, x, y, z = coords.T
    return ((batch * 2**18 + x + 2**17) * 2**18 + y + 2**17) * 2**18 + z + 2**17
