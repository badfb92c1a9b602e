# SPDX-License-Identifier: Apache-2.0
"""tools/compare_detectors.py --stages: where the time of a prediction goes in each network of the family."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from pcperc.benchmark.comparison import plain_table
from pcperc.benchmark.config_model import build_prediction
from pcperc.benchmark.detector_options import CompareOptions, check_options
from pcperc.benchmark.inputs import load_sweep
from pcperc.benchmark.report import environment
from pcperc.benchmark.stages import OTHER, TOTAL, stage_rows
from pcperc.benchmark.unet import ModelOptions
from pcperc.engine.distributed import pick_device
from pcperc.engine.messages import say
from pcperc.files import only_writer, write_text

STAGES_NAME = "stages.json"
DTYPES = {"cuda": "float16", "cpu": "float32"}
CPU_RUNS = 3
COLUMNS = {  # of the table: the stages that are added up in each
    "preprocessing": ("data_preprocessor",),
    "camera backbone": ("encoders.camera.backbone",),
    "camera neck": ("encoders.camera.neck",),
    "view transform": ("encoders.camera.view_transform",),
    "LiDAR encoder": ("encoders.lidar",),
    "fuser": ("fuser",),
    "decoder": ("decoder.backbone", "decoder.neck"),
    "head of boxes": ("heads.object",),
    "head of maps": ("heads.map",),
    "rest": (OTHER,),
    "sum": (TOTAL,),
}


def compare_stages(options: CompareOptions) -> dict[str, Any]:
    """Time a prediction of each of ``options.published`` by its stages, on a GPU and then on the CPU, one at a time.

    Initial weights, one sweep, six images of noise where there are cameras; on a GPU in float16, on a CPU in float32.
    Times of the stages are those of the run of median total and sum to it.

    Returns:
        What is written to stages.json in the work dir, after each network.
    Raises:
        ConfigError: options out of range.
        OSError: networks are being compared in the work dir: a time is of a machine that does nothing else.
    """
    check_options(options)
    devices = [torch.device(kind) for kind in dict.fromkeys((str(pick_device(options.device)), "cpu"))]
    sweep = load_sweep(options.input, ModelOptions.voxel_size)
    found: dict[str, Any] = {"environment": {}, "input": {"name": sweep.name, "points": len(sweep.points)}, "rows": []}
    with only_writer(options.work_dir, "comparing"):
        for device in devices:
            found["environment"][device.type] = environment(device)
            for config in options.published:
                say(f"timing {config} on {device}")
                found["rows"] += _rows(options, config, device)
                write_text(options.work_dir / STAGES_NAME, json.dumps(found, indent=1))
        say(format_stages(found))
    return found


def _rows(options: CompareOptions, config: Path, device: torch.device) -> list[dict[str, Any]]:
    """Time one network; the model is gone before the next is built."""
    runs = options.runs if device.type == "cuda" else min(options.runs, CPU_RUNS)
    timed = ModelOptions(config=config, input=options.input, runs=runs, device=str(device))
    dtype = DTYPES[device.type]
    model, predict, _ = build_prediction(timed, device, 1, dtype)
    row = {"device": device.type, "config": str(config), "dtype": dtype, "runs": runs}
    row["parameters"] = sum(p.numel() for p in model.parameters())
    return [row | times for times in stage_rows(model, predict, timed, False)]


def format_stages(found: dict[str, Any]) -> str:
    """Return a table for each device, as plain text."""
    parts = []
    for device, facts in found["environment"].items():
        rows = [row for row in found["rows"] if row["device"] == device]
        threads = f", {facts['threads']} threads" if "threads" in facts else ""
        how = f"{rows[0]['dtype']}, median of {rows[0]['runs']}, initial weights"
        where = f"{found['input']['name']} ({found['input']['points']:,} points)"
        title = f"ms of a prediction by stages, {facts['device']}{threads}, {how}, {where}"
        parts.append(_table(title, rows))
    return "\n".join(parts)


def _table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    table = Table(title=title, title_justify="left")
    for name in ("config", "M param.", *COLUMNS):
        table.add_column(name, justify="left" if name == "config" else "right")
    for config in dict.fromkeys(row["config"] for row in rows):
        own = [row for row in rows if row["config"] == config]
        times = {row["stage"]: row["median_ms"] for row in own}
        cells = []
        for stages in COLUMNS.values():
            there = [times[stage] for stage in stages if stage in times]
            cells.append(f"{sum(there):.1f}" if there else "")
        table.add_row(config, f"{own[0]['parameters'] / 1e6:.2f}", *cells)
    return plain_table(table, width=220)
