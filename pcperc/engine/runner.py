# SPDX-License-Identifier: Apache-2.0
"""MMEngine's Runner with the parts replaced that fail on current torch, on a CPU or in mid-epoch.

MMEngine brings the order of hooks, loops, schedulers, parameter groups, text logs and TensorBoard. Own here: device and
process group, the text log kept off the console, checkpoints that load without executing anything, exact resume.
"""

import copy
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_dist_info
from mmengine.evaluator import Evaluator
from mmengine.hooks import IterTimerHook, LoggerHook, ParamSchedulerHook, RuntimeInfoHook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner as MMEngineRunner
from mmengine.visualization import TensorboardVisBackend, Visualizer
from torch import nn

from pcperc.engine import random_state
from pcperc.engine.checkpoint import (
    load_checkpoint,
    save_checkpoint,
    save_text,
    save_weights,
    to_plain,
    write_last_marker,
)
from pcperc.engine.config import plain_config
from pcperc.engine.distributed import gather_objects, is_main
from pcperc.engine.hooks import LossLogHook, ProgressHook, SafeCheckpointHook
from pcperc.engine.loop import build_dataloader
from pcperc.engine.run_state import progress_of, restore, state_of
from pcperc.engine.weights import load_stages
from pcperc.nn.sync_norm import convert_sync_batchnorm
from pcperc.registry import HOOKS, METRICS, MODELS

# One process may run several stages, and MMEngine finds loggers and hubs by name: names must not repeat.
_run_numbers = itertools.count(1)


@dataclass(frozen=True)
class RunRecord:
    """What a checkpoint says about its own making."""

    config: dict  # as plain_config gives it
    config_file: str
    profile: str = "full"
    data_root: str = ""
    simulated: bool = False
    extra: dict = field(default_factory=dict)


