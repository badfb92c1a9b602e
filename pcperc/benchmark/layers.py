# SPDX-License-Identifier: Apache-2.0
"""The single layers that are measured, and one of them in one library as functions to time."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pcperc import ops
from pcperc.benchmark.libraries import Layer, Library
from pcperc.benchmark.reference import gradient_error, relative_error

# Each case is the layer that is measured; an inverse layer undoes the strided one of the same geometry.
CASES = {
    "subm_k3": Layer("submanifold", 3),
    "subm_k5": Layer("submanifold", 5),
    "down_k2s2": Layer("strided", 2, stride=2),
    "down_k3s2": Layer("strided", 3, stride=2, padding=1),
    "inverse_k2s2": Layer("inverse", 2, stride=2),
    "inverse_k3s2": Layer("inverse", 3, stride=2, padding=1),
    "depthwise_k3": Layer("submanifold", 3),
    "max_pool_k2s2": Layer("max_pool", 2, stride=2),
}
PASSES = ("forward", "forward_backward", "forward_with_map", "map")


@dataclass(frozen=True)
class Work:
    """One layer on one input, the same for every library."""

    layer: Layer
    coords: Tensor  # (N, 4)
    feats: Tensor  # (N or number of voxels that an inverse layer starts from, Cin)
    weight: Tensor | None

    @property
    def first(self) -> Layer | None:
        """The strided layer that an inverse one undoes."""
        return replace(self.layer, kind="strided") if self.layer.kind == "inverse" else None


class Prepared:
    """The work in one library: functions that can be timed."""

    def __init__(self, library: Library, work: Work):
        self.library, self.work = library, work
        self.maps: dict[str, Any] = {}
        device, dtype = work.feats.device, work.feats.dtype
        self.first = library.layer(work.first).to(device, dtype) if work.first else None
        self.module = library.layer(work.layer).to(device, dtype)
        if work.weight is not None:
            library.set_weight(self.module, work.weight)
        with torch.no_grad():
            self.input = self._fresh()
            with library.kept_maps(self.maps):
                self.output = self.module(self.input)
        self.grad = torch.randn_like(library.feats(self.output))

    def _fresh(self):
        """The input of the layer, without its kernel map."""
        coords, feats = self.work.coords, self.work.feats
        if self.first is None:
            return self.library.tensor(coords, feats)
        made = self.first(self.library.tensor(coords, feats.new_ones(len(coords), feats.shape[1])))
        return self.library.with_feats(made, feats)

    def _warm(self, feats: Tensor):
        """The input with its kernel map. That of a submanifold layer hangs on the output too, in every library."""
        submanifold = self.work.layer.kind == "submanifold"
        return self.library.with_feats(self.output if submanifold else self.input, feats)

    def forward(self) -> Any:
        with torch.no_grad(), self.library.kept_maps(self.maps):
            return self.module(self._warm(self.work.feats))

    def forward_with_map(self) -> Any:
        with torch.no_grad():
            return self.module(self._fresh())

    def forward_backward(self) -> Any:
        feats = self.work.feats.detach().requires_grad_()
        with self.library.kept_maps(self.maps):
            out = self.library.feats(self.module(self._warm(feats)))
        return torch.autograd.grad(out, [feats, *self.module.parameters()], self.grad)

    def map(self) -> Any:
        with torch.no_grad():
            return self.library.build_map(self.work.layer, self.work.coords)

    def error(self, name: str) -> float:
        """Of the forward pass or, for "forward_backward", of the gradients, against float64."""
        work, library = self.work, self.library
        places = {"in_coords": library.coords(self.input), "out_coords": library.coords(self.output)}
        in_feats = library.feats(self.input)
        if name != "forward_backward" or work.weight is None or work.layer.groups != 1:
            out_feats = library.feats(self.output)
            return relative_error(work.layer, work.weight, in_feats=in_feats, out_feats=out_feats, **places)
        grad_feats, grad_weight = self.forward_backward()
        grads = {"grad": self.grad, "grad_feats": grad_feats, "grad_weight": library.taps(grad_weight)}
        return gradient_error(work.layer, work.weight, in_feats=in_feats, **places, **grads)


def make_work(
    case: str, coords: Tensor, channels: int, out_channels: int, dtype: torch.dtype
) -> tuple[Work, dict[str, int]]:
    """Features and weights of order one, and how many voxels and pairs there are."""
    torch.manual_seed(0)
    layer = replace(CASES[case].with_channels(channels, out_channels), groups=channels if "depthwise" in case else 1)
    padding = layer.kernel_size // 2 if layer.kind == "submanifold" else layer.padding
    geometry = {"kernel_size": layer.kernel_size, "stride": layer.stride, "padding": padding, "dilation": 1}
    others = coords if layer.stride == 1 else ops.downsample_coords(coords, **geometry)
    pairs = int((ops.build_kernel_map(coords, others, **geometry) >= 0).sum())
    sizes = (len(others), len(coords)) if layer.kind == "inverse" else (len(coords), len(others))
    feats = torch.randn(sizes[0], channels, device=coords.device).to(dtype)
    weight = None
    if layer.kind != "max_pool":
        volume, fan_in, _ = layer.weight_shape
        weight = torch.randn(volume, fan_in, out_channels, device=coords.device).to(dtype) / (volume * fan_in) ** 0.5
    return Work(layer, coords, feats, weight), {"num_inputs": sizes[0], "num_outputs": sizes[1], "pairs": pairs}
