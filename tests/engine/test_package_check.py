# SPDX-License-Identifier: Apache-2.0
"""A package is refused where its scores or boxes are not the model's, and not where equal scores change places."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pcperc.engine import packaging
from pcperc.engine.package_check import TOLERANCES, box_differences, check_agreement, check_map_agreement
from pcperc.engine.packaging import PackageOptions, package_model

HALF = ("float16", "bfloat16")


def found(scores, seed=0):
    """Boxes all over the place with these scores."""
    rng = np.random.default_rng(seed)
    boxes = torch.tensor(rng.uniform(-50, 50, (len(scores), 9)), dtype=torch.float32)
    boxes[:, 6] = torch.tensor(rng.uniform(-math.pi, math.pi, len(scores)))
    return {"boxes": boxes, "scores": torch.tensor(scores), "labels": torch.arange(len(scores)) % 3}


def taken(result, order):
    """The same boxes in another order, with the scores where they were."""
    order = torch.as_tensor(order)
    return {**result, "boxes": result["boxes"][order], "labels": result["labels"][order]}


def moved(result, metres, rows=slice(None), column=0):
    boxes = result["boxes"].clone()
    boxes[rows, column] += metres
    return {**result, "boxes": boxes}


SCORES = [0.9, 0.5, 0.5, 0.5, 0.3, 0.2, 0.1999999, 0.1]


@pytest.mark.parametrize("precision", TOLERANCES)
def test_equal_scores_may_change_places(precision):
    wanted = found(SCORES)
    for order in itertools.permutations((1, 2, 3)):
        for last in ((5, 6), (6, 5)):
            near = check_agreement(taken(wanted, [0, *order, 4, *last, 7]), wanted, precision)
            assert near == (8, 0.0, 0.0)
    assert check_agreement(moved(wanted, 5e-4), wanted, precision).boxes == pytest.approx(5e-4, abs=1e-5)


def test_other_scores_may_not():
    wanted = found(SCORES)
    with pytest.raises(
        RuntimeError, match=r"its boxes must be within 0.001 \(m, rad, m/s\) of .* \(float32\), got a box"
    ):
        check_agreement(taken(wanted, [4, 1, 2, 3, 0, 5, 6, 7]), wanted, "float32")
    wanted["labels"][:] = 0
    with pytest.raises(RuntimeError, match=r"its boxes must be within 0.001 .*, got \d"):
        check_agreement(taken(wanted, [4, 1, 2, 3, 0, 5, 6, 7]), wanted, "float32")
    for precision in HALF:  # where noise decides the rank
        assert check_agreement(taken(wanted, [4, 1, 2, 3, 0, 5, 6, 7]), wanted, precision).boxes == 0


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("column", range(9))
def test_boxes_elsewhere_are_refused(precision, column):
    wanted = found(SCORES)
    with pytest.raises(RuntimeError, match=rf"must be within .* of the model's \({precision}\), got 1$"):
        check_agreement(moved(wanted, 1.0, column=column), wanted, precision)


def test_one_box_is_enough_in_float32_and_half_of_them_in_half_precision():
    wanted = found(SCORES)
    one = moved(wanted, 0.6, rows=[2])
    with pytest.raises(RuntimeError, match=r"^its boxes must be within 0.001 \(m, rad, m/s\) .*, got 0.6$"):
        check_agreement(one, wanted, "float32")
    for precision in HALF:
        assert check_agreement(one, wanted, precision).boxes == 0
        assert check_agreement(moved(wanted, 0.6, rows=slice(4)), wanted, precision).boxes == 0
        with pytest.raises(RuntimeError, match=r"^its boxes, 50% of them, must be within 0\.[15] .*, got 0.6$"):
            check_agreement(moved(wanted, 0.6, rows=slice(5)), wanted, precision)


def test_headings_are_on_a_circle():
    wanted = found([0.5])
    wanted["boxes"][0, 6] = math.pi - 1e-4
    assert check_agreement(moved(wanted, 2e-4 - 2 * math.pi, column=6), wanted, "float32").boxes < 3e-4
    assert box_differences(moved(wanted, math.pi, column=6), wanted, ties=0).item() == pytest.approx(math.pi)


def test_other_classes_missing_boxes_and_no_numbers_are_refused():
    wanted = found(SCORES)
    other = {**wanted, "labels": wanted["labels"] + 3}
    without = {key: value[:6] for key, value in wanted.items()}
    for precision in TOLERANCES:
        for result in (other, moved(wanted, math.nan)):
            with pytest.raises(
                RuntimeError, match=rf"\({precision}\), got a box that is missing, of another class or no"
            ):
                check_agreement(result, wanted, precision)
        with pytest.raises(RuntimeError, match="its scores must be within .* of the model's .*, got inf"):
            check_agreement({**wanted, "scores": wanted["scores"] * math.nan}, wanted, precision)
    with pytest.raises(RuntimeError, match="^it must find the model's 8 boxes of a made-up scene, got 6$"):
        check_agreement(without, wanted, "float32")
    for precision in HALF:  # some fall below the threshold
        assert check_agreement(without, wanted, precision) == (8, 0.0, 0.0)
        assert check_agreement(wanted, without, precision) == (6, 0.0, 0.0)
        with pytest.raises(RuntimeError, match="got a box that is missing"):
            check_agreement({key: value[:3] for key, value in wanted.items()}, wanted, precision)


def test_scores_are_compared_first():
    wanted = found(SCORES)
    off = {**wanted, "scores": wanted["scores"] + 0.1}
    for precision, tolerance in TOLERANCES.items():
        match = rf"^its scores must be within {tolerance.scores:g} of the model's \({precision}\), got 0.1$"
        with pytest.raises(RuntimeError, match=match):
            check_agreement(off, wanted, precision)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_nothing_found_is_compared_too(precision):
    nothing = found([])
    assert check_agreement(nothing, nothing, precision) == (0, 0.0, 0.0)


def test_runs_of_ties_are_paired_as_all_permutations_would_be():
    """The sum of the differences is the smallest of any order in each run, and boxes of other runs stay apart."""
    rng = np.random.default_rng(1)
    for seed in range(30):
        scores = sorted(rng.choice([0.2, 0.4, 0.6], 6).tolist(), reverse=True)
        wanted, other = found(scores, seed), found(scores, seed + 100)
        wanted["labels"][:], other["labels"][:] = 0, 0
        got = box_differences(other, wanted, ties=1e-3)
        apart = (other["boxes"][:, None] - wanted["boxes"]).double().abs()
        apart[..., 6] = torch.minimum(apart[..., 6], 2 * math.pi - apart[..., 6])
        apart, best = apart.amax(-1), 0.0
        for score in set(scores):
            rows = [row for row, value in enumerate(scores) if value == score]
            best += min(
                sum(apart[a, b].item() for a, b in zip(order, rows, strict=True))
                for order in itertools.permutations(rows)
            )
        assert got.sum().item() == pytest.approx(best)


def test_a_package_with_other_boxes_is_refused_by_name(tmp_path, monkeypatch, capsys):
    weights = Path("configs/bevfusion/demo_weights.safetensors")
    out = tmp_path / "a.pt2"
    options = PackageOptions(Path("configs/bevfusion.py"), weights, out=out, device="cpu")
    made = {}
    monkeypatch.setattr(packaging, "export_program", lambda program, sample: made.update(program=program))
    monkeypatch.setattr(packaging.torch.export, "save", lambda exported, out: out.touch())
    changes = [lambda result: result, lambda result: moved(result, 0.6, rows=[7])]
    monkeypatch.setattr(
        packaging, "load_package", lambda path, *, compiled: lambda sample: changes.pop(0)(made["program"](sample))
    )
    package_model(options)
    said = capsys.readouterr().out
    assert "100 boxes of a made-up scene, scores within 0 of the model's, boxes within 0 (m, rad, m/s)" in said
    assert json.loads(out.with_suffix(".json").read_text())["precision"] == "float32"
    out.write_text("the one before")
    with pytest.raises(RuntimeError, match=r"a.pt2: its boxes must be within 0.001 .* \(float32\), got 0.6$"):
        package_model(options)
    assert out.read_text() == "the one before" and sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.pt2"]


def test_maps_may_differ_in_few_cells():
    wanted = torch.rand(2, 10, 10, generator=torch.Generator().manual_seed(0)) * 0.5
    found = wanted + 1e-5
    found[0, 0, :2] = 1.0  # 1 %
    assert check_map_agreement(found, wanted, "float32") == pytest.approx(1e-5, rel=0.1)
    found[0, 0, :3] = torch.nan
    with pytest.raises(RuntimeError, match=r"^99% of its map must be within 0.0001 of the model's .float32., got inf$"):
        check_map_agreement(found, wanted, "float32")
    with pytest.raises(RuntimeError, match="within 0.02 of the model's .float16., got 0.03"):
        check_map_agreement(wanted + 0.03, wanted, "float16")
    with pytest.raises(RuntimeError, match=r"its map must be \(2, 10, 10\), got \(1, 10, 10\)"):
        check_map_agreement(wanted[:1], wanted, "float32")
