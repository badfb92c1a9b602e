# SPDX-License-Identifier: Apache-2.0
"""Data loaders and a training loop that can start in the middle of an epoch."""

from functools import partial
from typing import Any

import torch
from mmengine.registry import FUNCTIONS, LOOPS
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader

from pcperc.datasets import collate
from pcperc.engine.config_check import LOADER_KEYS, nearest
from pcperc.registry import DATA_SAMPLERS, DATASETS

FUNCTIONS.register_module(module=collate)


def build_dataloader(cfg: dict | DataLoader, *, seed: int) -> DataLoader:
    """Build a loader from ``dataset``, ``sampler``, ``collate_fn`` and torch's own arguments.

    Its generator is its own: making an iterator then leaves torch's default generator alone, so that a run resumed in
    mid-epoch draws the same numbers as one that was never stopped.

    Raises:
        TypeError: an unknown key.
    """
    if isinstance(cfg, DataLoader):
        return cfg
    cfg = dict(cfg.items())
    unknown = sorted(set(cfg) - LOADER_KEYS)
    if unknown:
        raise TypeError(f"dataloader: unknown key '{unknown[0]}'{nearest(unknown[0], LOADER_KEYS)}")
    dataset = cfg.pop("dataset")
    if isinstance(dataset, dict):
        dataset = DATASETS.build(dataset)
    sampler = cfg.pop("sampler")
    if isinstance(sampler, dict):
        sampler = DATA_SAMPLERS.build({"seed": seed, **dict(sampler.items())}, default_args={"dataset": dataset})
    if not cfg.get("num_workers"):
        cfg = {key: value for key, value in cfg.items() if key not in ("persistent_workers", "prefetch_factor")}
    cfg["pin_memory"] = cfg.get("pin_memory", False) and torch.cuda.is_available()  # torch warns where there is no GPU
    return DataLoader(
        dataset,
        sampler=sampler,
        collate_fn=_collate_function(cfg.pop("collate_fn")),
        generator=torch.Generator().manual_seed(seed),
        worker_init_fn=_one_thread,
        **cfg,
    )


def _one_thread(worker: int) -> None:
    """Loader processes share the cores among themselves; one thread each is fastest."""
    torch.set_num_threads(1)


def _collate_function(cfg: Any) -> Any:
    """Return the function of ``dict(type=function or registered name, **arguments)``, or a function as it is."""
    if callable(cfg) and not isinstance(cfg, dict):
        return cfg
    arguments = dict(cfg.items())
    function = arguments.pop("type")
    if isinstance(function, str):
        if function not in FUNCTIONS.module_dict:
            raise KeyError(
                f"dataloader: collate_fn '{function}' is not registered (known: {', '.join(FUNCTIONS.module_dict)})"
            )
        function = FUNCTIONS.module_dict[function]
    return partial(function, **arguments) if arguments else function


@LOOPS.register_module()
class EpochLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs, begun at the batch at which a checkpoint was taken.

    The sampler is one of pcperc.datasets: ``set_epoch`` and ``skip_next`` put it where the checkpoint was, so that no
    batch is loaded only to be thrown away.
    """

    def __init__(self, runner, dataloader, max_epochs: int, val_begin: int = 1, val_interval: int = 1) -> None:
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval)
        if len(self.dataloader) == 0:
            raise ValueError(
                f"train_dataloader: {len(self.dataloader.sampler)} samples for this process make no batch of "
                f"{self.dataloader.batch_size} (drop_last={self.dataloader.drop_last})"
            )

    @property
    def batches_per_epoch(self) -> int:
        return len(self.dataloader)

    def start_at(self, *, epoch: int, iteration: int) -> None:
        """Continue with batch ``iteration - epoch * batches_per_epoch`` of ``epoch`` (all counted from 0)."""
        self._epoch, self._iter = epoch, iteration

    def run_epoch(self) -> None:
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        first = self._iter - self._epoch * self.batches_per_epoch
        sampler = self.dataloader.sampler
        sampler.set_epoch(self._epoch)
        if first:
            sampler.skip_next(first * self.dataloader.batch_size)
        for number, batch in enumerate(self.dataloader, start=first):
            self.run_iter(number, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1
