# SPDX-License-Identifier: Apache-2.0
"""A small model and data set with everything that can go wrong in a resumed run: dropout, batch norm, random data."""

import os
import random
import signal

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import FUNCTIONS
from torch import nn

from pcperc.datasets.sampling import SampleKey
from pcperc.registry import DATASETS, METRICS, MODELS


@MODELS.register_module()
class ToyModel(BaseModel):
    """Regress the sum of four numbers; draws from all of torch's, numpy's and Python's generators while training."""

    def __init__(self, width: int = 8, dropout: float = 0.2, noise: float = 0.01) -> None:
        super().__init__()
        self.noise = noise
        self.layers = nn.Sequential(
            nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1)
        )

    def forward(self, inputs, targets, mode="tensor"):
        if mode == "loss" and self.noise:
            inputs = inputs + self.noise * (float(np.random.rand()) + random.random())
        predicted = self.layers(inputs)[:, 0]
        if mode == "loss":
            return {"loss_square": (predicted - targets).square().mean()}
        return list(predicted)


@DATASETS.register_module()
class ToyDataset:
    """``size`` samples whose noise depends on the sampler's key alone.

    Args:
        kill_at: number of the sample read in this process at which it kills itself, once, where ``kill_marker`` (a
            file) does not exist yet.
        nan_at: index of a sample that is NaN.
        read_log: file to which every index that is read is appended.
    """

    def __init__(self, size=40, kill_at=None, kill_marker=None, kill_rank=0, nan_at=None, read_log=None) -> None:
        self.size, self.kill_at, self.kill_marker, self.kill_rank = size, kill_at, kill_marker, kill_rank
        self.nan_at, self.read_log = nan_at, read_log
        self.reads = 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key):
        key = SampleKey.of(key)
        self.reads += 1
        if self.reads == self.kill_at and int(os.environ.get("RANK", 0)) == self.kill_rank:
            if not os.path.exists(self.kill_marker):
                with open(self.kill_marker, "w"):
                    pass
                os.kill(os.getpid(), signal.SIGKILL)
        if self.read_log:
            with open(self.read_log, "a") as file:
                file.write(f"{key.epoch} {key.index}\n")
        inputs = np.random.default_rng(key.index).normal(size=4) + 0.1 * key.rng().normal(size=4)
        if key.index == self.nan_at:
            inputs[:] = np.nan
        return {"inputs": inputs.astype(np.float32), "targets": np.float32(inputs.sum())}


@FUNCTIONS.register_module()
def toy_collate(samples):
    return {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in ("inputs", "targets")}


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """Mean absolute prediction."""

    default_prefix = "toy"

    def process(self, data_batch, data_samples) -> None:
        self.results += [float(p) for p in data_samples]

    def compute_metrics(self, results) -> dict:
        return {"mean": float(np.mean(np.abs(results)))}
