# SPDX-License-Identifier: Apache-2.0
"""The mean of checkpoints: its numbers, what it says of itself, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcperc.engine.averaging import AverageOptions, average_checkpoints
from pcperc.engine.checkpoint import CheckpointError, load_checkpoint, save_weights
from pcperc.engine.loading import load_model
from pcperc.engine.training import TrainOptions, train
from tests.engine.helpers import TOY

OPTIONS = TrainOptions(config=Path(TOY), device="cpu", overrides={"train_cfg.max_epochs": 2})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Two epochs with averaged weights (EMA)."""
    work_dir = tmp_path_factory.mktemp("run")
    train(replace(OPTIONS, work_dir=work_dir))
    return work_dir


def test_the_mean_of_two_epochs(run, tmp_path):
    """One read whole, one as bare weights; the result is a checkpoint for testing and for a new run."""
    paths = [run / "epoch_1.safetensors", run / "epoch_2.pth"]
    out = average_checkpoints(AverageOptions(paths, tmp_path / "mean.safetensors"))
    first, second = (load_checkpoint(path)["state_dict"] for path in paths)
    found = load_checkpoint(out)
    moved = 0
    for name, value in found["state_dict"].items():
        wanted = first[name]
        if value.is_floating_point():
            wanted = ((first[name].double() + second[name].double()) / 2).to(value.dtype)
            moved += not torch.equal(first[name], second[name])
        assert value.dtype == first[name].dtype and torch.equal(value, wanted), name
    assert moved > 3
    assert found["meta"]["averaged_from"] == [str(path) for path in paths]
    model, _ = load_model(out, TOY)
    assert all(torch.equal(value, found["state_dict"][name]) for name, value in model.state_dict().items())
    path = train(replace(OPTIONS, work_dir=tmp_path / "next", load_from=out))
    assert load_checkpoint(path)["meta"]["finished"]


def test_the_mean_of_three_in_half_precision(tmp_path):
    """The sum would be beyond float16; numbers of batches are the first file's."""
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for number, path in enumerate(paths):
        weights = {"w": torch.tensor([60000.0, 3.0 * number]).half(), "count": torch.tensor(number)}
        save_weights(weights, path, meta={})
    found = load_checkpoint(average_checkpoints(AverageOptions(paths, tmp_path / "mean.safetensors")))["state_dict"]
    assert found["w"].tolist() == [60000.0, 3.0] and found["w"].dtype == torch.float16 and found["count"] == 0


def test_what_is_simulated_stays_so(tmp_path):
    for name, simulated in (("a", False), ("b", True)):
        save_weights({"w": torch.ones(2)}, tmp_path / f"{name}.safetensors", meta={"simulated": simulated})
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    assert load_checkpoint(average_checkpoints(AverageOptions(paths, tmp_path / "c.safetensors")))["meta"]["simulated"]


def test_mistakes_are_named(run, tmp_path):
    one, out = run / "epoch_1.pth", tmp_path / "out.safetensors"
    for paths, target, message in (
        ([one], out, "two or more different files, got 1"),
        ([one, run / "." / "epoch_1.pth"], out, "two or more different files"),
        ([one, run / "epoch_2.pth"], tmp_path / "out.pth", "--out must be a .safetensors file"),
        ([one, run / "epoch_2.safetensors"], run / "." / "epoch_2.safetensors", "--out must be another file than the"),
    ):
        with pytest.raises(ValueError, match=message):
            average_checkpoints(AverageOptions(paths, target))
    weights, meta = (load_checkpoint(one)[key] for key in ("state_dict", "meta"))
    name = next(iter(weights))
    other = tmp_path / "other.safetensors"
    for changed, about, message in (
        ({**weights, name: torch.zeros(1, 2, 3)}, meta, rf"'{name}' is \(1, 2, 3\) in it"),
        ({key: value for key, value in weights.items() if key != name}, meta, f"'{name}' is absent in it"),
        (weights, {"config": {"model": {"type": "ToyModel", "width": 9}}}, "model.width: 8 here, 9 there"),
        ({**weights, name: weights[name] / 0}, meta, f"'{name}' holds numbers that are not finite"),
    ):
        save_weights(changed, other, meta=about)
        with pytest.raises(CheckpointError, match=message):
            average_checkpoints(AverageOptions([one, other], out))
    assert not out.exists()
