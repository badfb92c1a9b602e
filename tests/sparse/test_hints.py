# SPDX-License-Identifier: Apache-2.0
"""What is written for other libraries' tensors ends in an error that says what to write; all else stays Python's."""

import copy
import pickle
import re

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import pcperc.nn as spnn
from pcperc import PointTensor, SparseTensor
from pcperc.foreign_names import ATTRIBUTES, ATTRIBUTES_OF_ROWS
from tests.ops.clouds import coords_of

ADD_BATCH = "where the batch column is missing put it in front, for one cloud torch.nn.functional.pad(coords, (1, 0))"
COORDS = coords_of((0, 1, 2, 3), (0, 4, 5, 6))


def voxels():
    return SparseTensor(COORDS, torch.ones(2, 4), 1, spatial_shape=8)


def points():
    return PointTensor(COORDS.float(), torch.ones(2, 4), 1)


@pytest.mark.parametrize(("make", "table"), [(voxels, ATTRIBUTES), (points, ATTRIBUTES_OF_ROWS)])
def test_a_foreign_attribute_says_what_to_write(make, table):
    x = make()
    for name, answer in table.items():
        with pytest.raises(AttributeError) as caught:
            getattr(x, name)
        assert str(caught.value) == f"{type(x).__name__}.{name}: no such attribute; write {answer} (docs/migrate.md)"
        assert not hasattr(x, name) and getattr(x, name, None) is None and name not in dir(x)
        with pytest.raises(
            AttributeError, match=rf"{name}: cannot be set; features change by x = x\.replace\(feats=f\)"
        ):
            setattr(x, name, x.feats)  # it would be kept, and seen by no layer
        for written in re.findall(r"x\.(\w+)", answer):
            assert hasattr(x, written)


@pytest.mark.parametrize(
    ("name", "written"), [("features", "x.feats"), ("indices", "x.coords"), ("replace_feature", "x.replace(feats=f)")]
)
def test_names_of_spconv(name, written):
    with pytest.raises(AttributeError, match=re.escape(f"SparseTensor.{name}: no such attribute; write {written} ")):
        getattr(voxels(), name)


@pytest.mark.parametrize("make", [voxels, points])
def test_other_missing_attributes_have_pythons_error(make):
    x = make()
    with pytest.raises(AttributeError, match=f"^'{type(x).__name__}' object has no attribute 'nonsense'$"):
        _ = x.nonsense
    with pytest.raises(AttributeError, match="has no attribute '_feats'"):  # of one that is not made yet
        _ = type(x).__new__(type(x)).feats


def test_a_subclass_may_have_an_attribute_of_that_name():
    class Own(SparseTensor):
        @property
        def features(self):
            return self.feats

    x = Own(COORDS, torch.ones(2, 4))
    assert x.features is x.feats and "features" in dir(x)


class Broken(SparseTensor):
    @property
    def colour(self):
        return self.topology.nonsense


def test_a_property_that_fails_keeps_its_own_error():
    with pytest.raises(AttributeError, match="'Topology' object has no attribute 'nonsense'"):
        _ = Broken(COORDS, torch.ones(2, 4)).colour


@pytest.mark.parametrize("make", [voxels, points])
def test_copies_pickles_and_trees_are_as_before(make):
    x = make()
    for other in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x)), *pytree.tree_leaves([x])):
        assert type(other) is type(x) and torch.equal(other.coords, x.coords) and torch.equal(other.feats, x.feats)


LAYERS = [
    (nn.ReLU(), TypeError, "ReLU"),
    (nn.Linear(4, 4), TypeError, "Linear"),
    (nn.BatchNorm1d(4), AttributeError, "BatchNorm"),
    (nn.GroupNorm(2, 4), TypeError, "GroupNorm"),
    (nn.InstanceNorm3d(4), AttributeError, "InstanceNorm"),
    (nn.Conv2d(4, 4, 3), TypeError, "SubMConv2d, or pcperc.nn.SparseConv2d where the voxels change"),
    (nn.MaxPool3d(2), TypeError, "SparseMaxPool3d"),
]


@pytest.mark.parametrize("make", [voxels, points])
@pytest.mark.parametrize(("layer", "error", "answer"), LAYERS, ids=[type(layer).__name__ for layer, *_ in LAYERS])
def test_a_layer_of_torch_is_named_with_its_place_and_ours(make, layer, error, answer):
    x = make()
    for model, place in [
        (nn.Sequential(spnn.Linear(4, 4), layer), " (layer 1 of Sequential)"),
        (nn.Sequential(nn.Sequential(), nn.Sequential(layer)), " (layer 0 of Sequential)"),
        (layer, ""),
    ]:
        with pytest.raises(error) as caught:
            model(x)
        said = f"torch.nn.{type(layer).__name__}{place}: input must be a tensor, got a {type(x).__name__}; use "
        assert str(caught.value) == f"{said}pcperc.nn.{answer}"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.Hardtanh()

    def forward(self, x):
        return self.act(x)


