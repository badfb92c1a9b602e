# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: whole or not at all, nothing executed, the right model, the right file."""

import errno
import os
import pickle
import re
import stat

import numpy as np
import pytest
import torch
from torch import nn

from pcperc.engine import checkpoint as ckpt
from pcperc.engine import random_state
from pcperc.engine.checkpoint import CheckpointError
from pcperc.engine.weights import load_weights

CONTENT = {
    "meta": {"epoch": 2, "config": {"a": [1, (2, 3), None, "x", True]}},
    "state_dict": {"w": torch.arange(6.0).view(2, 3)},
    "random": {"keys": np.arange(3), "number": np.float64(0.5)},
}


def test_round_trip(tmp_path):
    path = tmp_path / "a.pth"
    ckpt.save_checkpoint(CONTENT, path)
    loaded = ckpt.load_checkpoint(path)
    assert loaded["meta"] == CONTENT["meta"]
    assert torch.equal(loaded["state_dict"]["w"], CONTENT["state_dict"]["w"])
    assert loaded["random"]["keys"].tolist() == [0, 1, 2] and loaded["random"]["number"] == 0.5
    assert os.listdir(tmp_path) == ["a.pth"]


def test_weights_carry_their_meta_and_are_readable_by_others(tmp_path):
    path = tmp_path / "a.safetensors"
    umask = os.umask(0o022)
    try:
        ckpt.save_weights(CONTENT["state_dict"], path, meta=CONTENT["meta"] | {"config": {"tuple": [1]}})
    finally:
        os.umask(umask)
    loaded = ckpt.load_checkpoint(path)
    assert loaded["meta"] == {"epoch": 2, "config": {"tuple": [1]}}
    assert torch.equal(loaded["state_dict"]["w"], CONTENT["state_dict"]["w"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("place", ["fsync", "write"])
def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch, place, old):
    path = tmp_path / "a.pth"
    if old:
        path.write_bytes(old)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    if place == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(torch, "save", full)
    message = re.escape(f"{path}: cannot be written, the disk is full; the file is left as it was before")
    with pytest.raises(CheckpointError, match=f"^{message}$"):
        ckpt.save_checkpoint(CONTENT, path)
    assert os.listdir(tmp_path) == (["a.pth"] if old else [])
    assert not old or path.read_bytes() == old


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_disk_as_torch_reports_it(tmp_path):
    with pytest.raises(CheckpointError, match="a.pth: cannot be written, the disk is full"):
        with ckpt.written_whole(tmp_path / "a.pth") as partial:
            partial.symlink_to("/dev/full")
            with open(partial, "wb") as file:
                torch.save({"w": torch.zeros(100_000)}, file)
    assert os.listdir(tmp_path) == []


class Malicious:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("content", ["cut", "text", "malicious", "foreign", "empty"])
def test_unreadable_files(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pth"
    ckpt.save_checkpoint(CONTENT, path)
    if content == "cut":
        path.write_bytes(path.read_bytes()[:400])
    elif content == "text":
        path.write_text("not a checkpoint")
    elif content == "malicious":
        torch.save({"format": ckpt.FORMAT, "meta": Malicious()}, path)
    elif content == "foreign":
        torch.save({"state_dict": {}}, path)
    else:
        path.write_bytes(b"")
    unreadable = "not a readable checkpoint of tensors and plain values "
    expected = {"foreign": "expected a 'pcperc checkpoint 1' file, which train.py writes"}
    expected |= {"cut": f"{unreadable}(it is cut off or damaged)", "empty": f"{unreadable}(it is empty)"}
    with pytest.raises(CheckpointError, match=re.escape(f"{path}: {expected.get(content, unreadable)}")):
        ckpt.load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_missing_and_broken_safetensors(tmp_path):
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / 'no.pth'}: no such checkpoint")):
        ckpt.load_checkpoint(tmp_path / "no.pth")
    (tmp_path / "a.safetensors").write_bytes(b"12")
    with pytest.raises(CheckpointError, match="a.safetensors: not a readable safetensors file"):
        ckpt.load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("value", [object(), {1, 2}, pickle.dumps, np.array(["a"])])
def test_only_plain_values_are_stored(value):
    with pytest.raises(TypeError, match=r"checkpoint\.a\[1\]: cannot be stored in a checkpoint, got "):
        ckpt.to_plain({"a": [0, value]})


def test_weights_of_another_model():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = model.state_dict()
    cases = {
        "'0.weight' must be (3, 2), got (3, 5)": {**state, "0.weight": torch.zeros(3, 5)},
        "it has 1 tensors that this model lacks (first: 'head.w')": {**state, "head.w": torch.zeros(1)},
        "2 of this model's tensors are not in it (first: '1.weight')": {k: state[k] for k in list(state)[:2]},
    }
    for message, weights in cases.items():
        with pytest.raises(CheckpointError, match=re.escape(f"f.pth: is a checkpoint of another model, {message}")):
            load_weights(model, weights, source="f.pth")


def test_partial_weights_fill_what_they_have():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    weights = {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(3)}
    assert load_weights(model, weights, source="f.pth", partial=True) == ["1.weight", "1.bias"]
    assert model[0].weight.tolist() == [[1, 1]] * 3
    with pytest.raises(CheckpointError, match="another model"):
        load_weights(model, {}, source="f.pth", partial=True)


def test_markers(tmp_path):
    assert ckpt.last_checkpoint(tmp_path) is None and ckpt.finished_checkpoint(tmp_path) is None
    path = tmp_path / "epoch_3.pth"
    ckpt.write_last_marker(tmp_path, path)
    ckpt.write_finished_marker(tmp_path, path, epoch=3)
    assert ckpt.last_checkpoint(tmp_path) is None, "a marker whose file is gone names nothing"
    path.touch()
    assert ckpt.last_checkpoint(tmp_path) == ckpt.finished_checkpoint(tmp_path) == path


@pytest.mark.parametrize(
    "content", [{"meta": {}}, {"state_dict": {"a": 3}, "meta": {}}, {"state_dict": [1], "meta": {}}, {"state_dict": {}}]
)
def test_checkpoints_without_weights(tmp_path, content):
    ckpt.save_checkpoint(content, tmp_path / "a.pth")
    with pytest.raises(
        ckpt.CheckpointError, match="a.pth: must hold 'state_dict', tensors by name, and 'meta', it does"
    ):
        ckpt.load_checkpoint(tmp_path / "a.pth")


def test_random_states_come_back(tmp_path):
    import random

    def draw():
        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1).item()

    random.gauss(0, 1), np.random.randn()  # leaves a second normal number in store
    device = torch.device("cpu")
    ckpt.save_checkpoint({"state_dict": {}, "meta": {}, "state": random_state.capture(device)}, tmp_path / "a.pth")
    expected = draw()
    draw()
    random_state.restore(ckpt.load_checkpoint(tmp_path / "a.pth")["state"], device)
    assert draw() == expected
