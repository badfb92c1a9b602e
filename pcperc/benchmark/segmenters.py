# SPDX-License-Identifier: Apache-2.0
"""tools/compare_segmenters.py: MinkUNet, SPVCNN and a searched SPVNAS trained alike and scored on the same scans."""

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from pcperc.benchmark.jobs import Job, JobQueue, devices_of_jobs, require_none
from pcperc.benchmark.report import environment
from pcperc.benchmark.scores import Test
from pcperc.benchmark.segmenter_costs import Cost, SplitCosts, width_with_cost
from pcperc.benchmark.segmenter_frames import compare_frames
from pcperc.benchmark.segmenter_options import CompareOptions, check_options
from pcperc.benchmark.segmenter_report import format_comparison, verdicts
from pcperc.benchmark.segmenter_search import Chosen, Search
from pcperc.benchmark.training_jobs import Training
from pcperc.engine.checkpoint import finished_checkpoint
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.data import provide_data
from pcperc.engine.distributed import pick_device
from pcperc.engine.messages import say
from pcperc.files import only_writer, write_text

RESULTS_NAME = "comparison.json"
TEST = Test(("semantickitti",))
SHARE = 0.2  # of MinkUNet's multiply-adds, for the searched network
SEARCH_SCANS = 20  # that each subnet of a search is scored on, from all sequences of the split


@dataclass(frozen=True)
class Costs:
    """What is counted before anything is trained."""

    scored: SplitCosts
    minkunet: Cost
    spvcnn: Cost
    scaled: Cost  # MinkUNet at ``width``
    width: float
    limit: float  # GMACs of the searched network on the scored scans
    search_limit: float  # the same share of MinkUNet's on the scans of the search
    search_scans: int


@dataclass(frozen=True)
class SeedRuns:
    """All runs of one seed, in the order in which they should begin."""

    supernet: Training
    search: Search
    subnet: Training
    minkunet: Training
    spvcnn: Training
    scaled: Training
    random: Search
    searched: Callable[[], Chosen]  # once the search is done


def compare_segmenters(options: CompareOptions, *, simulate: Callable[..., Any]) -> dict:
    """Train, search, score and count what is not finished in the work dir; print the tables and the verdicts.

    Nothing is chosen by a score on the scans that are reported: subnets are chosen on ``options.search_split``, and of
    each training the last epoch is scored. The weights of every network in the comparison have seen ``options.epochs``
    epochs: a subnet's are those of fine-tuning and those of the super network before it together.

    Returns:
        What is written to comparison.json in the work dir.
    Raises:
        ConfigError: options out of range; something in the work dir was made with other options.
        RuntimeError: a run failed; all others were done, and what there is was printed and written.
    """
    check_options(options)
    device = pick_device(options.device)
    with only_writer(options.work_dir, "comparing"):
        costs = count_costs(options, device, simulate)
        runs = [_runs_of_seed(options, seed, costs) for seed in options.seeds]
        limits = _limits_search(options, runs[0], costs)
        queue = JobQueue(devices_of_jobs(options.device, device), options.jobs, options.work_dir / "logs")
        failed = queue.run(list(_jobs(options, runs, limits, costs)))
        found = _results(options, device, runs, limits, costs)
        write_text(options.work_dir / RESULTS_NAME, json.dumps(found, indent=1, default=str))
        say(format_comparison(found))
    require_none(failed)
    return found


