# SPDX-License-Identifier: Apache-2.0
"""tools/compare_clusterers.py: networks of calorimeter hits trained alike, scored on the same events, timed."""

import json
import math
from collections.abc import Callable
from typing import Any

import torch

from pcperc.benchmark.clusterer_events import compare_events
from pcperc.benchmark.clusterer_options import CompareOptions, check_options
from pcperc.benchmark.clusterer_report import format_comparison
from pcperc.benchmark.clusterer_trainings import Trials, scored_rows, training_at, training_folder
from pcperc.benchmark.hits import load_network, time_batches
from pcperc.benchmark.jobs import JobQueue, devices_of_jobs, require_none
from pcperc.benchmark.report import environment
from pcperc.benchmark.training_jobs import Training
from pcperc.datasets import CalorimeterHits
from pcperc.engine.checkpoint import finished_checkpoint
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.data import provide_data
from pcperc.engine.distributed import pick_device
from pcperc.engine.memory import keep_freed_memory
from pcperc.engine.messages import say
from pcperc.files import only_writer, write_text

RESULTS_NAME = "comparison.json"
CPU_RUNS = 2
TIMED_EVENTS = 8


def compare_clusterers(options: CompareOptions, *, simulate: Callable[..., Any]) -> dict:
    """Train each config with each seed and score it on its test split, then time each; what is finished is kept.

    Of several rates each network is trained at each with the first seed, and the one that scores best on
    ``options.rates_split`` is taken for all of its seeds; that training is the first seed's. Nothing else is chosen by
    a score, and nothing by one on the test split: the epoch that is scored is the last. The events of all splits are
    those of the data set's own seed. Trainings and tests are runs of tools, ``options.jobs`` side by side; the speeds
    are taken in this process when none runs any more.

    Returns:
        What is written to comparison.json in the work dir, after the scores and after the speeds of each network.
    Raises:
        ConfigError: options out of range; a network in the work dir was trained with another config or other options;
            the events that choose a rate are trained or tested on.
        RuntimeError: a run failed; all others were done, and what there is was printed and written. A network with a
            trial that failed has no rate, and nothing but its trials.
    """
    check_options(options)
    device = pick_device(options.device)
    with only_writer(options.work_dir, "comparing"):
        trials = [Trials(options, config) for config in options.configs]
        for each in trials:  # before several runs would each simulate it
            cfg = load_config(each.config, dict(options.trained_with))
            provide_data(cfg, simulate, overrides=options.overrides)
            each.check_split(cfg)
        queue = JobQueue(devices_of_jobs(options.device, device), options.jobs, options.work_dir / "logs")
        queue.run([job for each in trials for job in each.jobs()])
        rates = {each.config: each.rate() for each in trials if each.are_scored()}
        for config in [config for config in options.configs if config not in rates]:
            say(f"{config.stem}: no rate is chosen, for want of a trial; --rates without one that diverges goes on")
        trainings = [training_at(options, config, seed, rates[config]) for seed in options.seeds for config in rates]
        # Those of one network in turn over the devices: they take alike long, and no device has all of the slower one.
        in_turn = sorted(trainings, key=lambda training: options.configs.index(training.config))
        failed = queue.run([job for training in in_turn for job in training.jobs()])
        found: dict[str, Any] = {"environment": environment(device), "overrides": options.trained_with}
        found |= {"amp": options.amp, "side_by_side": options.jobs, "speed": []}
        found["trials"] = [row for each in trials for row in each.rows(queue.seconds)]
        found["runs"] = [row for training in trainings for row in scored_rows(training, queue.seconds)]
        _write(options, found)
        for training in trainings[: len(rates)]:  # of the first seed
            if training.checkpoint() is not None:
                for where in dict.fromkeys((device, torch.device("cpu"))):
                    found["speed"] += _speed(options, training, where)
                    _write(options, found)
        say(format_comparison(found))
    require_none(failed)
    return found


def compare_speed(options: CompareOptions) -> dict:
    """Time the network of the first config and the first seed, trained before, on the files ``options.events``.

    Of several rates it is the one that was chosen. See `compare_events` for what is returned.

    Raises:
        ConfigError: options out of range; it is not trained, or not clustered by condensation.
        FileNotFoundError, ValueError: as of `read_event`.
        OSError: another process is comparing in the work dir.
    """
    check_options(options)
    trials = Trials(options, options.configs[0])
    if not trials.are_scored():
        name = trials.config.stem
        raise ConfigError(f"{options.work_dir}: no rate of {name} is chosen; the same command without --events does it")
    folder = training_folder(options, trials.config, options.seeds[0], trials.rate())
    checkpoint = finished_checkpoint(folder)
    if checkpoint is None:
        raise ConfigError(f"{folder}: no finished training; the same command without --events makes one")
    devices = list(dict.fromkeys((pick_device(options.device), torch.device("cpu"))))
    with only_writer(options.work_dir, "comparing"):
        return compare_events(checkpoint, options.events, devices, runs=options.runs, work_dir=options.work_dir)


def _write(options: CompareOptions, found: dict) -> None:
    write_text(options.work_dir / RESULTS_NAME, json.dumps(found, indent=1, default=str))


def _speed(options: CompareOptions, training: Training, device: torch.device) -> list[dict]:
    """Time a network on the same test events, `TIMED_EVENTS` or one batch, at each batch size."""
    cfg = load_config(training.config, dict(options.overrides))
    dataset = CalorimeterHits(root=cfg.data_root, split=cfg.test_dataloader.dataset["split"])
    events = [sample["hits"] for sample in map(dataset.read_sample, range(len(dataset)))]
    most, runs, facts = max(map(len, events)), options.runs, {}
    if device.type == "cpu":
        keep_freed_memory()
        runs, facts = min(options.runs, CPU_RUNS), {"threads": torch.get_num_threads()}
    rows = []
    for how in ("eager", "graph") if device.type == "cuda" else ("eager",):
        for batch in options.batches:
            # As one who does not know the events beforehand would: with room for the largest of each.
            model = load_network(training.trained(), device, cuda_graph=batch * most if how == "graph" else None)
            count = math.ceil(TIMED_EVENTS / batch) * batch
            some = [events[index % len(events)] for index in range(count)]
            batches = [some[start : start + batch] for start in range(0, count, batch)]
            row = {"network": training.config.stem, "device": device.type, "how": how, "batch": batch, **facts}
            rows.append(row | time_batches(model, batches, device=device, runs=runs))
    return rows
