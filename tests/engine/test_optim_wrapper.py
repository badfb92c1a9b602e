# SPDX-License-Identifier: Apache-2.0
"""The optimizer step: clipping, half precision on a CPU, and the stop where the loss is no number."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pcperc.engine.optim_wrapper import CheckedOptimWrapper, TrainingDiverged
from pcperc.engine.training import TrainOptions, train
from tests.engine.helpers import TOY

OPTIONS = TrainOptions(config=Path(TOY), device="cpu")


def make(model: nn.Module, **arguments) -> CheckedOptimWrapper:
    return CheckedOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=1.0), **arguments)


def test_gradients_are_clipped():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    make(model, clip_grad={"max_norm": 35}).update_params(100 * model.weight.sum())
    assert model.weight.item() == pytest.approx(-35)


@pytest.mark.parametrize(("dtype", "expected"), [(None, torch.bfloat16), ("float16", torch.float16)])
def test_half_precision_on_a_cpu(dtype, expected):
    model = nn.Linear(3, 2)
    wrapper = make(model, amp=True, amp_dtype=dtype)
    before = model.weight.clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(4, 3))
        assert output.dtype == expected
    wrapper.update_params(output.float().sum() / 8)
    assert wrapper.loss_scaler.is_enabled() == (dtype == "float16")
    # The gradient of each weight is 4 / 8, whatever the loss was scaled by.
    torch.testing.assert_close(model.weight, before - 0.5, rtol=1e-5, atol=1e-5)
    with make(model).optim_context(model):
        assert model(torch.ones(4, 3)).dtype == torch.float32


def test_scaler_skips_a_step_that_overflows_and_its_state_is_kept():
    model = nn.Linear(1, 1, bias=False)
    wrapper = make(model, amp=True, amp_dtype="float16", clip_grad={"max_norm": 1})
    before, scale = model.weight.clone(), wrapper.loss_scaler.get_scale()
    wrapper.update_params(model.weight.sum() * 3e38)
    assert torch.equal(model.weight, before) and wrapper.loss_scaler.get_scale() == scale / 2
    again = make(model, amp=True, amp_dtype="float16")
    again.load_state_dict(wrapper.state_dict())
    assert again.loss_scaler.get_scale() == scale / 2


def test_unknown_precision():
    with pytest.raises(ValueError, match="amp_dtype must be one of float16, bfloat16, got 'half'"):
        make(nn.Linear(1, 1), amp=True, amp_dtype="half")


def test_a_gradient_that_is_no_number_changes_nothing():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    with pytest.raises(TrainingDiverged, match="the gradient's norm is nan at iteration"):
        make(model, clip_grad={"max_norm": 1}).update_params(model.weight.sum().sqrt() * 0)
    assert model.weight.item() == 0


def test_nan_loss_names_the_iteration(tmp_path):
    """Sample 7 is NaN; the checkpoint before it stays good."""
    options = replace(OPTIONS, work_dir=tmp_path, overrides={"train_dataloader.dataset.nan_at": 7})
    with pytest.raises(TrainingDiverged, match=r"^the loss is nan at iteration \d+ \(epoch 1\); lower optim_wrapper"):
        train(options)
