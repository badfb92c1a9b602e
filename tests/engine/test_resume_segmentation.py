# SPDX-License-Identifier: Apache-2.0
"""SPVCNN with mixing and a random cap on voxels, killed in mid-epoch and resumed on a CPU, repeats bit for bit."""

from pcperc.engine.checkpoint import finished_checkpoint
from tests.engine.helpers import assert_same_run, kill_at_iteration, read_losses, run_tool, running_tool
from tests.semantickitti_root import write_root

CONFIG = "tests/engine/tiny_segmentation_config.py"


def test_sigkill_in_mid_epoch(tmp_path):
    root = write_root(tmp_path / "kitti")
    command = ["tools/train.py", CONFIG, "--device", "cpu", "--cfg-options", f"data_root={root}"]
    whole, killed = ([*command, "--work-dir", tmp_path / name] for name in ("whole", "killed"))
    with running_tool(*whole, log=tmp_path / "whole.txt") as uninterrupted:
        with running_tool(*killed, log=tmp_path / "killed.txt") as process:
            kill_at_iteration(process, tmp_path / "killed", 9)
        assert finished_checkpoint(tmp_path / "killed") is None
        resumed = run_tool(*killed, "--resume")
        assert resumed.returncode == 0, resumed.stderr
        assert uninterrupted.wait(timeout=120) == 0, (tmp_path / "whole.txt").read_text()
    losses = read_losses(tmp_path / "whole")
    assert len(losses) == 24 and {"loss_cross_entropy", "loss_lovasz"} <= set(losses[1])
    assert len({line["loss"] for line in losses.values()}) == 24
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
