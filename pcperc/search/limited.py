# SPDX-License-Identifier: Apache-2.0
"""The subnets of a super network within limits: what they cost, and how well they do as they are."""

import copy
import hashlib
from typing import Any

import torch
from mmengine.config import Config

from pcperc.engine.config import ConfigError
from pcperc.engine.data import build_test_dataset, is_simulated, spread
from pcperc.engine.loading import LoadedCheckpoint, build_model
from pcperc.models.spvnas import SPVNAS, Subnet
from pcperc.search.costs import SubnetCosts, latency_ms
from pcperc.search.scores import SubnetScores
from pcperc.search.state import COSTS, Member


class LimitedSubnets:
    """Subnets on some scans of a split: there they are scored, multiply-adds are counted and times are taken.

    Args:
        supernet: a trained super network.
        limits: name of a cost to its largest value; the first is what a front is drawn over.
        split: None is the one that the super network's config tests on.
        scans, calibration_scans: how many of the split are scored, and how many of the training split measure norms.
        half: whether subnets are scored in half precision, float16 on a GPU and bfloat16 on a CPU.
    Raises:
        ConfigError: no super network, or limits that no subnet keeps.
    """

    def __init__(
        self,
        supernet: LoadedCheckpoint,
        device: torch.device,
        *,
        limits: dict[str, float],
        split: str | None,
        scans: int,
        calibration_scans: int,
        half: bool = False,
    ):
        model = build_model(supernet, device)
        self.net = getattr(model, "backbone", None)
        if not isinstance(self.net, SPVNAS):
            raise ConfigError(f"{supernet.path}: must be of a super network, got {type(self.net).__name__}")
        test_split, train_split = (
            supernet.cfg[loader]["dataset"]["split"] for loader in ("test_dataloader", "train_dataloader")
        )
        self.supernet, self.limits, self.half = supernet, limits, half
        self.split, self.is_test_split = split or test_split, split in (None, test_split)
        self.simulated = "simulated data: " if supernet.simulated or is_simulated(supernet.cfg) else ""
        # What the results follow from, for files of results.
        self.settings: dict[str, Any] = {"scans": scans, "calibration_scans": calibration_scans, "amp": half}
        self.settings |= {"limits": limits, "split": self.split}
        self.settings |= {"super_network": hashlib.sha256(supernet.path.read_bytes()).hexdigest()}
        num_classes = self.net.head_options["num_classes"]
        calibration = _scans(supernet, train_split, calibration_scans)
        self.scores = SubnetScores(
            model.data_preprocessor, calibration, _scans(supernet, self.split, scans), num_classes
        )
        self.costs = SubnetCosts(self.net, self.scores.points)
        if not self.is_allowed(self.net.smallest()):
            raise ConfigError(f"search: no subnet keeps {limits}; the smallest has {self._smallest()}")

    @property
    def first_cost(self) -> str:
        """Name of the cost that is limited first."""
        return next(iter(self.limits))

    @property
    def limits_text(self) -> str:
        return ", ".join(f"{name} <= {value:g}" for name, value in self.limits.items())

    def is_allowed(self, subnet: Subnet) -> bool:
        return all(self.cost(name, subnet) <= self.limits[name] for name in COSTS if name in self.limits)  # time last

    def cost(self, name: str, subnet: Subnet) -> float:
        """Return one of the costs, by its name in `pcperc.search.state.COSTS`."""
        return {"gmacs": self.costs.gmacs, "mparams": self.costs.mparams, "latency_ms": self.latency}[name](subnet)

    def scored(self, subnet: Subnet, generation: int) -> Member:
        net = self.scores.calibrate(self.net.extract(subnet), half=self.half)
        latency = self.latency(subnet) if "latency_ms" in self.limits else None
        costs = (self.costs.gmacs(subnet), self.costs.mparams(subnet), latency)
        return Member(subnet, generation, self.scores(net, half=self.half), *costs)

    def latency(self, subnet: Subnet) -> float:
        return latency_ms(self.net.extract(subnet), self.scores.first)

    def _smallest(self) -> str:
        smallest = self.net.smallest()
        return ", ".join(f"{name} {self.cost(name, smallest):.3g}" for name in self.limits)


def _scans(supernet: LoadedCheckpoint, split: str, count: int) -> list[dict]:
    """Return at most ``count`` samples, spread evenly over a split, as they are tested."""
    dataset = build_test_dataset(Config(copy.deepcopy(dict(supernet.cfg.items()))), split)
    return [dataset[index] for index in spread(len(dataset), count)]
