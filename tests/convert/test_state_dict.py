# SPDX-License-Identifier: Apache-2.0
"""Whole networks: every key is accounted for, and what does not fit is named."""

import pytest
import torch
from torch import nn

import pcperc.nn as spnn
from pcperc.convert import convert_state_dict


def network():
    return nn.Sequential(
        spnn.SubMConv3d(2, 3, 3), spnn.BatchNorm(3), spnn.ReLU(), spnn.SparseConv3d(3, 4, 2, 2, bias=False)
    )


def norm_state(prefix):
    return {
        f"{prefix}.weight": torch.rand(3),
        f"{prefix}.bias": torch.rand(3),
        f"{prefix}.running_mean": torch.rand(3),
        f"{prefix}.running_var": torch.rand(3),
        f"{prefix}.num_batches_tracked": torch.tensor(7),
    }


STATES = {
    "spconv1": {
        "0.weight": torch.randn(3, 3, 3, 2, 3),
        "0.bias": torch.randn(3),
        **norm_state("1"),
        "3.weight": torch.randn(2, 2, 2, 3, 4),
    },
    "spconv2": {
        "0.weight": torch.randn(3, 3, 3, 3, 2),
        "0.bias": torch.randn(3),
        **norm_state("1"),
        "3.weight": torch.randn(4, 2, 2, 2, 3),
        "3._max_num_voxels_during_training": torch.zeros(1, dtype=torch.int32),
    },
    "torchsparse": {
        "0.kernel": torch.randn(27, 2, 3),
        "0.bias": torch.randn(3),
        **norm_state("1"),
        "3.kernel": torch.randn(8, 3, 4),
    },
    "minkowski": {
        "0.kernel": torch.randn(27, 2, 3),
        "0.bias": torch.randn(1, 3),
        **norm_state("1.bn"),
        "3.kernel": torch.randn(8, 3, 4),
    },
}
ORDERS = {"spconv1": "xyzio->ioxyz", "spconv2": "oxyzi->ioxyz"}


@pytest.mark.parametrize("source", STATES)
def test_a_network_is_converted_key_by_key(source):
    model, state = network(), STATES[source]
    converted = convert_state_dict(state, source=source, model=model)
    assert model.load_state_dict(converted).missing_keys == []
    assert torch.equal(model[0].bias.detach(), state["0.bias"].flatten())
    norm = "1.bn" if source == "minkowski" else "1"
    assert torch.equal(model[1].running_var, state[f"{norm}.running_var"]) and model[1].num_batches_tracked == 7
    for layer, key in ((model[0], "0."), (model[3], "3.")):
        weight = layer.weight.detach().permute(3, 4, 0, 1, 2)  # (in, out, x, y, z)
        if source in ORDERS:
            expected = torch.einsum(ORDERS[source], state[key + "weight"])
        else:
            taps, cin, cout = state[key + "kernel"].shape
            side = round(taps ** (1 / 3))
            is_first_fastest = source == "minkowski" or taps % 2
            grid = state[key + "kernel"].view(side, side, side, cin, cout)
            expected = grid.permute(3, 4, 2, 1, 0) if is_first_fastest else grid.permute(3, 4, 0, 1, 2)
        assert torch.equal(weight, expected)


def test_reversed_axes_reach_every_convolution():
    state = STATES["spconv2"]
    plain = convert_state_dict(state, source="spconv2", model=network())
    reverse = convert_state_dict(state, source="spconv2", model=network(), reverse_axes=True)
    for key in plain:
        assert torch.equal(reverse[key], plain[key].transpose(0, 2) if plain[key].ndim == 5 else plain[key])


def test_other_names_are_given_by_a_function():
    state = {f"module.net.{key}": value for key, value in STATES["torchsparse"].items()} | {"epoch": 3}
    renamed = convert_state_dict(
        state,
        source="torchsparse",
        model=network(),
        rename=lambda key: None if key == "epoch" else key.removeprefix("module.net."),
    )
    assert set(renamed) == set(network().state_dict())


def test_layers_that_are_called_as_a_parameter_keep_their_names():
    model = nn.ModuleDict({"linear": nn.Linear(2, 2)})
    state = {key: torch.rand_like(value) for key, value in model.state_dict().items()}
    assert convert_state_dict(state, source="minkowski", model=model) == state
    inner = {"linear.linear.weight": state["linear.weight"], "linear.linear.bias": state["linear.bias"]}
    assert set(convert_state_dict(inner, source="minkowski", model=model)) == set(state)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s.pop("1.bias"), ValueError, r"missing: 1\.bias; left over: none"),
        (lambda s: s.update({"9.weight": torch.ones(1)}), ValueError, r"missing: none; left over: 9\.weight"),
        (lambda s: s.update({"1.bias": torch.ones(4)}), ValueError, r"1\.bias must become \(3,\) .* got \(4,\)"),
        (
            lambda s: s.update({"0.weight": torch.ones(5, 3, 3, 3, 2)}),
            ValueError,
            r"0\.weight must become \(3, 3, 3, 2, 3\) as in the model, got \(3, 3, 3, 2, 5\)",
        ),
        (
            lambda s: s.update({"0.weight": torch.ones(3, 3, 3, 2, 3)}),
            ValueError,
            r"0\.weight: convert_weight: weight must be \(out, 3, 3, 3, in\), got \(3, 3, 3, 2, 3\)",
        ),
        (lambda s: s.update({"0.bias": [1, 2, 3]}), TypeError, r"0\.bias must be a tensor, got list"),
    ],
)
def test_what_does_not_fit_is_named(change, error, message):
    state = dict(STATES["spconv2"])
    change(state)
    with pytest.raises(error, match=f"convert_state_dict: .*{message}"):
        convert_state_dict(state, source="spconv2", model=network())


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="source must be one of spconv1, .*, got 'spconv'"):
        convert_state_dict({}, source="spconv", model=network())
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, got dict"):
        convert_state_dict({}, source="spconv2", model={})
    with pytest.raises(ValueError, match=r"two keys of state become 0\.bias, the second is x"):
        state = STATES["spconv2"] | {"x": torch.zeros(3)}
        convert_state_dict(state, source="spconv2", model=network(), rename=lambda key: "0.bias" if key == "x" else key)