def compare_speed(options: CompareOptions) -> dict:
    """Time MinkUNet, SPVCNN and the fine-tuned subnet of the first seed on the scan ``options.frames``.

    On a GPU, then on the CPU of the same machine. See `compare_frames` for what is returned.

    Raises:
        ConfigError: options out of range; one of them is not trained. FileNotFoundError, ValueError: no such scan.
        OSError: another process is comparing in the work dir.
    """
    check_options(options)
    device = pick_device(options.device)
    names = {"MinkUNet": "minkunet", "SPVCNN": "spvcnn", "SPVNAS": "subnet"}
    folders = {name: options.work_dir / f"{folder}_seed{options.seeds[0]}" for name, folder in names.items()}
    checkpoints = {name: finished_checkpoint(folder) for name, folder in folders.items()}
    for name, path in checkpoints.items():
        if path is None:
            raise ConfigError(f"{folders[name]}: no finished training; the same command without --frames makes one")
    devices = [torch.device(kind) for kind in dict.fromkeys((str(device), "cpu"))]
    with only_writer(options.work_dir, "comparing"):
        return compare_frames(checkpoints, options.frames, devices, runs=options.runs, work_dir=options.work_dir)


def count_costs(options: CompareOptions, device: torch.device, simulate: Callable[..., Any] | None) -> Costs:
    """Count the multiply-adds of the networks, and find the width of a MinkUNet with as many as the searched one may.

    Raises:
        ConfigError: the scans of the search are those that are scored.
    """
    cfgs = {role: load_config(options.configs[role], dict(options.overrides)) for role in ("minkunet", "spvcnn")}
    provide_data(cfgs["minkunet"], simulate, overrides=options.overrides)
    split = cfgs["spvcnn"].test_dataloader.dataset["split"]
    if split == options.search_split:
        raise ConfigError(f"compare: --search-split must not be {split}, on which all networks are scored")
    say(f"counting multiply-adds on {split} and {options.search_split}")
    scored = SplitCosts(cfgs["spvcnn"], split, device)
    searched = SplitCosts(cfgs["spvcnn"], options.search_split, device, most=SEARCH_SCANS)
    minkunet = scored.of_config(cfgs["minkunet"])
    limit = SHARE * minkunet.gmacs
    width = width_with_cost(limit, lambda width: scored.of_config(cfgs["minkunet"], width=width).gmacs)
    scaled, spvcnn = scored.of_config(cfgs["minkunet"], width=width), scored.of_config(cfgs["spvcnn"])
    search_limit = SHARE * searched.of_config(cfgs["minkunet"]).gmacs
    say(f"MinkUNet {minkunet.gmacs:.4g} GMACs a scan, at width {width:g} {scaled.gmacs:.4g}; limit {limit:.4g}")
    return Costs(scored, minkunet, spvcnn, scaled, width, limit, search_limit, len(searched.scans))


def _runs_of_seed(options: CompareOptions, seed: int, costs: Costs) -> SeedRuns:
    def training(role: str, epochs: int, *, name: str | None = None, tests: tuple = (TEST,), **more: Any) -> Training:
        width = {"model.backbone.net.width": costs.width} if name == "scaled" else {}
        overrides = {**options.overrides, "train_cfg.max_epochs": epochs, **width}
        folder = options.work_dir / f"{name or role}_seed{seed}"
        how = {"amp": options.amp, "side_by_side": options.jobs}
        return Training(options.configs[role], folder, seed, overrides, tests, **how, **more)

    supernet = training("supernet", options.epochs - options.finetune_epochs, tests=())
    scans = len(costs.scored.scans)
    search = Search(
        options, f"search_seed{seed}", supernet, costs.search_limit, options.search_split, costs.search_scans
    )
    chosen = functools.cache(lambda: search.chosen(costs.limit, costs.scored))
    return SeedRuns(
        supernet,
        search,
        training(
            "subnet", options.finetune_epochs, start=(lambda: chosen().weights,), subnet=True, needs=(search.name,)
        ),
        training("minkunet", options.epochs),
        training("spvcnn", options.epochs),
        training("minkunet", options.epochs, name="scaled"),
        Search(options, f"random_seed{seed}", supernet, costs.limit, costs.scored.split, scans, random=options.random),
        chosen,
    )


def _limits_search(options: CompareOptions, first: SeedRuns, costs: Costs) -> Search | None:
    """One search of the first seed's super network answers for all of ``options.limits``."""
    if not options.limits:
        return None
    name = f"limits_seed{first.supernet.seed}"
    return Search(options, name, first.supernet, float(max(options.limits)), options.search_split, costs.search_scans)


