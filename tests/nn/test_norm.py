# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

import pcperc.nn as spnn
from pcperc import SparseTensor
from tests.ops.clouds import random_coords


def test_batch_norm_is_torchs_over_the_rows():
    coords = random_coords(50)
    feats = torch.randn(len(coords), 4)
    ours, theirs = spnn.BatchNorm(4, eps=1e-3, momentum=0.01), torch.nn.BatchNorm1d(4, eps=1e-3, momentum=0.01)
    for training in (True, True, False):
        ours.train(training), theirs.train(training)
        torch.testing.assert_close(ours(SparseTensor(coords, feats)).feats, theirs(feats))
    torch.testing.assert_close(dict(ours.named_buffers()), dict(theirs.named_buffers()))


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("tracked", [True, False])
def test_too_few_voxels_for_a_variance_use_and_keep_the_running_statistics(rows, tracked):
    layer = spnn.BatchNorm(3, track_running_stats=tracked)
    if tracked:
        layer.running_mean.fill_(2.0)
    x = SparseTensor(random_coords(50)[:rows], torch.full((rows, 3), 5.0))
    expected = (5.0 - (2.0 if tracked else 0.0)) / (1 + layer.eps) ** 0.5
    torch.testing.assert_close(layer(x).feats, torch.full((rows, 3), expected))
    if tracked:
        assert torch.equal(layer.running_mean, torch.full((3,), 2.0))
        assert int(layer.num_batches_tracked) == 0


def test_a_later_batch_does_not_reach_the_gradient_of_a_single_voxel():
    layer = spnn.BatchNorm(2, momentum=1.0, affine=False)
    coords = random_coords(50)
    feats = torch.ones(1, 2, requires_grad=True)
    y = layer(SparseTensor(coords[:1], feats))
    layer(SparseTensor(coords, 100 * torch.randn(len(coords), 2)))
    y.feats.sum().backward()
    torch.testing.assert_close(feats.grad, torch.full((1, 2), (1 + layer.eps) ** -0.5))


def test_batch_norm_names_its_mistakes():
    with pytest.raises(ValueError, match="BatchNorm: input must have 4 channels, got 3"):
        spnn.BatchNorm(4)(SparseTensor(random_coords(5), torch.ones(len(random_coords(5)), 3)))
    with pytest.raises(TypeError, match="BatchNorm: input must be a SparseTensor"):
        spnn.BatchNorm(4)(torch.ones(2, 4))
