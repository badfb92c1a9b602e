# SPDX-License-Identifier: Apache-2.0
"""tools/compare_detectors.py: the BEVFusion family trained at full size on simulated scenes, scored and tracked."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from pcperc.benchmark.detector_claims import verdicts
from pcperc.benchmark.detector_options import CompareOptions, check_options
from pcperc.benchmark.detector_report import format_comparison
from pcperc.benchmark.detector_tracking import Tracked, tracked_boxes
from pcperc.benchmark.jobs import Job, JobQueue, devices_of_jobs, num_cores, require_none
from pcperc.benchmark.report import environment
from pcperc.benchmark.scores import Test
from pcperc.benchmark.training_jobs import Training
from pcperc.engine.config import load_config
from pcperc.engine.data import provide_data
from pcperc.engine.distributed import pick_device
from pcperc.engine.messages import say
from pcperc.engine.recipe import first_stages
from pcperc.evaluation.nuscenes_tracking import require_tracking_devkit
from pcperc.files import only_writer, write_text
from pcperc.registry import MODELS

RESULTS_NAME = "comparison.json"


@dataclass(frozen=True)
class Network:
    """A network of the family, its trainings by seed."""

    name: str
    cfg: Config
    stages: tuple["Network", ...]  # whose weights it begins with
    trainings: dict[int, Training]

    @cached_property
    def parameters(self) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in MODELS.build(self.cfg.model).parameters())


def compare_detectors(options: CompareOptions, *, simulate: Callable[..., Any]) -> dict:
    """Train, score and track what is not finished in the work dir; print the tables and the claims.

    Nothing is chosen by a score: each network is trained once a seed as its config says, and the last epoch is scored.
    A stage that several networks begin with is trained once a seed and handed to all of them. Trainings, tests and
    tracking are runs of tools, ``options.jobs`` side by side. The data set is made and prepared before them.

    Returns:
        What is written to comparison.json in the work dir, after each run that ends: where this is stopped or killed,
        what is finished is there.
    Raises:
        ConfigError: options out of range; something in the work dir was made with other options.
        ImportError: what scores tracks is not installed.
        RuntimeError: a run failed; all others were done, and what there is was printed and written.
    """
    check_options(options)
    device = pick_device(options.device)
    if "tracking" in options.parts:
        require_tracking_devkit()
    with only_writer(options.work_dir, "comparing"):
        networks = list(_networks(options).values())
        _provide_data(options, [network.cfg for network in networks], simulate)
        trainings = [(network.name, training) for network in networks for training in network.trainings.values()]
        cfgs = {network.name: network.cfg for network in networks}
        tracked = list(tracked_boxes(options, trainings, cfgs)) if "tracking" in options.parts else []
        queue = JobQueue(devices_of_jobs(options.device, device), options.jobs, options.work_dir / "logs")
        write = partial(_write_found, options, _facts(options, device, networks), networks, tracked, queue.seconds)
        try:
            failed = queue.run(list(_jobs(trainings, tracked)), after_each=write)
        except KeyboardInterrupt:
            say(format_comparison(write()))
            raise
        found = write()
        say(format_comparison(found))
    require_none(failed)
    return found


def _networks(options: CompareOptions) -> dict[str, Network]:
    """Return the networks of the parts and the first stages that they need, by name, in the order of ``configs``.

    A stage that is none of ``configs`` has the name of its config and is not scored.
    """
    tests, found = options.tests(), {}
    names = {path.resolve(): name for name, path in options.configs.items()}

    def add(name: str, path: Path) -> Network:
        if name not in found:
            cfg = load_config(path, dict(options.overrides))
            files = [] if cfg.get("load_from") else [path.parent / stage for stage in first_stages(cfg, path).values()]
            stages = tuple(add(names.get(file.resolve(), file.stem), file) for file in files)
            trainings = {
                seed: _training(options, name, path, seed, tests.get(name, ()), stages) for seed in options.seeds
            }
            found[name] = Network(name, cfg, stages, trainings)
        return found[name]

    for name in tests:
        add(name, options.configs[name])
    others = [name for name in found if name not in options.configs]
    return {name: found[name] for name in (*others, *options.configs) if name in found}


def _training(
    options: CompareOptions, name: str, path: Path, seed: int, tests: tuple[Test, ...], stages: Sequence[Network]
) -> Training:
    before = [stage.trainings[seed] for stage in stages]
    how = {"amp": options.amp, "side_by_side": options.jobs, "start": tuple(training.trained for training in before)}
    needs = tuple(training.name for training in before)
    return Training(path, options.work_dir / f"{name}_seed{seed}", seed, options.overrides, tests, needs=needs, **how)


def _provide_data(options: CompareOptions, cfgs: Sequence[Config], simulate: Callable[..., Any]) -> None:
    """Simulate and prepare what the configs ask for, before several runs would each do it."""
    seen = set()
    for cfg in cfgs:
        needs = Config(dict(cfg.items()))
        if cfg.get("data_root") in seen:  # made or looked at already: prepared for this one, too
            needs.pop("simulation", None)
        seen.add(cfg.get("data_root"))
        provide_data(needs, simulate, overrides=options.overrides)


def _jobs(trainings: Sequence[tuple[str, Training]], tracked: Sequence[Tracked]) -> Iterator[Job]:
    """Each job begins once what it needs is there, earlier ones first: tracking, which takes no place of trainings."""
    for run in tracked:
        yield run.job()
    for _, training in trainings:
        yield from training.jobs()


def _facts(options: CompareOptions, device: torch.device, networks: Sequence[Network]) -> dict[str, Any]:
    """What comparison.json says of this call and of the data, whatever is finished."""
    facts = {"devices": devices_of_jobs(options.device, device), "cores": num_cores()}
    found: dict[str, Any] = {"environment": environment(device) | facts, "options": asdict(options)}
    return found | {"data": {network.cfg.data_root: network.cfg.get("simulation") for network in networks}}


def _write_found(
    options: CompareOptions,
    facts: dict[str, Any],
    networks: Sequence[Network],
    tracked: Sequence[Tracked],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Write all that is finished to comparison.json; return it as plain values."""
    found = dict(facts)
    found["rows"] = [row for network in networks for row in _rows(network, seconds)]
    found["tracking"] = [row for run in tracked if (row := run.row()) is not None]
    found["verdicts"] = verdicts(found["rows"], found["tracking"])
    write_text(options.work_dir / RESULTS_NAME, json.dumps(found, indent=1, default=str))
    return found


def _rows(network: Network, seconds: dict[str, float]) -> Iterator[dict[str, Any]]:
    """One row for each test of each training that is there; its times are of this call's runs, beside others."""
    for seed, training in network.trainings.items():
        for test in training.tests:
            scores = training.scores(test)
            if scores is None:
                continue
            row = {"network": network.name, "seed": seed, "blank_images": test.blank_images}
            row |= {"config": str(training.config), "checkpoint": str(training.checkpoint())}
            row |= {"parameters": network.parameters, "iterations": training.iterations(), "scores": scores}
            row["first_stages"] = {stage.name: stage.trainings[seed].iterations() for stage in network.stages}
            names = {"train_s": training.name, "test_s": training.test_name(test)}
            yield row | {key: seconds.get(name) for key, name in names.items()}