def _jobs(options: CompareOptions, runs: list[SeedRuns], limits: Search | None, costs: Costs) -> Iterator[Job]:
    """What others wait for first, then what takes long."""
    for run in runs:
        yield from run.supernet.jobs()
    for run in runs:
        yield run.search.job()
    if limits is not None:
        yield limits.job()
    for name in ("subnet", "minkunet", "spvcnn", "scaled"):
        for run in runs:
            yield from getattr(run, name).jobs()
    for run in runs:
        yield run.random.job()
        name = f"searched_seed{run.supernet.seed}_scores"
        yield TEST.job(name, lambda run=run: run.searched().weights, needs=(run.search.name,))
    before: tuple[str, ...] = ()  # one after the other, the largest first: two limits may choose the same subnet
    for limit in sorted(options.limits, reverse=True) if limits is not None else ():
        chosen, name = functools.cache(functools.partial(limits.chosen, limit, costs.scored)), f"limit{limit:g}_scores"
        needs = (limits.name, *before)
        yield TEST.job(name, lambda chosen=chosen: chosen().weights, needs=needs)
        before = (name,)


def _results(
    options: CompareOptions, device: torch.device, runs: list[SeedRuns], limits: Search | None, costs: Costs
) -> dict[str, Any]:
    """Return all that is finished, as plain values."""
    found: dict[str, Any] = {"environment": environment(device), "options": asdict(options)}
    found |= {"split": costs.scored.split, "scans": len(costs.scored.scans), "limit_gmacs": costs.limit}
    found["rows"] = [row for run in runs for row in _rows_of_seed(run, costs)]
    found["verdicts"] = verdicts(found["rows"], share=SHARE)
    found["at_limits"] = []
    for limit in options.limits if limits is not None else ():
        chosen = _chosen(functools.partial(limits.chosen, limit, costs.scored))
        if chosen is None:
            continue
        scores = TEST.scores(chosen.weights)
        row = {"limit": limit, **asdict(chosen.cost), "subnet": asdict(chosen.subnet)}
        found["at_limits"].append(row | {"miou": None if scores is None else scores["mIoU"]})
    return found


def _rows_of_seed(run: SeedRuns, costs: Costs) -> Iterator[dict[str, Any]]:
    """One row for each network of a seed that was scored."""
    seed = run.supernet.seed
    for name, cost in (("minkunet", costs.minkunet), ("spvcnn", costs.spvcnn), ("scaled", costs.scaled)):
        training = getattr(run, name)
        scores = training.scores()
        if scores is not None:
            row = {"network": name, "seed": seed, "iterations": training.iterations(), **asdict(cost)}
            width = costs.width if name == "scaled" else None
            yield row | {"width": width, "miou": scores["mIoU"], "scores": scores}
    if (chosen := _chosen(run.searched)) is not None:
        before = run.supernet.iterations()
        if (scores := run.subnet.scores()) is not None:
            row = {"network": "finetuned", "seed": seed, "iterations": before + run.subnet.iterations()}
            yield row | {**asdict(chosen.cost), "miou": scores["mIoU"], "scores": scores}
        if (scores := TEST.scores(chosen.weights)) is not None:
            row = {"network": "searched", "seed": seed, "iterations": before, **asdict(chosen.cost)}
            yield row | {"subnet": asdict(chosen.subnet), "miou": scores["mIoU"], "scores": scores}
    if (drawn := run.random.rows()) is not None:
        row = {"network": "random", "seed": seed, "iterations": run.supernet.iterations(), "all": drawn}
        yield row | {key: float(np.median([each[key] for each in drawn])) for key in ("miou", "gmacs", "mparams")}


def _chosen(choose: Callable[[], Chosen]) -> Chosen | None:
    """Return the subnet, or None where there is none: a failed job said why."""
    try:
        return choose()
    except ConfigError:
        return None