def test_a_layer_of_torch_that_we_have_not_can_be_made():
    recipe = r"class Hardtanh\(pcperc.nn.OnFeats, torch.nn.Hardtanh\): pass$"
    with pytest.raises(TypeError, match=rf"^torch.nn.Hardtanh \(layer act of Net\): .*{recipe}"):
        Net()(voxels())


class Own(nn.Module):
    def forward(this, x):  # noqa: N805
        return torch.relu(x)


@pytest.mark.parametrize("call", [torch.relu, nn.functional.relu, nn.Sequential(Own())])
def test_a_function_of_torch_is_named(call):
    with pytest.raises(
        TypeError, match=r"^relu: input must be a tensor, got a SparseTensor; give it x\.feats, and put"
    ):
        call(voxels())


def test_a_tensor_on_the_left_still_acts_on_channels():
    scale = torch.arange(4.0)
    assert torch.equal((scale * voxels()).feats, scale.expand(2, 4))


def test_a_layer_of_torch_is_refused_in_a_compiled_network_too():
    torch._dynamo.reset()
    program = torch.compile(nn.Sequential(spnn.SubMConv3d(4, 4, 3), nn.ReLU()), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="relu: input must be a tensor, got a SparseTensor"):
        program(voxels())


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_arguments_in_the_order_of_other_libraries(dtype):
    with pytest.raises(
        ValueError, match=r"^SparseTensor: coords must be the first argument .* \(2, 4\) float32 .*swapped"
    ):
        SparseTensor(torch.ones(2, 4), COORDS.to(dtype), 1)
    with pytest.raises(ValueError, match="^SparseTensor: coords must be .* int32"):  # both floats: that cannot be told
        SparseTensor(COORDS.float(), torch.ones(2, 4))


@pytest.mark.parametrize("lattice", [{"spatial_shape": (8, 9, 10)}, {"tensor_stride": [2, 2, 2]}], ids=str)
def test_coords_without_batch_column_are_told_by_a_lattice_of_more_axes(lattice):
    ((name, value),) = lattice.items()
    wanted = f"SparseTensor: {name} must be one number or 2, one for each axis behind the batch column of coords"
    with pytest.raises(
        ValueError, match=re.escape(f"{wanted}, got {value}; 3 axes need coords (M, 4) [batch, x, y, z]; {ADD_BATCH}")
    ):
        SparseTensor(COORDS[:, 1:].contiguous(), torch.ones(2, 4), **lattice)


def test_coords_without_batch_column_are_told_by_a_layer_of_more_axes():
    x = SparseTensor(COORDS[:, 1:].contiguous(), torch.ones(2, 4))
    wanted = r"^SubMConv3d: input must have 3 spatial axes, got 2; are coords \(M, 4\), the batch index before x\? "
    with pytest.raises(ValueError, match=wanted):
        spnn.SubMConv3d(4, 4, 3)(x)
    with pytest.raises(ValueError, match=r"^SubMConv4d: input must have 4 spatial axes, got 2$"):
        spnn.SubMConv4d(4, 4, 3)(x)


def test_x_y_z_alone_say_how_they_get_a_batch_column():
    xyz = COORDS[:, 1:].contiguous()
    for made in (lambda: SparseTensor(xyz, torch.ones(2, 4), 1), lambda: SparseTensor(-xyz, torch.ones(2, 4))):
        with pytest.raises(
            ValueError, match=r"^SparseTensor: coords row 0 = .* is outside batch_size .*; coords are "
        ) as e:
            made()
        assert str(e.value).endswith(f"; coords are [batch, x, y]; {ADD_BATCH}")
    with pytest.raises(ValueError, match=re.escape(f"the first column of coords, which is [batch, x, y]; {ADD_BATCH}")):
        SparseTensor(xyz + 2000, torch.ones(2, 4))
    with pytest.raises(
        ValueError, match=re.escape(f"got row 0 = [1.5, 2.5, 3.5]; coords are [batch, x, y]; {ADD_BATCH}")
    ):
        PointTensor(xyz + 0.5, torch.ones(2, 4))
    x = SparseTensor(nn.functional.pad(xyz, (1, 0)), torch.ones(2, 4), 1)
    assert torch.equal(x.coords, COORDS)


def test_a_batch_column_that_is_the_last_one_is_told():
    last = torch.roll(COORDS, -1, 1)
    with pytest.raises(
        ValueError, match=r"\[batch, x, y, z\]; .*; where it is the last one, torch\.roll\(coords, 1, 1\)$"
    ):
        SparseTensor(last, torch.ones(2, 4), 1)
    assert torch.equal(torch.roll(last, 1, 1), COORDS)


def test_of_a_row_in_the_batch_nothing_is_said_of_columns():
    with pytest.raises(ValueError, match=r"^SparseTensor: coords row 1 = .* spatial_shape \(4, 4, 4\)$"):
        SparseTensor(COORDS, torch.ones(2, 4), 1, spatial_shape=4)
    with pytest.raises(ValueError, match=r"got row 1 = \[0.0, nan, 5.0, 6.0\]$"):
        PointTensor(torch.where(COORDS == 4, torch.nan, COORDS.float()), torch.ones(2, 4), 1)
