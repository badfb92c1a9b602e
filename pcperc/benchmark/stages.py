# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py stages CONFIG: where the time of a prediction goes, by stages and by sparse layers."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from pcperc.benchmark.config_model import build_prediction
from pcperc.benchmark.inputs import load_sweep
from pcperc.benchmark.libraries import Pcperc
from pcperc.benchmark.report import Report, start_report
from pcperc.benchmark.timing import WARM_UP, with_tf32
from pcperc.benchmark.unet import ModelOptions
from pcperc.engine.distributed import pick_device
from pcperc.models.capture_model import capture_model
from pcperc.nn.conv_base import SparseConvBase

STAGES = (
    "data_preprocessor", "encoders.camera.backbone", "encoders.camera.neck", "encoders.camera.view_transform",
    "encoders.lidar", "fuser", "decoder.backbone", "decoder.neck", "backbone",
    "captured.camera.lift", "captured.camera.downsample", "captured.lidar", "captured.read_out",  # graphs
)  # fmt: skip
OTHER, TOTAL = "other", "total"  # what lies between the stages, such as decoding boxes; and all of it
COLUMNS = {
    "case": "", "stage": "", "dtype": "", "copies": "d", "library": "", "channels": "d", "out_channels": "d",
    "num_outputs": ",d", "pairs": ",d", "median_ms": ".3f", "p5_ms": ".3f", "p95_ms": ".3f", "share": ".1%",
    "gflops": ".1f", "peak_share": ".1%",
}  # fmt: skip


def measure_stages(options: ModelOptions) -> Report:
    """Time each stage of a prediction, and each sparse convolution in it, kernel map included where it is built there.

    Times of the stages are those of one run, the one of median total, and sum to it; layers are medians over the runs.
    Of a model in CUDA graphs these are the stages, but for that of the image features, which runs on a stream of its
    own beside what is in ``other``, and no layer is timed.
    """
    device = pick_device(options.device)
    report = start_report("stages", device, [Pcperc()], load_sweep(options.input, options.voxel_size), options.dtype)
    report.input["config"] = str(options.config)
    for copies in options.copies:
        for dtype in options.dtype:
            model, predict, _ = build_prediction(options, device, copies, dtype)
            if options.cuda_graph is not None:
                capture_model(model, capacity=options.cuda_graph)
            where = {"dtype": dtype, "copies": copies, "library": Pcperc.name}
            report.rows += [where | row for row in stage_rows(model, predict, options, dtype == "tf32")]
            if options.cuda_graph is not None:
                continue
            peak = report.peaks[dtype]["peak_gflops"]
            report.rows += [where | row for row in _layer_rows(model, predict, options, dtype == "tf32", peak)]
    report.finish(COLUMNS, options.json)
    return report


def stage_rows(model: nn.Module, predict: Callable, options: ModelOptions, tf32: bool) -> Iterable[dict[str, Any]]:
    """Yield a row for each stage of a prediction, the rest and the total; see `measure_stages`.

    Args:
        model, predict: of `build_prediction`.
    """
    modules = dict(model.named_modules())
    heads = [name for name in modules if name.startswith("heads.") and name.count(".") == 1]
    names = [name for name in STAGES if name in modules] + heads
    runs = _time_modules({name: modules[name] for name in names}, predict, options, tf32)
    names = [name for name in names if name in runs[0]]  # without those inside a graph
    middle = sorted(runs, key=lambda run: run[TOTAL])[len(runs) // 2]
    middle[OTHER] = middle[TOTAL] - sum(middle.get(name, 0.0) for name in names)
    for name in [*names, OTHER, TOTAL]:
        spread = np.percentile([run.get(name, 0.0) for run in runs], (5, 95)) if name != OTHER else (None, None)
        times = {"median_ms": middle.get(name, 0.0), "p5_ms": spread[0], "p95_ms": spread[1]}
        yield {"case": "stage", "stage": name, "share": times["median_ms"] / middle[TOTAL]} | times


def _layer_rows(
    model: nn.Module, predict: Callable, options: ModelOptions, tf32: bool, peak: float
) -> Iterable[dict[str, Any]]:
    layers = {name: module for name, module in model.named_modules() if isinstance(module, SparseConvBase)}
    sizes: dict[str, dict[str, int]] = {}

    def count(name: str, conv: SparseConvBase, inputs: tuple, output: Any) -> None:
        pairs = int((conv.kernel_map(inputs[0]).neighbors >= 0).sum())
        sizes[name] = {"channels": conv.in_channels, "out_channels": conv.out_channels}
        sizes[name] |= {"num_outputs": len(output), "pairs": pairs}

    hooks = [layer.register_forward_hook(lambda *call, name=name: count(name, *call)) for name, layer in layers.items()]
    predict()
    for hook in hooks:
        hook.remove()
    runs = _time_modules(layers, predict, options, tf32)
    total = float(np.median([run[TOTAL] for run in runs]))
    for name in layers:
        p5, median, p95 = (float(value) for value in np.percentile([run[name] for run in runs], (5, 50, 95)))
        row = {"case": "layer", "stage": name, "median_ms": median, "p5_ms": p5, "p95_ms": p95, "share": median / total}
        row |= sizes[name]
        row["flop"] = 2 * row["pairs"] * row["channels"] * row["out_channels"] // layers[name].groups
        row["gflops"] = row["flop"] / median / 1e6
        yield row | {"peak_share": row["gflops"] / peak}


def _time_modules(
    modules: dict[str, nn.Module], predict: Callable, options: ModelOptions, tf32: bool
) -> list[dict[str, float]]:
    """Milliseconds in each module and in all, for each run."""
    device = pick_device(options.device)
    marks: dict[str, list] = defaultdict(list)
    with_tf32(tf32, predict)  # a graph is captured without the marks

    def mark(name: str) -> None:
        marks[name].append(_now(device))

    hooks = []
    for name, module in modules.items():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: mark(name)))
        hooks.append(module.register_forward_hook(lambda *_, name=name: mark(name)))
    runs = []
    for turn in range(WARM_UP + options.runs):
        marks.clear()
        mark(TOTAL)
        with_tf32(tf32, predict)
        mark(TOTAL)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if turn >= WARM_UP:
            runs.append({name: _sum_of_pairs(times) for name, times in marks.items()})
    for hook in hooks:
        hook.remove()
    return runs


def _now(device: torch.device):
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _sum_of_pairs(times: list) -> float:
    """Milliseconds between the first and second mark, the third and fourth, and so on."""
    pairs = zip(times[::2], times[1::2], strict=True)
    return sum((b - a) * 1e3 if isinstance(a, float) else a.elapsed_time(b) for a, b in pairs)
