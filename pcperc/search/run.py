# SPDX-License-Identifier: Apache-2.0
"""A search from a trained super network to the front of its subnets, generation by generation."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from pcperc.engine.checkpoint import finished_checkpoint
from pcperc.engine.config import ConfigError
from pcperc.engine.data import build_test_dataset
from pcperc.engine.distributed import pick_device
from pcperc.engine.loading import LoadedCheckpoint, build_model, newest_checkpoint, open_checkpoint
from pcperc.engine.messages import say
from pcperc.engine.progress import ProgressDisplay
from pcperc.engine.training import TrainOptions, default_work_dir, train
from pcperc.files import only_writer
from pcperc.models.spvnas import SPVNAS, Subnet
from pcperc.search.costs import SubnetCosts, latency_ms
from pcperc.search.evolution import next_subnets, survivors
from pcperc.search.results import draw_front, front_of, name_of, write_front, write_subnet
from pcperc.search.scores import SubnetScores
from pcperc.search.state import COSTS, Member, SearchState


@dataclass(frozen=True)
class SearchOptions:
    """What the command line says; see tools/README.md."""

    config: Path
    checkpoint: Path | None = None
    max_gmacs: float | None = None
    max_mparams: float | None = None
    max_latency_ms: float | None = None
    population: int = 50
    generations: int = 20
    scans: int = 20
    calibration_scans: int = 8
    split: str | None = None
    work_dir: Path | None = None
    data_root: str | None = None
    resume: bool = False
    device: str | None = None
    seed: int = 0

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are given, by the name of the cost; the first is what the front is drawn over."""
        given = {name: getattr(self, f"max_{name}") for name in COSTS}
        return {name: value for name, value in given.items() if value is not None}


def search(options: SearchOptions, *, simulate: Callable[..., Any] | None = None) -> list[Member]:
    """Find the subnets that score best under the limits; write front, picture and subnets into ``<work dir>/search``.

    Where there is no trained super network yet, ``config`` is trained first.

    Args:
        simulate: as of `pcperc.engine.training.train`.
    Returns:
        The front, the cheapest first.
    Raises:
        ConfigError: no limit or one that no subnet keeps; a model that is no super network; a state of other settings.
        CheckpointError, DataMissing, DeviceError: see there.
        OSError: another process is searching into the work dir.
    """
    if not options.limits or min(options.limits.values()) <= 0:
        raise ConfigError("search: give a limit > 0: --max-gmacs, --max-mparams or --max-latency-ms")
    if min(options.population, options.scans, options.calibration_scans) < 1 or options.generations < 0:
        raise ConfigError("search: --population, --scans and --calibration-scans must be 1 or more, --generations 0")
    device = pick_device(options.device)
    work_dir = options.work_dir or default_work_dir(options.config)
    path = options.checkpoint or finished_checkpoint(work_dir)
    if path is None:
        say(f"{work_dir}: no trained super network yet, training it")
        moved = {} if options.data_root is None else {"data_root": str(options.data_root)}
        train(
            TrainOptions(options.config, work_dir=work_dir, device=options.device, overrides=moved), simulate=simulate
        )
        path = newest_checkpoint(work_dir, options.config)
    opened = open_checkpoint(path, options.config, data_root=options.data_root)
    with only_writer(work_dir / "search", "searching"):  # one state, one front
        return Search(options, opened, device, work_dir / "search").run()


