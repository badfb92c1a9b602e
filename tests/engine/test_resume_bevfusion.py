# SPDX-License-Identifier: Apache-2.0
"""BEVFusion at demonstration size, stopped in mid-epoch and resumed on a CPU, repeats its losses bit for bit."""

from dataclasses import replace
from pathlib import Path

import pytest

from pcperc.engine.checkpoint import last_checkpoint
from pcperc.engine.training import TrainOptions, train
from tests.engine.helpers import read_losses


def test_bevfusion_resumed_in_mid_epoch(tmp_path):
    options = TrainOptions(config=Path("tests/engine/toy_bevfusion_config.py"), device="cpu", amp=True)
    train(replace(options, work_dir=tmp_path / "whole"))
    stopped = replace(options, work_dir=tmp_path / "stopped", overrides={"train_dataloader.dataset.stop_at": 14})
    with pytest.raises(KeyboardInterrupt):
        train(stopped)
    assert last_checkpoint(tmp_path / "stopped").name == "iter_6.pth", "in the second epoch of four iterations each"
    train(replace(stopped, resume=True))
    whole, resumed = read_losses(tmp_path / "whole"), read_losses(tmp_path / "stopped")
    assert len(whole) == 8 and {"object/loss_heatmap", "object/loss_cls", "object/loss_box"} <= set(whole[1])
    assert resumed == whole
