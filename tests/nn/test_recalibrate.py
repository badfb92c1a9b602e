# SPDX-License-Identifier: Apache-2.0
"""Statistics of batch norm measured anew."""

import pytest
import torch
from torch import nn

from pcperc.nn import recalibrate_batch_norm


def test_statistics_are_the_plain_mean_over_batches_without_dropout():
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.BatchNorm1d(3, momentum=0.3))
    model(torch.randn(50, 3) * 9)  # what was measured before is forgotten
    model[2].eval()
    batches = [torch.randn(20, 3) * 2 + 1 for _ in range(4)]
    recalibrate_batch_norm(model, iter(batches))
    torch.testing.assert_close(model[1].running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.stack([b.var(0) for b in batches]).mean(0))
    torch.testing.assert_close(model[3].running_mean, torch.zeros(3), atol=1e-6, rtol=0)
    assert [m.training for m in model] == [True, True, False, True] and model.training
    assert model[3].momentum == 0.3 and model[1].num_batches_tracked == 4


def test_a_batch_that_fails_leaves_the_modes_as_they_were():
    model = nn.Sequential(nn.BatchNorm1d(3)).eval()
    with pytest.raises(ValueError):
        recalibrate_batch_norm(model, [torch.zeros(2, 3), torch.zeros(2)])
    assert not model[0].training and model[0].momentum == 0.1


def test_nothing_to_measure_is_an_error():
    model = nn.Sequential(nn.BatchNorm1d(3))
    model[0].running_mean.fill_(5)
    with pytest.raises(ValueError, match="recalibrate_batch_norm: batches must be at least one, got none"):
        recalibrate_batch_norm(model, [])
    assert (model[0].running_mean == 5).all()
    for module in (nn.Linear(2, 2), nn.BatchNorm1d(3, track_running_stats=False)):
        with pytest.raises(ValueError, match="model must have a batch norm with running statistics, got none"):
            recalibrate_batch_norm(module, [torch.zeros(2, 3)])