class Search:
    """One search, from its options and a super network."""

    def __init__(self, options: SearchOptions, supernet: LoadedCheckpoint, device: torch.device, folder: Path):
        self.options, self.supernet, self.folder = options, supernet, folder
        model = build_model(supernet, device)
        self.net = getattr(model, "backbone", None)
        if not isinstance(self.net, SPVNAS):
            raise ConfigError(f"{supernet.path}: must be of a super network, got {type(self.net).__name__}")
        test_split, train_split = (
            supernet.cfg[loader]["dataset"]["split"] for loader in ("test_dataloader", "train_dataloader")
        )
        self.split = options.split or test_split
        if self.split == test_split:
            say(f"note: subnets are chosen by their scores on {self.split}; report a score on other scans")
        self.simulated = "simulated data: " if supernet.simulated or "sim" in self.split else ""
        self.limits = options.limits
        self.state = self._state()
        scans = _scans(supernet, self.split, options.scans)
        calibration = _scans(supernet, train_split, options.calibration_scans)
        num_classes = self.net.head_options["num_classes"]
        self.scores = SubnetScores(model.data_preprocessor, calibration, scans, num_classes)
        self.costs = SubnetCosts(self.net, self.scores.points)

    def run(self) -> list[Member]:
        """Run the generations that are not done; return the front."""
        options, state = self.options, self.state
        if not self._is_allowed(self.net.smallest()):
            raise ConfigError(f"search: no subnet keeps {self.limits}; the smallest has {self._smallest()}")
        total = options.population * (1 + options.generations)
        with ProgressDisplay("searching", total, done=len(state.members)) as display:
            while state.generation <= options.generations:
                self._run_generation(display)
                state.save(self.path)
        return self._finish()

    @property
    def path(self) -> Path:
        """File of the state."""
        return self.folder / "state.json"

    def _state(self) -> SearchState:
        options = self.options
        settings = {
            **{name: getattr(options, name) for name in ("population", "generations", "scans", "calibration_scans")},
            **{"limits": self.limits, "seed": options.seed, "split": self.split},
            "super_network": hashlib.sha256(self.supernet.path.read_bytes()).hexdigest(),
        }
        if not self.path.is_file():
            return SearchState(settings)
        if not options.resume:
            raise ConfigError(f"{self.path}: is of an earlier search; --resume goes on with it, --work-dir keeps it")
        state = SearchState.load(self.path, settings)
        say(f"resuming {self.path} after {state.generation} generations")
        return state

    def _run_generation(self, display: ProgressDisplay) -> None:
        """Score new subnets, the first time drawn ones, then children of the population, and keep the best of all.

        Its random numbers depend on seed and generation alone, so that a search that was killed goes on as it would.
        """
        state, cost = self.state, next(iter(self.limits))
        rng = np.random.default_rng((self.options.seed, state.generation))
        subnets = next_subnets(
            [state.members[index].subnet for index in state.population],
            self.net.space,
            rng,
            count=self.options.population,
            known={member.subnet for member in state.members},
            is_allowed=self._is_allowed,
        )
        for subnet in subnets:
            state.members.append(self._scored(subnet))
            display.advance(f"mIoU {state.members[-1].miou:.3f}, generation {state.generation}")
        living = [*state.population, *range(len(state.members) - len(subnets), len(state.members))]
        costs, scores = ([getattr(state.members[i], name) for i in living] for name in (cost, "miou"))
        state.population = [living[i] for i in survivors(costs, scores, self.options.population)]
        state.generation += 1

    def _is_allowed(self, subnet: Subnet) -> bool:
        """Look at the cheapest cost to find first."""
        if self.costs.mparams(subnet) > self.limits.get("mparams", float("inf")):
            return False
        if "gmacs" in self.limits and self.costs.gmacs(subnet) > self.limits["gmacs"]:
            return False
        return "latency_ms" not in self.limits or self._latency(subnet) <= self.limits["latency_ms"]

    def _scored(self, subnet: Subnet) -> Member:
        net = self.scores.calibrate(self.net.extract(subnet))
        latency = self._latency(subnet) if "latency_ms" in self.limits else None
        costs = (self.costs.gmacs(subnet), self.costs.mparams(subnet), latency)
        return Member(subnet, self.state.generation, self.scores(net), *costs)

    def _latency(self, subnet: Subnet) -> float:
        return latency_ms(self.net.extract(subnet), self.scores.points[0])

    def _smallest(self) -> str:
        smallest = self.net.smallest()
        found = {"gmacs": self.costs.gmacs, "mparams": self.costs.mparams, "latency_ms": self._latency}
        return ", ".join(f"{name} {found[name](smallest):.3g}" for name in self.limits)

    def _finish(self) -> list[Member]:
        cost = next(iter(self.limits))
        front = front_of(self.state.members, cost)
        limits = ", ".join(f"{name} <= {value:g}" for name, value in self.limits.items())
        title = f"{self.simulated}{len(self.state.members)} subnets scored on {self.split}, {limits}"
        for number, member in enumerate(front):
            net = self.scores.calibrate(self.net.extract(member.subnet))
            write_subnet(self.folder / "front", name_of(number), member.subnet, net, self.supernet)
            if member.latency_ms is None:
                front[number] = replace(member, latency_ms=self._latency(member.subnet))
        draw_front(self.folder / "front.png", self.state.members, front, cost, title=title)
        write_front(self.folder, front, title=title)
        say(f"front, picture and subnets: {self.folder}")
        return front


def _scans(supernet: LoadedCheckpoint, split: str, count: int) -> list[dict]:
    """Return at most ``count`` samples, spread evenly over a split, as they are tested."""
    dataset = build_test_dataset(Config(copy.deepcopy(dict(supernet.cfg.items()))), split)
    indices = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    return [dataset[int(index)] for index in indices]
