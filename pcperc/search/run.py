# SPDX-License-Identifier: Apache-2.0
"""A search from a trained super network to the front of its subnets, generation by generation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pcperc.engine.checkpoint import finished_checkpoint
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.distributed import pick_device
from pcperc.engine.loading import newest_checkpoint, open_checkpoint
from pcperc.engine.messages import say
from pcperc.engine.progress import ProgressDisplay
from pcperc.engine.training import TrainOptions, default_work_dir, train
from pcperc.files import only_writer
from pcperc.models.spvnas import SPVNAS
from pcperc.registry import MODELS, resolve_type
from pcperc.search.evolution import next_subnets, survivors
from pcperc.search.limited import LimitedSubnets
from pcperc.search.random_subnets import score_random_subnets
from pcperc.search.results import draw_front, front_of, name_of, write_members, write_subnet
from pcperc.search.state import COSTS, Member, SearchState


@dataclass(frozen=True)
class SearchOptions:
    """What the command line says; see tools/README.md. Without ``config`` the checkpoint's own is taken."""

    config: Path | None
    checkpoint: Path | None = None
    max_gmacs: float | None = None
    max_mparams: float | None = None
    max_latency_ms: float | None = None
    population: int = 50
    generations: int = 20
    scans: int = 20
    calibration_scans: int = 8
    split: str | None = None
    amp: bool = False
    random: int = 0  # subnets that are drawn and scored instead of a search
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

    Where there is no trained super network yet, ``config`` is trained first. With ``options.random`` there is no
    search: so many subnets are drawn at the limit and scored, see `score_random_subnets`.

    Args:
        simulate: as of `pcperc.engine.training.train`.
    Returns:
        The front, the cheapest first; the drawn subnets.
    Raises:
        ConfigError: no limit or one that no subnet keeps; a model that is no super network, said before it is trained;
            a state of other settings.
        CheckpointError, DataMissing, DeviceError: see there.
        OSError: another process is searching into the work dir.
    """
    if not options.limits or min(options.limits.values()) <= 0:
        raise ConfigError("search: give a limit > 0: --max-gmacs, --max-mparams or --max-latency-ms")
    if min(options.population, options.scans, options.calibration_scans) < 1 or options.generations < 0:
        raise ConfigError("search: --population, --scans and --calibration-scans must be 1 or more, --generations 0")
    if options.random < 0 or (options.random and options.resume):
        raise ConfigError("search: --random must be 1 or more, and is no search that --resume could go on with")
    device = pick_device(options.device)
    if options.config is None and options.checkpoint is None:
        raise ConfigError("search: give a config, or a checkpoint, which brings its own")
    own = options.checkpoint.parent if options.config is None else default_work_dir(options.config)
    work_dir = options.work_dir or own
    path = options.checkpoint or finished_checkpoint(work_dir)
    if path is None:
        path = _train_super_network(options, work_dir, simulate)
    opened = open_checkpoint(path, options.config, data_root=options.data_root)
    folder = work_dir / "search"
    with only_writer(folder, "searching"):  # one state, one front
        subnets = LimitedSubnets(
            opened,
            device,
            limits=options.limits,
            split=options.split,
            scans=options.scans,
            calibration_scans=options.calibration_scans,
            half=options.amp,
        )
        if options.random:
            try:
                return score_random_subnets(subnets, folder, count=options.random, seed=options.seed)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("stopped; random.json is written once all are scored") from None
        return Search(options, subnets, folder).run()


def _train_super_network(options: SearchOptions, work_dir: Path, simulate: Callable[..., Any] | None) -> Path:
    """Train ``options.config`` whole, saying beforehand what is to come, and return the checkpoint.

    Raises:
        ConfigError: its model is no super network; training it would be in vain.
    """
    cfg = load_config(options.config)
    backbone = cfg["model"].get("backbone", {}).get("type")
    kind = None if backbone is None else resolve_type(backbone, MODELS)
    if not (isinstance(kind, type) and issubclass(kind, SPVNAS)):
        got = "no backbone" if kind is None else kind.__name__
        raise ConfigError(f"{options.config}: model must be a super network (spvnas_supernet*.py), has {got}")
    then = f"{options.random} random subnets are scored" if options.random else "the search begins"
    moved = {} if options.data_root is None else {"data_root": str(options.data_root)}
    told = "".join(f" --cfg-options {key}={value}" for key, value in moved.items())
    say(
        f"{work_dir} has no trained super network, and no CHECKPOINT is given: {options.config} is trained first; how "
        f"long that takes stands below once it runs. Then {then}. If it is stopped, tools/train.py {options.config} "
        f"--work-dir {work_dir} --resume{told} goes on with the training"
    )
    train(TrainOptions(options.config, work_dir=work_dir, device=options.device, overrides=moved), simulate=simulate)
    return newest_checkpoint(work_dir, options.config)


class Search:
    """One search, from its options and the subnets within their limits."""

    def __init__(self, options: SearchOptions, subnets: LimitedSubnets, folder: Path):
        self.options, self.subnets, self.folder = options, subnets, folder
        if subnets.is_test_split:
            say(f"note: subnets are chosen by their scores on {subnets.split}; report a score on other scans")
        self.state = self._state()

    def run(self) -> list[Member]:
        """Run the generations that are not done; return the front."""
        options, state = self.options, self.state
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
        settings = {name: getattr(options, name) for name in ("population", "generations", "seed")}
        settings |= self.subnets.settings
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
        state, cost = self.state, self.subnets.first_cost
        rng = np.random.default_rng((self.options.seed, state.generation))
        subnets = next_subnets(
            [state.members[index].subnet for index in state.population],
            self.subnets.net.space,
            rng,
            count=self.options.population,
            known={member.subnet for member in state.members},
            is_allowed=self.subnets.is_allowed,
        )
        for subnet in subnets:
            state.members.append(self.subnets.scored(subnet, state.generation))
            display.advance(f"mIoU {state.members[-1].miou:.3f}, generation {state.generation}")
        living = [*state.population, *range(len(state.members) - len(subnets), len(state.members))]
        costs, scores = ([getattr(state.members[i], name) for i in living] for name in (cost, "miou"))
        state.population = [living[i] for i in survivors(costs, scores, self.options.population)]
        state.generation += 1

    def _finish(self) -> list[Member]:
        subnets, cost = self.subnets, self.subnets.first_cost
        front = front_of(self.state.members, cost)
        count = len(self.state.members)
        title = f"{subnets.simulated}{count} subnets scored on {subnets.split}, {subnets.limits_text}"
        for number, member in enumerate(front):
            net = subnets.scores.calibrate(subnets.net.extract(member.subnet))
            write_subnet(self.folder / "front", name_of(number), member.subnet, net, subnets.supernet)
            if member.latency_ms is None:
                front[number] = replace(member, latency_ms=subnets.latency(member.subnet))
        draw_front(self.folder / "front.png", self.state.members, front, cost, title=title)
        write_members(self.folder, "front", front, title=title, settings=self.state.settings)
        say(f"front, picture and subnets: {self.folder}")
        return front
