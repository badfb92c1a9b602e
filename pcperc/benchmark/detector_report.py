# SPDX-License-Identifier: Apache-2.0
"""Tables of tools/compare_detectors.py."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from pcperc.benchmark.comparison import mean_and_deviation, plain_table
from pcperc.benchmark.detector_tracking import TRUTH

NETWORKS = {  # rows of the tables: what a network sees, and what sets it apart
    "fusion": "camera + LiDAR",
    "lidar_longer": "LiDAR trained as long",
    "lidar_only": "LiDAR, the first stage of both",
    "camera_only": "cameras",
    "pointpillars": "LiDAR by pillars",
    "lidar_centerhead": "LiDAR, center head",
    "fusion_centerhead": "camera + LiDAR, center head",
    "joint": "camera + LiDAR, boxes and map",
    "camera_map": "cameras",
    "lidar_map": "LiDAR",
    "fusion_map": "camera + LiDAR",
}
BOX_SCORES = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")
TRACK_SCORES = {"AMOTA": ".3f", "AMOTP": ".3f", "recall": ".3f", "MOTA": ".3f", **dict.fromkeys(("IDS", "FRAG"), ".0f")}
TRACK_SCORES |= dict.fromkeys(("FP", "FN"), ".0f")
WIDTH = 220  # characters
HOW = (
    "The last epoch of every training is scored; nothing is chosen by a score. Iterations are those of the training,\n"
    "after those of the stages that it begins with. Networks of maps alone begin with random weights, on one schedule."
)


def format_comparison(found: dict[str, Any]) -> str:
    """Return the tables of what is there and a line for each claim, as plain text."""
    seeds = len(found["options"]["seeds"])
    parts = [
        _boxes_table(found["rows"], seeds),
        _maps_table(found["rows"], seeds),
        _tracking_table(found["tracking"], seeds),
    ]
    parts = [part for part in parts if part]
    if parts:
        parts += [HOW, ""]
    for verdict in found["verdicts"]:
        word = "REACHED" if verdict["met"] else "NOT REACHED"
        done = len(verdict["values"])
        some = done < seeds and verdict.get("of_seeds", True)
        so_far = f" (so far {done} of {seeds} seeds)" if some else ""
        form = "+.4f" if verdict["figures"] else ".4f"
        reached = mean_and_deviation(verdict["values"], form).replace("+- +", "+- ")
        figures = "; ".join(f"{name} {mean_and_deviation(own, '.4f')}" for name, own in verdict["figures"].items())
        beside = f" ({figures})" if figures else ""
        asked = f"asked for {verdict['asked_for']}"
        parts.append(f"simulated, {word}{so_far}: {verdict['claim']}: {reached}{beside}, {asked}")
    return "\n".join(parts)


def _boxes_table(rows: Sequence[dict], seeds: int) -> str:
    title, columns = "Detection on simulated nuScenes", ("M param.", "iterations", *BOX_SCORES)
    table = _table(title, "network (simulated)", seeds, columns)
    for name, words in NETWORKS.items():
        for blank in (False, True):
            own = [r for r in rows if r["network"] == name and r["blank_images"] == blank and "NDS" in r["scores"]]
            if own:
                words += ", images black" if blank else ""
                table.add_row(words, *_counts(own), *_means(own, dict.fromkeys(BOX_SCORES, ".3f")))
    return plain_table(table, width=WIDTH) if table.rows else ""


def _maps_table(rows: Sequence[dict], seeds: int) -> str:
    rows = [row for row in rows if "map/mIoU" in row["scores"]]
    keys = dict.fromkeys(key for row in rows for key in row["scores"] if key.startswith("map/") and key.endswith("IoU"))
    title = "Map segmentation on simulated nuScenes, IoU at each class's best threshold"
    columns = ("M param.", "iterations", *(key.removeprefix("map/").removesuffix("/IoU") for key in keys))
    table = _table(title, "network (simulated)", seeds, columns)
    for name, words in NETWORKS.items():
        own = [row for row in rows if row["network"] == name]
        if own:
            table.add_row(words, *_counts(own), *_means(own, dict.fromkeys(keys, ".3f")))
    return plain_table(table, width=WIDTH) if table.rows else ""


def _tracking_table(rows: Sequence[dict], seeds: int) -> str:
    table = _table("Tracking on simulated nuScenes", "boxes (simulated)", seeds, ("tracker", *TRACK_SCORES))
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["boxes"], row["tracker"]), []).append(row)
    for (boxes, tracker), own in groups.items():
        words, count = ("the true ones", "") if boxes == TRUTH else (NETWORKS[boxes], str(len(own)))
        table.add_row(words, count, tracker, *_means(own, TRACK_SCORES))
    return plain_table(table, width=WIDTH) if table.rows else ""


def _means(rows: Sequence[dict], forms: dict[str, str]) -> list[str]:
    """Return mean and deviation of each score over those rows that have it."""
    return [
        mean_and_deviation([row["scores"][key] for row in rows if key in row["scores"]], form)
        for key, form in forms.items()
    ]


def _table(title: str, first: str, seeds: int, columns: Sequence[str]) -> Table:
    table = Table(title=f"{title}, mean +- deviation of {seeds} seeds", title_justify="left")
    for name in (first, "seeds", *columns):
        table.add_column(name, justify="left" if name in (first, "tracker") else "right")
    return table


def _counts(rows: Sequence[dict]) -> tuple[str, str, str]:
    """Seeds, million parameters and iterations of the rows of one network."""
    iterations = sorted({(row["iterations"], tuple(row["first_stages"].values())) for row in rows})
    words = (f"{own} after {' + '.join(map(str, before))}" if before else str(own) for own, before in iterations)
    return str(len(rows)), f"{rows[0]['parameters'] / 1e6:.2f}", " / ".join(words)
