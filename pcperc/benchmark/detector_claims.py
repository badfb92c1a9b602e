# SPDX-License-Identifier: Apache-2.0
"""What is asked for in tools/compare_detectors.py, and whether it is reached."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pcperc.benchmark.detector_tracking import TRUTH

NDS_ASKED_FOR, MARGIN = 0.55, 0.01
ROUNDING = 1e-9
TRACKED = 1e-6  # AMOTA this near to 1 is 1: the devkit adds 40 recalls up


def verdicts(rows: Sequence[dict[str, Any]], tracking: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all claims of which a seed has what they compare.

    Differences are those of one seed; a claim is met where their mean is. Of each claim there are ``claim`` and
    ``asked_for`` in words, ``values`` (one a seed: the score, or its difference to the best of those beside it),
    ``figures`` (by name, one a seed: the scores that are compared), ``reached``, the mean, and ``met``.

    Args:
        rows: ``network``, ``seed``, ``blank_images`` and ``scores``.
        tracking: ``boxes``, ``seed``, ``tracker`` and ``scores``.
    """
    fusion, black = _by_seed(rows, "fusion", "NDS"), _by_seed(rows, "fusion", "NDS", blank_images=True)
    longer = _by_seed(rows, "lidar_longer", "NDS")
    both, cameras, lidar = (_by_seed(rows, f"{name}_map", "map/mIoU") for name in ("fusion", "camera", "lidar"))
    return [
        *_at_least("NDS of camera + LiDAR", fusion, NDS_ASKED_FOR),
        *_above("NDS of camera + LiDAR", fusion, {"LiDAR trained as long": longer}, margin=MARGIN),
        *_above("NDS of camera + LiDAR", fusion, {"the same with black images": black}),
        *_above("mIoU of maps from camera + LiDAR", both, {"cameras": cameras, "LiDAR": lidar}),
        *(_perfect(row) for row in tracking if row["boxes"] == TRUTH),
    ]


def _by_seed(rows: Sequence[dict], network: str, score: str, *, blank_images: bool = False) -> dict[int, float]:
    own = [row for row in rows if row["network"] == network and row["blank_images"] == blank_images]
    return {row["seed"]: row["scores"][score] for row in own if score in row["scores"]}


def _at_least(what: str, scores: dict[int, float], asked_for: float) -> Iterator[dict[str, Any]]:
    if scores:
        values = list(scores.values())
        met = np.mean(values) >= asked_for - ROUNDING
        yield {"claim": what, "asked_for": f">= {asked_for:g}", "figures": {}} | _reached(values, met)


def _above(
    what: str, scores: dict[int, float], others: dict[str, dict[int, float]], *, margin: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Better than the best of the others: by ``margin`` or more, without one by anything."""
    seeds = [seed for seed in scores if all(seed in other for other in others.values())]
    if not seeds:
        return
    values = [scores[seed] - max(other[seed] for other in others.values()) for seed in seeds]
    mean = np.mean(values)
    asked_for, met = (f">= {margin:g}", mean >= margin - ROUNDING) if margin else ("> 0", mean > 0)
    figures = {name: [one[seed] for seed in seeds] for name, one in ({"camera + LiDAR": scores} | others).items()}
    claim = f"{what} above {' and '.join(others)}"
    yield {"claim": claim, "asked_for": asked_for, "figures": figures} | _reached(values, met)


def _perfect(row: dict[str, Any]) -> dict[str, Any]:
    value = row["scores"].get("AMOTA", float("nan"))
    claim = {"claim": f"AMOTA of {row['tracker']} on the true boxes", "asked_for": "1", "figures": {}}
    return claim | {"of_seeds": False} | _reached([value], abs(value - 1) < TRACKED)


def _reached(values: list[float], met: bool) -> dict[str, Any]:
    return {"values": values, "reached": float(np.mean(values)), "met": bool(met)}
