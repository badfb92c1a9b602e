# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py clouds: latency and memory of networks of points by points and batch, eager and as a graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pcperc.benchmark.inputs import Sweep
from pcperc.benchmark.libraries import Pcperc
from pcperc.benchmark.macs import count_parameters
from pcperc.benchmark.memory import peak_memory
from pcperc.benchmark.peak import torch_dtype
from pcperc.benchmark.report import Report, start_report
from pcperc.benchmark.timing import time_in_turns, with_tf32
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.distributed import pick_device
from pcperc.engine.progress import ProgressDisplay
from pcperc.models import CloudClassifier, CloudSegmentor
from pcperc.nn import fuse
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor

MODES = ("eager", "graph")
COLUMNS = {
    "network": "", "fused": "", "mode": "", "dtype": "", "copies": "d", "num_points": ",d", "parameters": ",d",
    "median_ms": ".2f", "p5_ms": ".2f", "p95_ms": ".2f", "kernel_ms": ".2f", "launches": "d", "peak_mib": ".0f",
    "time_vs_first": ".2f", "memory_vs_first": ".2f",
}  # fmt: skip


@dataclass(frozen=True)
class CloudOptions:
    """What the command line says; see tools/README.md."""

    configs: Sequence[Path]
    points: Sequence[int] = (2048, 8192)
    copies: Sequence[int] = (1, 32)
    modes: Sequence[str] = MODES
    fused: bool = False
    dtype: Sequence[str] = ("float32",)
    runs: int = 10
    device: str | None = None
    json: Path | None = None


def measure_clouds(options: CloudOptions) -> Report:
    """Time the networks of some configs on clouds of equal size on a unit sphere, with initial weights.

    ``fused`` times what ``pcperc.nn.fuse`` makes of them. A graph is a captured pass: one launch from the host. The
    memory of a graph is what capturing it took at the most, which it keeps. Half types are torch.autocast's. What does
    not fit into memory is listed.

    Raises:
        ConfigError: a config without a network of clouds.
    """
    device = pick_device(options.device)
    networks = {str(path): _network(path, options.fused).to(device) for path in options.configs}
    source = Sweep(np.zeros((0, 3), np.float32), torch.zeros(0, 4).int(), "points on a unit sphere", 1.0)
    report = start_report("clouds", device, [Pcperc()], source, options.dtype)
    cases = [(n, c, t) for n in options.points for c in options.copies for t in options.dtype]
    with ProgressDisplay("measuring", len(cases)) as display:
        for number, (count, copies, dtype) in enumerate(cases):
            _measure(report, networks, count, copies, dtype, device, options)
            display.update(number + 1)
    _compare_with_first(report.rows, str(options.configs[0]))
    report.finish(COLUMNS, options.json)
    return report


def _network(path: Path, is_fused: bool) -> nn.Module:
    model = MODELS.build(load_config(path).model)
    if not isinstance(model, CloudSegmentor | CloudClassifier):
        raise ConfigError(f"{path}: model must be a CloudSegmentor or CloudClassifier, got {type(model).__name__}")
    network = model.backbone.eval()
    return fuse(network) if is_fused else network


def _measure(
    report: Report,
    networks: dict[str, nn.Module],
    count: int,
    copies: int,
    dtype: str,
    device: torch.device,
    options: CloudOptions,
) -> None:
    """Add the rows of all networks and modes on ``copies`` clouds of ``count`` points."""
    functions, facts = {}, {}
    words = {"fused": options.fused, "dtype": dtype, "copies": copies, "num_points": count}
    for name, network in networks.items():
        inputs = _inputs(network, count, copies, device)
        run = partial(with_tf32, dtype == "tf32", partial(_pass, network, inputs, dtype, device))
        for mode in options.modes:
            row = {"network": name, "mode": mode, "library": "pcperc"} | words
            try:
                if mode == "eager":
                    functions[name, mode], peak = run, peak_memory(run, device)
                else:
                    functions[name, mode], peak = _captured(run, device)
            except (torch.OutOfMemoryError, ValueError) as error:
                report.not_measured.append(row | {"reason": str(error).splitlines()[0]})
                continue
            facts[name, mode] = row | {"peak_mib": peak}
    times = time_in_turns(functions, device=device, runs=options.runs)
    for key, row in facts.items():
        report.rows.append(row | {"parameters": count_parameters(networks[key[0]])} | times[key])


def _inputs(network: nn.Module, count: int, copies: int, device: torch.device) -> tuple:
    """The points of ``copies`` different clouds, and their categories where the network is told."""
    generator = torch.Generator().manual_seed(0)
    xyz = torch.randn(copies, count, 3, generator=generator)
    xyz = (xyz / xyz.norm(dim=2, keepdim=True)).to(device)
    others = torch.randn(copies, count, network.in_channels - 3, generator=generator).to(device)
    points = PointTensor.of_equal_clouds(xyz, torch.cat([xyz, others], 2))
    told = (torch.zeros(copies, dtype=torch.int64, device=device),) if getattr(network, "num_categories", 0) else ()
    return points, *told


@torch.inference_mode()
def _pass(network: nn.Module, inputs: tuple, dtype: str, device: torch.device) -> object:
    """One prediction; the grids and neighbours of the points are found anew, as for every new cloud."""
    points, *told = inputs
    shape = points.batch_size, points.points_per_cloud, -1
    points = PointTensor.of_equal_clouds(points.coords[:, 1:].reshape(shape), points.feats.reshape(shape))
    number = torch_dtype(dtype)
    is_half = number in (torch.float16, torch.bfloat16)
    with torch.autocast(device.type, number if is_half else torch.bfloat16, enabled=is_half):
        return network(points, *told)


def _captured(run: Callable[[], object], device: torch.device) -> tuple[Callable[[], object], float]:
    """Return a function that replays a pass, and the most memory that capturing it took, MiB."""
    if device.type != "cuda":
        raise ValueError("graphs are captured on a GPU alone")
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream(device).wait_stream(stream)
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    peak = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    return partial(_replay, graph, result, run), peak


def _replay(graph: "torch.cuda.CUDAGraph", result: object, run: Callable[[], object]) -> object:
    """Replay a pass; ``run`` is held because it owns the inputs, which the graph reads where they were."""
    graph.replay()
    return result


def _compare_with_first(rows: list[dict], first: str) -> None:
    """Add how often the time and memory of a row are those of the first config in the same case."""
    words = ("mode", "dtype", "copies", "num_points")
    of_first = {tuple(row[word] for word in words): row for row in rows if row["network"] == first}
    for row in rows:
        same = of_first.get(tuple(row[word] for word in words))
        if same is not None and row["network"] != first:
            row["time_vs_first"] = row["median_ms"] / same["median_ms"]
            if row["peak_mib"] and same["peak_mib"]:
                row["memory_vs_first"] = row["peak_mib"] / same["peak_mib"]
