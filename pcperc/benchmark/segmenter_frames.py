# SPDX-License-Identifier: Apache-2.0
"""Frames a second of trained segmentation networks on one scan, from points on the host to a class for each point."""

import copy
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import nn

from pcperc.benchmark.comparison import plain_table
from pcperc.benchmark.report import environment
from pcperc.benchmark.timing import time_in_turns
from pcperc.datasets import collate
from pcperc.engine.inference import raw_transforms
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.engine.messages import say
from pcperc.engine.raw_files import raw_sample, read_points
from pcperc.files import write_text
from pcperc.geometry import PointLabels
from pcperc.models.capture_model import capture_model
from pcperc.nn import fuse

FRAMES_NAME = "frames.json"
CPU_RUNS = 5  # a frame of MinkUNet takes seconds there
TALK = {"plain": 2.7, "engine": 3.6}  # SPVNAS over MinkUNet layer by layer; of 15.0 and 114 GMACs, on other hardware
MODES = {
    "plain": "layer by layer, float32",
    "fused": "fused, float32",
    "engine": "fused, float16 on a GPU",
    "graph": "the same as a CUDA graph",
}
_ON_GPU = ("engine", "graph")
_ROOM = 1.1  # points that a graph has room for, over the scan's


def compare_frames(
    checkpoints: dict[str, Path], scan: Path, devices: Sequence[torch.device], *, runs: int, work_dir: Path
) -> dict[str, Any]:
    """Time all networks on each device in turns at batch 1, print the table and write frames.json into ``work_dir``.

    A frame is what a user waits for: voxels, kernel maps, network, and a class for every point, all made anew.

    Args:
        checkpoints: by name, in the order of the rows; ratios are to the first.
        scan: what tools/infer.py reads, with intensities as the data set has them.
        runs: timed rounds, on a CPU at most `CPU_RUNS`.
    """
    points = read_points(scan)
    facts = {device.type: environment(device) for device in devices}  # before: on a CPU it keeps freed memory
    rows = [row for device in devices for row in _time_on(checkpoints, scan, points, device, runs)]
    found = {"environment": facts, "scan": str(scan), "num_points": len(points), "rows": rows}
    write_text(work_dir / FRAMES_NAME, json.dumps(found, indent=1))
    say(format_frames(found))
    return found


def _time_on(
    checkpoints: dict[str, Path], scan: Path, points: Any, device: torch.device, runs: int
) -> list[dict[str, Any]]:
    functions: dict[tuple[str, str], Callable[[], object]] = {}
    for name, path in checkpoints.items():
        opened = open_checkpoint(path)
        sample = {**raw_sample(points, scan, None), "num_recorded_points": len(points)}
        for transform in raw_transforms(opened.cfg["test_dataloader"]["dataset"]):
            sample = transform(sample)
        model = build_model(opened, device)
        fused = copy.deepcopy(model)
        fused.backbone = fuse(fused.backbone)
        networks = {"plain": model, "fused": fused}
        if device.type == "cuda":
            graph = copy.deepcopy(fused)
            capture_model(graph, capacity=int(_ROOM * len(points)) + 1)
            networks |= {"engine": fused, "graph": graph}
        for mode, network in networks.items():
            functions[name, mode] = partial(predict, network, collate([sample]), device, half=mode in _ON_GPU)
    rounds = runs if device.type == "cuda" else min(runs, CPU_RUNS)
    times = time_in_turns(functions, device=device, runs=rounds)
    return with_ratios(
        [{"device": device.type, "network": name, "mode": mode, **found} for (name, mode), found in times.items()]
    )


@torch.inference_mode()
def predict(model: nn.Module, batch: dict, device: torch.device, *, half: bool) -> list[PointLabels]:
    """Return the classes of the points of a batch on the host; ``half`` lets torch's autocast take float16."""
    with torch.autocast(device.type, torch.float16 if half else torch.bfloat16, enabled=half):
        return model(**model.data_preprocessor(batch, False), mode="predict")


def with_ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add frames a second, and their ratio to the first network in the same mode and in that of the first row.

    Args:
        rows: of one device, ``network``, ``mode`` and ``median_ms``.
    """
    first = rows[0]
    of_first = {row["mode"]: row["median_ms"] for row in rows if row["network"] == first["network"]}
    return [
        {
            **row,
            "frames_per_s": 1e3 / row["median_ms"],
            "ratio": of_first[row["mode"]] / row["median_ms"],
            "ratio_to_plain": first["median_ms"] / row["median_ms"],
        }
        for row in rows
    ]


def format_frames(found: dict[str, Any]) -> str:
    """Return the table, and what the talk's two ratios are here, as plain text."""
    title = f"{Path(found['scan']).name}, {found['num_points']:,} points, batch 1; networks trained on simulated scans"
    table = Table(title=title, title_justify="left")
    names = (
        "device",
        "network",
        "how",
        "ms",
        "p5 ms",
        "frames/s",
        "over MinkUNet alike",
        "over MinkUNet layer by layer",
    )
    for name in names:
        table.add_column(name, justify="left" if name in names[:3] else "right")
    for row in found["rows"]:
        times = (f"{row[key]:.1f}" for key in ("median_ms", "p5_ms", "frames_per_s"))
        ratios = (f"{row[key]:.2f}" for key in ("ratio", "ratio_to_plain"))
        table.add_row(row["device"], row["network"], MODES[row["mode"]], *times, *ratios)
    return "\n".join([plain_table(table), *_verdicts(found["rows"])])


def _verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        engine = "graph" if row["device"] == "cuda" else "fused"
        for mode, wanted in (("plain", TALK["plain"]), (engine, TALK["engine"])):
            if row["network"] == "SPVNAS" and row["mode"] == mode:
                word = "REACHED" if row["ratio_to_plain"] >= wanted else "NOT REACHED"
                how = f"SPVNAS ({MODES[mode]}) over MinkUNet layer by layer"
                lines.append(f"{word} on {row['device']}: {how}: {row['ratio_to_plain']:.2f}, the talk's {wanted}")
    return lines
