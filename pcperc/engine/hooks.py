# SPDX-License-Identifier: Apache-2.0
"""What happens around the iterations: checkpoints, the progress display, the log of losses."""

import json
from pathlib import Path

from mmengine.hooks import Hook
from torch import Tensor

from pcperc.engine.checkpoint import last_checkpoint, write_finished_marker
from pcperc.engine.distributed import is_main
from pcperc.engine.progress import ProgressDisplay
from pcperc.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Writes a checkpoint every so many iterations and epochs, so that a kill at any time loses little.

    Files are ``iter_N.pth`` and ``epoch_N.pth`` (the latter with ``epoch_N.safetensors``) directly in the work dir.

    Args:
        interval_iters: iterations between two checkpoints inside an epoch; None writes none there.
        interval_epochs: epochs between two checkpoints; the last epoch always gets one.
        keep: how many of each kind are kept, the newest ones.
    """

    priority = "VERY_LOW"

    def __init__(self, interval_iters: int | None = 500, interval_epochs: int = 1, keep: int = 2) -> None:
        for name, value in (("interval_iters", interval_iters), ("interval_epochs", interval_epochs), ("keep", keep)):
            if value is not None and value < 1:
                raise ValueError(f"SafeCheckpointHook: {name} must be at least 1, got {value}")
        self.interval_iters = interval_iters
        self.interval_epochs = interval_epochs
        self.keep = keep
        self._due = False

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.interval_iters is not None and (runner.iter + 1) % self.interval_iters == 0:
            self._due = True
        if batch_idx + 1 == len(runner.train_dataloader):
            self._due = False  # the epoch's own checkpoint follows, and by_epoch schedulers step before it
        if not self._due or not runner.optim_wrapper.should_update():
            return  # gradients that are still being summed are in no checkpoint: wait for the step that uses them
        self._due = False
        self._write(runner, f"iter_{runner.iter + 1}", epoch=runner.epoch, iteration=runner.iter + 1)

    def after_train_epoch(self, runner) -> None:
        epoch = runner.epoch + 1
        if epoch % self.interval_epochs == 0 or epoch == runner.max_epochs:
            self._write(runner, f"epoch_{epoch}", epoch=epoch, iteration=runner.iter)

    def after_train(self, runner) -> None:
        path = last_checkpoint(Path(runner.work_dir))
        if is_main() and path is not None and runner.epoch >= runner.max_epochs:
            write_finished_marker(Path(runner.work_dir), path, profile=runner.record.profile, epoch=runner.epoch)

    def _write(self, runner, stem: str, *, epoch: int, iteration: int) -> None:
        kind = stem.partition("_")[0]
        hub_key = f"kept_{kind}_checkpoints"
        kept = [name for name in runner.message_hub.runtime_info.get(hub_key, []) if name != stem] + [stem]
        runner.message_hub.update_info(hub_key, kept[-self.keep :])
        runner.write_checkpoint(stem, epoch=epoch, iteration=iteration, with_weights=kind == "epoch")
        if is_main():
            for old in kept[: -self.keep]:
                for suffix in (".pth", ".safetensors"):
                    (Path(runner.work_dir) / f"{old}{suffix}").unlink(missing_ok=True)


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows the progress of training, validation and testing with the time left."""

    priority = "LOW"

    def __init__(self, label: str = "training") -> None:
        self.label = label
        self._train: ProgressDisplay | None = None
        self._eval: ProgressDisplay | None = None

    def before_train(self, runner) -> None:
        self._train = ProgressDisplay(self.label, runner.max_iters, done=runner.iter, enabled=is_main())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        loss = _number(outputs["loss"])
        rate = next(iter(runner.optim_wrapper.get_lr().values()))[0]
        text = f"loss {loss:.4g}, epoch {runner.epoch + 1}/{runner.max_epochs}, lr {rate:.2g}"  # what is cut off last
        self._train.update(runner.iter + 1, text)

    def close(self, runner) -> None:
        """Give the terminal back; the runner calls it also where training fails."""
        for display in (self._train, self._eval):
            if display is not None and display.enabled:
                display.close()

    def before_val(self, runner) -> None:
        self._begin_eval("validating", runner.val_dataloader)

    def before_test(self, runner) -> None:
        self._begin_eval("testing", runner.test_dataloader)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._eval.update(batch_idx + 1)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner, metrics=None) -> None:
        if self._train is not None:
            self._train.resume()

    def _begin_eval(self, label: str, loader) -> None:
        if self._train is not None:
            self._train.pause()
        self._eval = _SelfClosing(label, len(loader), enabled=is_main())


class _SelfClosing(ProgressDisplay):
    """Ends with its last unit, so that what the evaluator prints stands below it."""

    def update(self, done: int, text: str = "") -> None:
        super().update(done, text)
        if done >= self.total and self.enabled:
            self.close()


@HOOKS.register_module()
class LossLogHook(Hook):
    """Writes one JSON line an iteration to ``losses.jsonl`` in the run's log folder.

    Floats are written with all their digits, so that two runs can be compared bit for bit.
    """

    priority = "LOW"

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not is_main():
            return
        losses = {key: _number(value) for key, value in outputs.items()}
        rate = next(iter(runner.optim_wrapper.get_lr().values()))[0]
        line = {"iter": runner.iter + 1, "epoch": runner.epoch + 1, **losses, "lr": rate}
        with open(Path(runner.log_dir) / "losses.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")


def _number(value) -> float:
    return value.item() if isinstance(value, Tensor) else float(value)
