# SPDX-License-Identifier: Apache-2.0
"""A run that was stopped anywhere and resumed repeats the one that was not, bit for bit."""

from dataclasses import replace
from pathlib import Path

import pytest

from pcperc.engine.checkpoint import CheckpointError, finished_checkpoint, last_checkpoint, load_checkpoint
from pcperc.engine.training import TrainOptions, train
from tests.engine.helpers import TOY, assert_same_run, killed, run_tool
from tests.engine.toy import ToyDataset

OPTIONS = TrainOptions(config=Path(TOY), device="cpu")


class Stopped(Exception):
    pass


def train_until(monkeypatch, options: TrainOptions, reads: int) -> None:
    """Train, and fail when the training set has been read ``reads`` times in this process."""
    plain = ToyDataset.__getitem__

    def getitem(self, key):
        if self.size == 40 and self.reads == reads:
            raise Stopped
        return plain(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(ToyDataset, "__getitem__", getitem)
        with pytest.raises(Stopped):
            train(options)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    work_dir = tmp_path_factory.mktemp("uninterrupted")
    train(replace(OPTIONS, work_dir=work_dir))
    return work_dir


def test_sigkill_in_mid_epoch(tmp_path, uninterrupted):
    """In real processes, with a loader process of its own; the kill falls between two checkpoints."""
    keys = "train_dataloader.dataset"
    command = ["tools/train.py", TOY, "--work-dir", tmp_path / "w", "--device", "cpu", "--cfg-options"]
    command += [f"{keys}.kill_at=70", f"{keys}.kill_marker={tmp_path / 'marker'}"]
    first = run_tool(*command)
    assert killed(first), first.stderr
    assert last_checkpoint(tmp_path / "w").name == "iter_16.pth", "in the second epoch of ten iterations each"
    assert finished_checkpoint(tmp_path / "w") is None
    second = run_tool(*command, "--resume")
    assert second.returncode == 0, second.stderr
    assert "resuming" in second.stdout and "iter_16.pth" in second.stdout
    assert_same_run(tmp_path / "w", uninterrupted)


@pytest.mark.parametrize("reads", [8, 38, 40, 45, 119])
def test_stopped_at_any_place(tmp_path, monkeypatch, uninterrupted, reads):
    """Before the first checkpoint, at the end of an epoch, right after it, in the last iteration."""
    options = replace(OPTIONS, work_dir=tmp_path)
    train_until(monkeypatch, options, reads)
    train(replace(options, resume=True))
    assert_same_run(tmp_path, uninterrupted)


# MMEngine's schedulers take the first, merely accumulating iteration for a mistake.
@pytest.mark.filterwarnings("ignore:Detected call of `scheduler.step:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_half_precision_accumulation_and_workers(tmp_path, monkeypatch, workers):
    overrides = {"optim_wrapper.accumulative_counts": 3, "train_dataloader.num_workers": workers}
    options = replace(OPTIONS, amp=True, overrides=overrides)
    train(replace(options, work_dir=tmp_path / "a"))
    serial = replace(options, overrides={**overrides, "train_dataloader.num_workers": 0}, work_dir=tmp_path / "b")
    train_until(monkeypatch, serial, reads=70)
    train(replace(options, work_dir=tmp_path / "b", resume=True))
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_batches_seen_before_are_not_read_again(tmp_path, monkeypatch):
    log = tmp_path / "reads.txt"
    options = replace(OPTIONS, work_dir=tmp_path, overrides={"train_dataloader.dataset.read_log": str(log)})
    train_until(monkeypatch, options, reads=70)
    log.unlink()
    train(replace(options, resume=True))
    reads = log.read_text().splitlines()
    assert len(reads) == 120 - 4 * 16, "the checkpoint was taken after 16 batches of 4"
    assert sum(line.startswith("1 ") for line in reads) == 80 - 4 * 16


def test_a_resumed_run_of_other_size_is_refused(tmp_path, monkeypatch):
    options = replace(OPTIONS, work_dir=tmp_path)
    train_until(monkeypatch, options, reads=70)
    message = r"iter_16.pth: was made with 10 batches an epoch in 1 process\(es\), this run has 20 in 1; resume with"
    monkeypatch.setattr(ToyDataset, "__len__", lambda self: 2 * self.size)  # more files than there were
    with pytest.raises(CheckpointError, match=message):
        train(replace(options, resume=True))


def test_weights_alone_cannot_be_resumed(tmp_path, uninterrupted):
    (tmp_path / "epoch_3.safetensors").write_bytes((uninterrupted / "epoch_3.safetensors").read_bytes())
    (tmp_path / "last_checkpoint").write_text("epoch_3.safetensors\n")
    with pytest.raises(CheckpointError, match="has weights only and cannot be resumed; use --load-from"):
        train(replace(OPTIONS, work_dir=tmp_path, resume=True))


def test_finished_run_resumes_to_itself_and_a_new_one_begins_anew(tmp_path, capsys):
    options = replace(OPTIONS, work_dir=tmp_path, overrides={"train_cfg.max_epochs": 1})
    path = train(options)
    before = path.read_bytes()
    assert train(replace(options, resume=True)) == path
    assert "finished already" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert train(options) == path
    assert len(list(tmp_path.glob("*/losses.jsonl"))) >= 1
    assert load_checkpoint(path)["meta"]["finished"]


def test_a_new_run_does_not_resume_an_older_one(tmp_path, monkeypatch):
    """Killed before its first checkpoint, it begins anew, although the folder holds a finished run."""
    options = replace(OPTIONS, work_dir=tmp_path)
    finished = train(options)
    content = finished.read_bytes()
    train_until(monkeypatch, options, reads=8)
    assert finished_checkpoint(tmp_path).read_bytes() == content, "testing still finds the run that came to its end"
    assert last_checkpoint(tmp_path) is None
