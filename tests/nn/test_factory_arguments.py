# SPDX-License-Identifier: Apache-2.0
"""``device=`` and ``dtype=`` of every layer with parameters."""

import inspect

import pytest
import torch

import pcperc.nn as spnn

FAMILIES = ("SubMConv", "SparseConv", "SparseConvTranspose", "SparseGenerativeConvTranspose", "SparseInverseConv")
LAYERS = {f"{family}{dims}d": (4, 4, 3) for family in FAMILIES for dims in (1, 2, 3, 4)} | {
    "BatchNorm": (4,),
    "FeaturePropagation": (4, 6),
    "GlobalAbstraction": (4, 6),
    "GroupNorm": (2, 4),
    "InstanceNorm": (4,),
    "LayerNorm": (4,),
    "Linear": (4, 4),
    "PReLU": (4,),
    "PVConv": (4, 6),
    "ResidualBlock": (4, 6),
    "RowBatchNorm": (4,),
    "SetAbstraction": (4, 6),
    "SharedMLP": (4, 6),
    "SqueezeExcite": (4,),
    "SqueezeExcite3d": (4,),
    "SyncBatchNorm": (4,),
}
OPTIONS = {
    "InstanceNorm": {"affine": True},
    "PVConv": {"resolution": 2},
    "SetAbstraction": {"num_centers": 2, "radius": 1, "num_neighbors": 2},
}


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_are_made_where_and_as_asked(name):
    options = OPTIONS.get(name, {})
    for factory in ({"device": "meta"}, {"dtype": torch.bfloat16}, {"device": "meta", "dtype": torch.float64}):
        layer = getattr(spnn, name)(*LAYERS[name], **options, **factory)
        parameters = list(layer.parameters())
        assert parameters
        assert {p.device.type for p in parameters} == {factory.get("device", "cpu")}
        assert {p.dtype for p in parameters} == {factory.get("dtype", torch.float32)}


def test_the_other_layers_have_nothing_to_place():
    """Every layer that takes the arguments is above, and the others have no parameters of their own."""
    layers = {name for name in spnn.__all__ if isinstance(getattr(spnn, name), type)} - {"ConvBlock", "OnFeats"}
    takes = {name for name in layers if "device" in inspect.signature(getattr(spnn, name)).parameters}
    assert takes == set(LAYERS)
    for name in layers - takes:
        signature = inspect.signature(getattr(spnn, name)).parameters.values()
        required = [p for p in signature if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        arguments = ["max" if p.name == "mode" else 2 for p in required]
        assert not list(getattr(spnn, name)(*arguments).parameters()), name
