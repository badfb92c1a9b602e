# SPDX-License-Identifier: Apache-2.0
"""One pass of a convolution of one size on the GPU: the kernels that may run, and what is right."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pcperc import ops
from pcperc.benchmark.layers import CASES
from pcperc.benchmark.peak import torch_dtype
from pcperc.benchmark.selection import Sizes

# Columns of a tile by kernel (csrc/cuda/sparse_conv_selection.h), by kind.
FORWARD_TILES = {
    0: {0: 32, 1: 64, 2: 128, 3: 64},
    1: {10: 64},
    10: {100: 64, 101: 64, 102: 128, 103: 128, 104: 256, 105: 256, 106: 96, 107: 96},
}
SPLIT_TILES = (100, 102, 104, 106)  # 128 rows
WEIGHT_TILES = {0: 16, 1: 32, 2: 64, 3: 128, 4: 64, 100: 64, 101: 128, 102: 128, 103: 128, 104: 128, 105: 256}
_ROUND_OFF = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}

Candidate = tuple[int, int]  # kernel and blocks


def error_limit(dtype: torch.dtype, terms: int) -> float:
    """Return how far a right result may be from float64, relative: as tests/tolerances.py, for sums kept in float32."""
    return 8 * (_ROUND_OFF[dtype] + 2.0**-24 * math.sqrt(terms))


def forward_candidates(chosen: Candidate, sizes: Sizes, multiprocessors: int) -> list[Candidate]:
    """The kernels of the kind that ``chosen`` is of, and the blocks that may share their tiles where tiles are few."""
    found = [chosen]
    for kernel, columns in FORWARD_TILES[chosen[0] // 10].items():
        if columns > max(sizes.out_channels, 64) + 32 or 4 * columns < sizes.out_channels:
            continue
        tiles = math.ceil(sizes.rows / 128) * math.ceil(sizes.out_channels / columns)
        splits = (1, 2, 4, 8) if kernel in SPLIT_TILES and tiles < 2 * multiprocessors else (1,)
        found += [(kernel, blocks) for blocks in splits]
    return list(dict.fromkeys(found))


def weight_grad_candidates(chosen: Candidate, sizes: Sizes, *, has_warpgroups: bool) -> list[Candidate]:
    """The tiles of a size that may suit, each with as many blocks as it has room for."""
    wider = max(sizes.in_channels, sizes.out_channels)
    fits = [tile for tile, columns in WEIGHT_TILES.items() if columns / 2 <= wider <= 4 * columns]
    has_warpgroups = has_warpgroups and sizes.dtype != "tf32"
    return list(dict.fromkeys([chosen, *((tile, 0) for tile in fits if tile < 100 or has_warpgroups)]))


def best_of(times: dict[Candidate, float], chosen: Candidate) -> Candidate:
    """The fastest; ``chosen`` where it is within 1 % of that, so that noise does not change a table."""
    best = min(times, key=times.__getitem__)
    return chosen if times.get(chosen, math.inf) <= 1.01 * times[best] else best


@dataclass(frozen=True)
class OrderedMap:
    """A kernel map as the layers of pcperc take it, its rows ordered."""

    case: str
    num_inputs: int
    table: Tensor  # (K, M)

    @cached_property
    def ordered(self) -> tuple[Tensor, Tensor]:
        return torch.ops.pcperc.order_rows(self.table)

    @cached_property
    def tap_pairs(self) -> Tensor:
        return (self.table >= 0).sum(1)


class TunedSize:
    """One pass of one size on random features, made when first used: its kernels, and what is right."""

    def __init__(self, kernel_map: OrderedMap, pass_name: str, dtype: str, channels: tuple[int, int]):
        taps, rows = kernel_map.table.shape
        self.map, self.sizes = kernel_map, Sizes(pass_name, dtype, rows, *channels, taps)
        self.dtype = torch_dtype(dtype)

    @cached_property
    def chosen(self) -> Candidate:
        """What runs now."""
        return torch.ops.pcperc.chosen_conv_kernel(*self.sizes)

    @cached_property
    def feats(self) -> list[Tensor]:
        """Three that take turns, so that none is in the cache of the GPU because it was there before."""
        return [self._random(self.map.num_inputs, self.sizes.in_channels) for _ in range(3)]

    @cached_property
    def other(self) -> Tensor:
        """The weights, or the gradient of the output."""
        _, _, rows, cin, cout, taps = self.sizes
        return self._random(taps, cin, cout) if self.sizes.pass_name == "forward" else self._random(rows, cout)

    def _random(self, *shape: int) -> Tensor:
        values = torch.randn(*shape, device=self.map.table.device).to(self.dtype)
        # TF32 products then see what float64 does.
        return (values.view(torch.int32) & -(1 << 13)).view(torch.float32) if self.dtype == torch.float32 else values

    def candidates(self) -> list[Candidate]:
        properties = torch.cuda.get_device_properties(self.map.table.device)
        if self.sizes.pass_name == "forward":
            return forward_candidates(self.chosen, self.sizes, properties.multi_processor_count)
        return weight_grad_candidates(self.chosen, self.sizes, has_warpgroups=properties.major == 9)

    def run(self, candidate: Candidate, turn: int = 0) -> Tensor:
        (kernel, blocks), feats, (table, order) = candidate, self.feats[turn % 3], self.map.ordered
        if self.sizes.pass_name == "forward":
            arguments = (feats, self.other, table, None, None, 1, True, 1.0, order, 1000 * blocks + kernel)
            return torch.ops.pcperc.sparse_conv_tiled(*arguments)
        arguments = (feats, self.other, table, None, False, 1, True, order, kernel, blocks)
        return torch.ops.pcperc.sparse_conv_weight_grad_tiled(*arguments)[0]

    @cached_property
    def sampled_rows(self) -> Tensor:
        """Rows of the output: all of the first and the last tile, and some of those between."""
        order = self.map.ordered[1].long()
        return torch.cat([order[:256], order[-256:], order[torch.randint(len(order), (2000,), device=order.device)]])

    @cached_property
    def expected(self) -> Tensor:
        """In float64: some rows of the output, or the whole weight gradient."""
        feats, table = self.feats[0], self.map.table
        if self.sizes.pass_name == "weight_grad":
            taps = ((rows[rows >= 0].long(), rows >= 0) for rows in table)
            return torch.stack([feats[rows].double().T @ self.other[outs].double() for rows, outs in taps])
        found = feats.new_zeros((len(self.sampled_rows), self.sizes.out_channels), dtype=torch.float64)
        for entries, weight in zip(table[:, self.sampled_rows].long(), self.other, strict=True):
            found[entries >= 0] += feats[entries[entries >= 0]].double() @ weight.double()
        return found

    def error(self, candidate: Candidate) -> float:
        """The largest difference to float64, relative to the largest value: one wrong value shows among millions."""
        result = self.run(candidate)
        if self.sizes.pass_name == "forward":
            result = result[self.sampled_rows]
        return float((result.double() - self.expected).abs().max() / self.expected.abs().max())

    @property
    def limit(self) -> float:
        if self.sizes.pass_name == "forward":
            return error_limit(self.dtype, self.sizes.taps * self.sizes.in_channels)
        return error_limit(torch.float32, int(self.map.tap_pairs.max()))


def make_map(case: str, coords: Tensor) -> OrderedMap:
    layer = CASES[case]
    padding = layer.kernel_size // 2 if layer.kind == "submanifold" else layer.padding
    geometry = {"kernel_size": layer.kernel_size, "stride": layer.stride, "padding": padding, "dilation": 1}
    others = coords if layer.stride == 1 else ops.downsample_coords(coords, **geometry)
    table = ops.build_kernel_map(coords, others, **geometry)
    if layer.kind == "inverse":
        return OrderedMap(case, len(others), ops.reverse_kernel_map(table, num_inputs=len(coords)))
    return OrderedMap(case, len(coords), table)
