# SPDX-License-Identifier: Apache-2.0
"""The state of a training run: what a checkpoint keeps of it, and the way back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine.logging import HistoryBuffer

from pcperc.engine import random_state
from pcperc.engine.checkpoint import CheckpointError
from pcperc.engine.weights import load_weights

if TYPE_CHECKING:
    from pcperc.engine.runner import Runner

# Enough for every smoothing window; the curves themselves are in TensorBoard and losses.jsonl.
_KEPT_HISTORY = 10_000


def progress_of(runner: Runner, *, epoch: int, iteration: int) -> dict:
    """Return what a checkpoint says of how far the run is, after so many whole epochs and iterations."""
    return {
        "epoch": epoch,
        "iter": iteration,
        "batches_per_epoch": len(runner.train_dataloader),
        "finished": epoch >= runner.max_epochs,
        "seed": runner.seed,
        "torch": str(torch.__version__),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def state_of(runner: Runner) -> dict:
    """Return what `restore` needs besides the random states of all processes."""
    return {
        "state_dict": dict(runner.bare_model.state_dict()),
        "optimizer": runner.optim_wrapper.state_dict(),
        "param_schedulers": [scheduler.state_dict() for scheduler in runner.param_schedulers or []],
        "message_hub": _hub_state(runner),
    }


def restore(runner: Runner, checkpoint: dict, path: Path) -> None:
    """Bring everything to where a checkpoint of `progress_of` and `state_of` was made.

    Raises:
        CheckpointError: it has weights only, or was made with other batches or processes.
    """
    meta = checkpoint["meta"]
    if "random_states" not in checkpoint:
        raise CheckpointError(f"{path}: has weights only and cannot be resumed; use --load-from")
    made_with = (meta["batches_per_epoch"], len(checkpoint["random_states"]))
    here = (len(runner.train_dataloader), runner.world_size)
    if made_with != here:
        raise CheckpointError(
            f"{path}: was made with {made_with[0]} batches an epoch in {made_with[1]} process(es), this run has "
            f"{here[0]} in {here[1]}; resume with the same data, batch size and number of processes, or start anew "
            "with --load-from"
        )
    runner.call_hook("after_load_checkpoint", checkpoint=checkpoint)
    load_weights(runner.bare_model, checkpoint["state_dict"], source=path)
    runner.train_loop.start_at(epoch=meta["epoch"], iteration=meta["iter"])
    runner.optim_wrapper.load_state_dict(checkpoint["optimizer"])
    for scheduler, state in zip(runner.param_schedulers or [], checkpoint["param_schedulers"], strict=True):
        scheduler.load_state_dict(state)
    _load_hub_state(runner, checkpoint["message_hub"])
    runner.logger.info(f"resumed {path} after epoch {meta['epoch']}, iteration {meta['iter']}")
    random_state.restore(checkpoint["random_states"][runner.rank], runner.device)


def _hub_state(runner: Runner) -> dict:
    scalars = {}
    for key, history in runner.message_hub.log_scalars.items():
        values, counts = (array[-_KEPT_HISTORY:] for array in history.data)
        scalars[key] = {"values": values, "counts": counts}
    skipped = {"cfg", "experiment_name", "loop_stage", "dataset_meta"}
    info = {key: value for key, value in runner.message_hub.runtime_info.items() if key not in skipped}
    return {"scalars": scalars, "info": info}


def _load_hub_state(runner: Runner, state: dict) -> None:
    for key, history in state["scalars"].items():
        runner.message_hub.log_scalars[key] = HistoryBuffer(history["values"].numpy(), history["counts"].numpy())
    for key, value in state["info"].items():
        runner.message_hub.update_info(key, value)
