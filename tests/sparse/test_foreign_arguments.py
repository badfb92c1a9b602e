# SPDX-License-Identifier: Apache-2.0
"""Tensors called as those of spconv, torchsparse and MinkowskiEngine: one error that says what to write."""

import inspect
import re

import pytest
import torch

from pcperc import PointTensor, SparseTensor
from pcperc.foreign_names import ARGUMENTS
from tests.ops.clouds import coords_of

COORDS, FEATS = coords_of((0, 1, 2, 3), (0, 4, 5, 6)), torch.ones(2, 4)
F, C = "(2, 4) float32 on cpu", "(2, 4) int32 on cpu"
NEW = "SparseTensor(coords, feats, batch_size, spatial_shape=..., tensor_stride=...)"
DENSE = "x.dense(), of size x.size() and channels first; channels last is x.dense().movedim(1, -1)"
REPLACE = "x.replace(feats=f); other voxels are a new SparseTensor"


def voxels():
    return SparseTensor(COORDS, FEATS, 1, spatial_shape=8)


def points():
    return PointTensor(COORDS.float(), FEATS, 1)


CALLS = {
    "spconv": (
        lambda: SparseTensor(FEATS, COORDS, [8, 8, 8], 1),
        f"SparseTensor: too many positional arguments; given ({F}, {C}, [8, 8, 8], 1), write {NEW}",
    ),
    "spconv-names": (
        lambda: SparseTensor(features=FEATS, indices=COORDS, spatial_shape=[8, 8, 8], batch_size=1),
        "SparseTensor: got an unexpected keyword argument 'features'; given "
        f"(features={F}, indices={C}, spatial_shape=[8, 8, 8], batch_size=1), write {NEW}; "
        "features is feats, indices is coords",
    ),
    "spconv-grid": (
        lambda: SparseTensor(COORDS, FEATS, 1, grid=None, benchmark=False),
        "SparseTensor: got an unexpected keyword argument 'grid'; given "
        f"({C}, {F}, 1, grid=None, benchmark=False), write {NEW}; leave out grid, benchmark",
    ),
    "torchsparse": (
        lambda: SparseTensor(FEATS, COORDS, (1, 1, 1), None),
        f"SparseTensor: too many positional arguments; given ({F}, {C}, (1, 1, 1), None), write {NEW}",
    ),
    "torchsparse-names": (
        lambda: SparseTensor(coords=COORDS, feats=FEATS, stride=2, spatial_range=(1, 8, 8, 8)),
        "SparseTensor: got an unexpected keyword argument 'stride'; given "
        f"(coords={C}, feats={F}, stride=2, spatial_range=(1, 8, 8, 8)), write {NEW}; "
        "stride is tensor_stride, spatial_range is (batch_size, *spatial_shape)",
    ),
    "minkowski": (
        lambda: SparseTensor(FEATS, coordinates=COORDS),
        "SparseTensor: got an unexpected keyword argument 'coordinates'; given "
        f"({F}, coordinates={C}), write {NEW}; coordinates is coords",
    ),
    "nothing": (lambda: SparseTensor(), f"SparseTensor: missing a required argument: 'coords'; given (), write {NEW}"),
    "misspelt": (
        lambda: SparseTensor(COORDS, FEATS, batchsize=1),
        f"SparseTensor: got an unexpected keyword argument 'batchsize'; given ({C}, {F}, batchsize=1), write {NEW}",
    ),
    "dense-name": (
        lambda: voxels().dense(channels_first=False),
        "SparseTensor.dense: got an unexpected keyword argument 'channels_first'; given (channels_first=False), "
        f"write {DENSE}",
    ),
    "dense": (
        lambda: voxels().dense(False),
        f"SparseTensor.dense: too many positional arguments; given (False), write {DENSE}",
    ),
    "replace": (lambda: voxels().replace(FEATS), f"SparseTensor.replace: given ({F}), write {REPLACE}"),
    "replace-name": (
        lambda: voxels().replace(features=FEATS),
        f"SparseTensor.replace: given (features={F}), write {REPLACE}; features is feats",
    ),
    "replace-voxels": (
        lambda: voxels().replace(feats=FEATS, coords=COORDS),
        f"SparseTensor.replace: given (coords={C}), write {REPLACE}",
    ),
    "points": (
        lambda: PointTensor(F=FEATS, C=COORDS.float()),
        f"PointTensor: got an unexpected keyword argument 'F'; given (F={F}, C={F}), "
        "write PointTensor(coords, feats, batch_size); F is feats, C is coords",
    ),
    "points-replace": (
        lambda: points().replace(FEATS),
        f"PointTensor.replace: given ({F}), write x.replace(feats=f); other points are a new PointTensor",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_was_given_is_told_beside_what_to_write(name):
    call, message = CALLS[name]
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == f"{message} (docs/migrate.md)"


@pytest.mark.parametrize("x", [voxels(), points()], ids=["voxels", "points"])
def test_features_must_be_given(x):
    with pytest.raises(TypeError, match=f"^{type(x).__name__}: feats must be a tensor, got NoneType$"):
        x.replace()


def test_what_is_written_is_right():
    x = SparseTensor(COORDS, FEATS, 1, spatial_shape=8, tensor_stride=2)
    assert x.dense().movedim(1, -1).shape == (1, 8, 8, 8, 4) and x.dense().shape == x.size()
    assert torch.equal(x.replace(feats=2 * FEATS).feats, 2 * FEATS)


def test_errors_that_are_not_of_the_call_stay_as_they_are():
    with pytest.raises(TypeError, match="^SparseTensor: kernel_maps must be a KernelMapCache or None, got dict$"):
        SparseTensor(COORDS, FEATS, 1, kernel_maps={})
    with pytest.raises(TypeError, match="^SparseTensor: coords must be a tensor, got list$"):
        SparseTensor([[0, 1, 2, 3]], FEATS)


def test_signatures_are_those_of_the_docs():
    shown = str(inspect.signature(SparseTensor))
    assert re.sub(r": [^=,*]+?(?=,| =|\))", "", shown).startswith("(coords, feats, batch_size = None, *, spatial_shape")
    assert list(inspect.signature(voxels().dense).parameters) == []


def test_no_argument_of_ours_is_called_foreign():
    for ours in (SparseTensor, PointTensor):
        assert not set(inspect.signature(ours).parameters) & set(ARGUMENTS)


def test_a_tensor_is_made_in_a_compiled_function():
    def made(coords, feats):
        return SparseTensor(coords, feats, 1, spatial_shape=8).replace(feats=feats + 1).dense()

    torch._dynamo.reset()
    program = torch.compile(made, backend="eager", fullgraph=True)
    assert torch.equal(program(COORDS, FEATS), made(COORDS, FEATS))
