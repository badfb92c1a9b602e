# SPDX-License-Identifier: Apache-2.0
"""BEVFusion at demonstration size, killed in mid-epoch and resumed on a CPU, repeats its losses bit for bit."""

import pytest

from pcperc.datasets.nuscenes_prepare import prepare_nuscenes_for_training
from pcperc.engine.checkpoint import finished_checkpoint, last_checkpoint, load_checkpoint
from pcperc.simulation.data_set import simulate
from pcperc.simulation.driving import Settings
from tests.engine.helpers import assert_same_run, kill_at_iteration, read_losses, run_tool, running_tool

CONFIG = "tests/engine/tiny_bevfusion_config.py"


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("simulated")
    simulate(root, Settings(scenes=3, size="tiny", seed=0), workers=2)
    prepare_nuscenes_for_training(root, "v1.0-sim", gt_database=False, show_progress=False)
    return root


def test_sigkill_in_mid_epoch(tmp_path, data_root):
    """The tool and its loader process die; averaged weights, bfloat16 and schedule go on as if nothing had been."""
    command = ["tools/train.py", CONFIG, "--device", "cpu", "--amp", "--cfg-options", f"data_root={data_root}"]
    whole, killed = ([*command, "--work-dir", tmp_path / name] for name in ("whole", "killed"))
    with running_tool(*whole, log=tmp_path / "whole.txt") as uninterrupted:
        with running_tool(*killed, log=tmp_path / "killed.txt") as process:
            kill_at_iteration(process, tmp_path / "killed", 9)
        name = last_checkpoint(tmp_path / "killed").name
        assert name in ("iter_8.pth", "iter_10.pth"), "in the second epoch of six iterations each"
        assert finished_checkpoint(tmp_path / "killed") is None
        resumed = run_tool(*killed, "--resume")
        assert resumed.returncode == 0, resumed.stderr
        assert f"resuming {tmp_path / 'killed' / name}" in resumed.stdout
        assert uninterrupted.wait(timeout=120) == 0, (tmp_path / "whole.txt").read_text()
    losses = read_losses(tmp_path / "whole")
    assert len(losses) == 12 and {"object/loss_heatmap", "object/loss_cls", "object/loss_box"} <= set(losses[1])
    assert len({line["lr"] for line in losses.values()}) == 12, "the schedule must move"
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    checkpoint = load_checkpoint(last_checkpoint(tmp_path / "whole"))
    averaged = {name.removeprefix("module."): value for name, value in checkpoint["ema_state_dict"].items()}
    moved = [name for name, value in checkpoint["state_dict"].items() if not value.equal(averaged[name])]
    assert len(moved) > 100, "averaged weights that equal the others would show nothing"