class Runner(MMEngineRunner):
    """Trains or tests what a config describes, on one device of this process.

    Args:
        cfg: a checked config (``load_config``), or one restored from a checkpoint.
        work_dir: checkpoints go directly in it, logs and curves in a folder named by the time of the start.
        device: of this process.
        record: stored in every checkpoint.
        label: what the progress display says.
        resume_from: a checkpoint to continue from.
        load_from: checkpoints with the weights to begin with. Of the first one all are taken, of each further one
            the encoders that those before it lack. In training, the model may have parts that no file has.
        check_data: called with the data set that is trained on, else tested on, before weights are loaded, also where
            a run is resumed; it raises where the data does not fit.
        after_load: called with the model before it trains or is tested, not where a run is resumed; a model that it
            returns takes the place of that one.
    """

    def __init__(
        self,
        cfg: Config,
        *,
        work_dir: str | Path,
        device: torch.device,
        record: RunRecord,
        label: str = "training",
        resume_from: Path | None = None,
        load_from: Path | tuple[Path, ...] | None = None,
        check_data: Callable[[Any], None] | None = None,
        after_load: Callable[[nn.Module], nn.Module | None] | None = None,
    ) -> None:
        self.device, self.record, self.label = device, record, label
        self._resume_from, self._check_data, self._after_load = resume_from, check_data, after_load
        self._begin_with = load_from if isinstance(load_from, tuple) else (load_from,) if load_from else ()
        super().__init__(
            model=cfg["model"],
            work_dir=str(work_dir),
            **{key: copy.deepcopy(cfg.get(key)) for key in _PASSED_ON},
            resume=resume_from is not None,
            launcher="pytorch" if torch.distributed.is_initialized() else "none",
            randomness={"seed": cfg.get("seed", 0)},
            default_scope=None,
            experiment_name=f"{Path(record.config_file).stem}_{next(_run_numbers)}",
            cfg=Config(plain_config({key: cfg[key] for key in ("find_unused_parameters",) if key in cfg})),
        )

    # ---- environment and logs ----

    def setup_env(self, env_cfg: dict) -> None:
        """Take rank and start time; the process group is up already (``start_process_group``)."""
        self._rank, self._world_size = get_dist_info()
        self._timestamp = gather_objects(_free_folder_name(Path(self.work_dir)))[0]

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **kwargs) -> MMLogger:
        """Keep MMEngine's log in its file; the console shows the progress display and errors."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        logger.handlers[0].setLevel("ERROR")
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """Write TensorBoard curves where tensorboard is installed."""
        backends = [TensorboardVisBackend(save_dir=self._log_dir)] if is_main() and _has_tensorboard() else None
        return Visualizer.get_instance(self._experiment_name, vis_backends=backends, save_dir=self._log_dir)

    def dump_config(self) -> None:
        """Write the resolved config next to the logs."""
        if is_main():
            save_text(json.dumps(self.record.config, indent=1) + "\n", Path(self.log_dir) / "config.json")

    def _log_env(self, env_cfg: dict) -> None:
        self.logger.info(
            f"torch {torch.__version__}, device {self.device}, {self._world_size} processes, seed {self.seed}, "
            f"profile {self.record.profile}, data {self.record.data_root}"
        )

    # ---- parts ----

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model through pcperc's registry; the seed is set by then."""
        return MODELS.build(model) if isinstance(model, dict) else model

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move the model to the device; with several processes synchronise its batch norms and gradients."""
        model = model.to(self.device)
        if not self.distributed:
            return model
        wrapped = MMDistributedDataParallel(
            module=convert_sync_batchnorm(model),
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            find_unused_parameters=bool(self.cfg.get("find_unused_parameters", False)),
        )
        wrapped.broadcast_buffers = False  # they are running statistics, and SyncBatchNorm keeps these equal
        return wrapped

    @staticmethod
    def build_dataloader(dataloader, seed: int | None = None, diff_rank_seed: bool = False):
        return build_dataloader(dataloader, seed=seed or 0)

    def build_evaluator(self, evaluator) -> Evaluator:
        """Build the metrics through pcperc's registry."""
        if isinstance(evaluator, Evaluator):
            return evaluator
        metrics = evaluator if isinstance(evaluator, list | tuple) else [evaluator]
        return Evaluator([METRICS.build(m) if isinstance(m, dict) else m for m in metrics])

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        """Register MMEngine's bookkeeping and our hooks; a config replaces one by its name, None removes it."""
        hooks = {
            "runtime_info": RuntimeInfoHook(),
            "timer": IterTimerHook(),
            "logger": LoggerHook(interval=10),
            "param_scheduler": ParamSchedulerHook(),
            "progress": ProgressHook(self.label),
            "loss_log": LossLogHook(),
            "checkpoint": SafeCheckpointHook(),
            **(default_hooks or {}),
        }
        for hook in [*hooks.values(), *(custom_hooks or [])]:
            if hook is None:
                continue
            priority = hook.pop("priority", None) if isinstance(hook, dict) else None
            self.register_hook(HOOKS.build(hook) if isinstance(hook, dict) else hook, priority)

    def _init_model_weights(self) -> None:
        """Nothing: models of pcperc are initialised by their constructors, and DDP sends the first process' to all."""

    @property
    def bare_model(self) -> nn.Module:
        """The model without the wrapper of distributed training."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def train(self) -> nn.Module:
        """Train to the end; the terminal is given back whatever happens."""
        try:
            return super().train()
        finally:
            self.call_hook("close")

    def test(self) -> dict:
        """Test; the terminal is given back whatever happens."""
        try:
            return super().test()
        finally:
            self.call_hook("close")

    # ---- weights and state ----

    def load_or_resume(self) -> None:
        """Continue from ``resume_from``, or begin with the weights of ``load_from``, or with the initial ones."""
        if self._has_loaded:
            return
        self._has_loaded = True
        if self._check_data is not None:
            loader = self.test_dataloader if self._train_loop is None else self.train_dataloader
            self._check_data(loader.dataset)
        if self._resume_from is not None:
            restore(self, load_checkpoint(self._resume_from), self._resume_from)
            return
        if self._begin_with:
            missing = load_stages(self.bare_model, self._begin_with, partial=self._train_loop is not None)
            files = ", ".join(map(str, self._begin_with))
            self.logger.info(f"weights from {files}; {len(missing)} tensors of the model are not in it")
        if self._after_load is not None:
            replacement = self._after_load(self.bare_model)
            self.model = self.model if replacement is None else replacement
        # Averaged copies of the model (EMA) begin with the weights that it has now.
        self.call_hook("after_load_checkpoint", checkpoint={"state_dict": self.bare_model.state_dict()})
        # Dropout must differ between processes; the initial weights were drawn, and sent to all, before.
        torch.manual_seed(self.seed + self.rank)

    def write_checkpoint(self, stem: str, *, epoch: int, iteration: int, with_weights: bool) -> Path:
        """Write ``stem.pth`` (and ``stem.safetensors``) into the work dir and mark it as the newest.

        Args:
            epoch, iteration: completed ones.
        Raises:
            CheckpointError: the disk is full or not writable.
        """
        states = gather_objects(random_state.capture(self.device))  # of every process, so before the return below
        path = Path(self.work_dir) / f"{stem}.pth"
        if not is_main():
            return path
        meta = {**asdict(self.record), **progress_of(self, epoch=epoch, iteration=iteration)}
        checkpoint = {"meta": meta, **state_of(self), "random_states": states}
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        save_checkpoint(checkpoint, path)
        if with_weights:
            save_weights(to_plain(checkpoint["state_dict"]), path.with_suffix(".safetensors"), meta=meta)
        write_last_marker(Path(self.work_dir), path)
        return path


_PASSED_ON = (
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "train_cfg",
    "val_cfg",
    "test_cfg",
    "optim_wrapper",
    "param_scheduler",
    "val_evaluator",
    "test_evaluator",
    "default_hooks",
    "custom_hooks",
)


def _free_folder_name(work_dir: Path) -> str:
    """Return the time as the name of a log folder, numbered where another run took this second's."""
    stamp = time.strftime("%Y%m%d_%H%M%S")
    taken = sum(1 for _ in work_dir.glob(f"{stamp}*"))
    return f"{stamp}_{taken + 1}" if taken else stamp


def _has_tensorboard() -> bool:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return False
    return True
