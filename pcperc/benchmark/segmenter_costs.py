# SPDX-License-Identifier: Apache-2.0
"""Multiply-adds of segmentation networks on whole splits, and the width at which a network has as many as another."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from mmengine.config import Config
from torch import nn

from pcperc.benchmark.macs import count_macs, count_parameters
from pcperc.datasets import collate
from pcperc.engine.config import ConfigError
from pcperc.engine.data import build_test_dataset, spread
from pcperc.models import SPVCNN
from pcperc.models.spvnas import Subnet
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor

WIDTH_STEPS = 1000  # widths are multiples of 1 / 1000
NARROWEST = 32  # of these steps: one channel in the stem


@dataclass(frozen=True)
class Cost:
    """Of one network: 10^9 multiply-adds a scan, the mean over a split, and 10^6 parameters."""

    gmacs: float
    mparams: float


@dataclass(frozen=True)
class SplitCosts:
    """Costs on the scans of one split, from their kernel maps, which all networks share.

    Args:
        cfg: of a segmentor; its preprocessor reads the scans.
        split: of its data set.
        device: where the scans stay and the networks run.
        most: so many scans, spread over the split as tools/search.py spreads its own; None is all.
    """

    cfg: Config
    split: str
    device: torch.device
    most: int | None = None
    _of_subnets: dict[Subnet, Cost] = field(default_factory=dict, init=False, compare=False)

    @cached_property
    def scans(self) -> list[PointTensor]:
        """What a network reads of each scan."""
        dataset = build_test_dataset(Config(copy.deepcopy(dict(self.cfg.items()))), self.split)
        preprocessor = MODELS.build(self.cfg.model["data_preprocessor"]).to(self.device)
        indices = spread(len(dataset), len(dataset) if self.most is None else self.most)
        batches = (preprocessor(collate([dataset[index]]), False) for index in indices)
        return [batch["inputs"]["prepared"].points for batch in batches]

    def of(self, net: nn.Module) -> Cost:
        """Return the costs of a network of points with any weights."""
        macs = sum(count_macs(net, scan).macs for scan in self.scans)
        return Cost(macs / len(self.scans) / 1e9, count_parameters(net) / 1e6)

    def of_config(self, cfg: Config, *, width: float | None = None) -> Cost:
        """Return the costs of the backbone of a config, a MinkUNet at ``width`` where that is given."""
        backbone = copy.deepcopy(cfg.model["backbone"])
        if width is not None:
            backbone["net"]["width"] = width
        with self.device:
            return self.of(MODELS.build(backbone))

    def of_subnet(self, subnet: Subnet) -> Cost:
        """Return the costs of a subnet as a network of its own."""
        if subnet not in self._of_subnets:  # several limits ask for the same ones, a pass over the split each
            classes, columns = self.cfg.model["backbone"]["num_classes"], self.scans[0].num_channels
            with self.device:
                self._of_subnets[subnet] = self.of(SPVCNN(columns, classes, **subnet.options))
        return self._of_subnets[subnet]


def width_with_cost(target: float, cost_at: Callable[[float], float]) -> float:
    """Return the width, a multiple of 1/1000 up to 1, whose cost is nearest to ``target``; of two the smaller.

    Args:
        cost_at: what a network of that width costs; it does not fall with the width. It is called some 11 times.
    Raises:
        ConfigError: the narrowest network costs more.
    """
    low, high = NARROWEST, WIDTH_STEPS  # the cost at low is at most the target, unless low is the narrowest
    costs = {step: cost_at(step / WIDTH_STEPS) for step in (low, high)}
    if costs[low] > target:
        narrowest = f"the narrowest, {low / WIDTH_STEPS:g}, has {costs[low]:.4g}"
        raise ConfigError(f"compare: no width has as little as {target:.4g}; {narrowest}")
    while high - low > 1:
        middle = (low + high) // 2
        costs[middle] = cost_at(middle / WIDTH_STEPS)
        low, high = (middle, high) if costs[middle] <= target else (low, middle)
    best = min((low, high), key=lambda step: (abs(costs[step] - target), step))
    return best / WIDTH_STEPS
