# SPDX-License-Identifier: Apache-2.0
"""Does a package say what its model says? Scores are compared by rank, boxes among those of like score."""

import math
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

YAW = 6  # column of a box
CELLS = 0.99  # of a map; the rest may lie where a probability is steep
FAR = 1e6  # in place of infinity, for the assignment


class Tolerance(NamedTuple):
    """How far a package may be from its model on the same input, in the same precision.

    Attributes:
        scores: the largest difference by rank.
        boxes: difference in metres, radians and metres a second that ``share`` of the boxes must keep to.
        ties: scores that are as near to each other may change places; infinite: rank says nothing.
        cells: difference of the probabilities of a map that `CELLS` of them must keep to.
    """

    scores: float
    boxes: float
    share: float
    ties: float
    cells: float


# In float32 a score of 1 and a place 54 m away have five digits after the point; of the shipped weights 3e-7 and 2e-5
# was seen. In half precision the order of operations decides which of many like cells are looked at, so that a few
# boxes are others; of half of them up to 0.0024 (float16, exported) and 0.08 (bfloat16, compiled) was seen.
TOLERANCES = {
    "float32": Tolerance(scores=1e-5, boxes=1e-3, share=1.0, ties=2e-5, cells=1e-4),
    "float16": Tolerance(scores=0.02, boxes=0.1, share=0.5, ties=math.inf, cells=0.02),
    "bfloat16": Tolerance(scores=0.05, boxes=0.5, share=0.5, ties=math.inf, cells=0.05),
}


class Agreement(NamedTuple):
    """How near a package is to its model: number of the model's boxes, largest differences of scores and of boxes."""

    count: int
    scores: float
    boxes: float


def check_agreement(found: dict[str, Tensor], wanted: dict[str, Tensor], precision: str) -> Agreement:
    """Compare what a package and its model give for one sample.

    Args:
        found, wanted: ``boxes`` (K, 9), ``scores`` (K,), highest first, and ``labels`` (K,).
        precision: of `TOLERANCES`.
    Returns:
        The differences; of boxes the one that ``share`` of them keep to.
    Raises:
        RuntimeError: they differ by more; expected and got are named.
    """
    tolerance, count = TOLERANCES[precision], len(wanted["scores"])
    got = len(found["scores"])
    if got != count and tolerance.ties < math.inf:
        raise RuntimeError(f"it must find the model's {count} boxes of a made-up scene, got {got}")
    both = min(count, got)
    apart = (found["scores"][:both] - wanted["scores"][:both]).abs().nan_to_num(nan=math.inf)
    scores = apart.max().item() if both else 0.0
    if scores > tolerance.scores:
        raise RuntimeError(
            f"its scores must be within {tolerance.scores:g} of the model's ({precision}), got {scores:.2g}"
        )
    differences = box_differences(found, wanted, ties=tolerance.ties).sort().values
    boxes = differences[math.ceil(tolerance.share * count) - 1].item() if count else 0.0
    if boxes > tolerance.boxes:
        which = "boxes" if tolerance.share == 1 else f"boxes, {tolerance.share:.0%} of them,"
        got = f"{boxes:.2g}" if boxes < math.inf else "a box that is missing, of another class or no number"
        raise RuntimeError(
            f"its {which} must be within {tolerance.boxes:g} (m, rad, m/s) of the model's ({precision}), got {got}"
        )
    return Agreement(count, scores, boxes)


def check_map_agreement(found: Tensor, wanted: Tensor, precision: str) -> float:
    """Compare the maps (C, X, Y) that a package and its model give for one sample.

    Returns:
        The difference that `CELLS` of the probabilities keep to.
    Raises:
        RuntimeError: they differ by more than the precision's ``cells``, or in shape; expected and got are named.
    """
    if found.shape != wanted.shape:
        raise RuntimeError(f"its map must be {tuple(wanted.shape)}, got {tuple(found.shape)}")
    apart = (found.double() - wanted.double()).abs().nan_to_num(nan=math.inf).flatten().sort().values
    most, allowed = apart[math.ceil(CELLS * len(apart)) - 1].item(), TOLERANCES[precision].cells
    if most > allowed:
        raise RuntimeError(
            f"{CELLS:.0%} of its map must be within {allowed:g} of the model's ({precision}), got {most:.2g}"
        )
    return most


def box_differences(found: dict[str, Tensor], wanted: dict[str, Tensor], *, ties: float) -> Tensor:
    """Return how far each wanted box is from its counterpart, (K,) float64, in its worst column.

    Counterparts are of one rank; but a package may order equal scores otherwise, so that in a run of scores that are no
    more than ``ties`` from one to the next boxes are paired by which are nearest. Headings are compared on the circle.

    Args:
        found, wanted: as of `check_agreement`; of equal length but where ``ties`` is infinite.
    Returns:
        Infinite where the counterpart is of another class, NaN or not there.
    """
    result = torch.full((len(wanted["scores"]),), math.inf, dtype=torch.float64)
    scores = wanted["scores"].double().cpu()
    ends = ((scores[:-1] - scores[1:] > ties).nonzero()[:, 0] + 1).tolist()
    starts, ends = [0, *ends], [*ends, len(scores)]
    if starts == [0]:  # the package may have more boxes, or fewer
        runs = [(slice(None), slice(None))]
    else:
        runs = [(slice(*run), slice(*run)) for run in zip(starts, ends, strict=True)]
    for theirs, ours in runs:
        apart = _apart({k: v[theirs] for k, v in found.items()}, {k: v[ours] for k, v in wanted.items()})
        rows, columns = linear_sum_assignment(apart.clamp(max=FAR).numpy())
        result[ours][columns] = apart[rows, columns]
    return result


def _apart(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
    """Return the largest difference of the columns of each found and each wanted box, (F, W) float64."""
    differences = (found["boxes"].double().cpu()[:, None] - wanted["boxes"].double().cpu()).abs()
    turn = differences[..., YAW].remainder(2 * math.pi)
    differences[..., YAW] = torch.minimum(turn, 2 * math.pi - turn)
    apart = differences.nan_to_num(nan=math.inf).amax(-1)
    same = found["labels"].cpu()[:, None] == wanted["labels"].cpu()
    return apart.masked_fill(~same, math.inf)
