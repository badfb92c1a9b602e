# SPDX-License-Identifier: Apache-2.0
"""What the comparison of segmentation networks says of given scores and times."""

import pytest

from pcperc.benchmark.segmenter_frames import format_frames, with_ratios
from pcperc.benchmark.segmenter_report import format_comparison, verdicts


def rows_of(**by_network) -> list[dict]:
    """Rows of seeds 0, 1, ... from lists of (mIoU in percent, GMACs)."""
    return [
        {"network": name, "seed": seed, "iterations": 10, "miou": miou / 100, "gmacs": gmacs, "mparams": 1.0}
        for name, values in by_network.items()
        for seed, (miou, gmacs) in enumerate(values)
    ]


def test_verdicts_are_of_mean_differences_of_seeds():
    rows = rows_of(
        minkunet=[(50.0, 100), (60.0, 100)],
        scaled=[(49.0, 20), (59.2, 20)],
        finetuned=[(51.0, 19), (59.4, 20)],  # +1, -0.6 beside MinkUNet: mean 0.2; +2, +0.2 beside the scaled one: 1.1
        searched=[(40.0, 19), (41.0, 20)],
        random=[(39.0, 19), (40.0, 19)],  # exactly one point below: not more than one
    )
    found = {verdict["claim"]: verdict for verdict in verdicts(rows, share=0.2)}
    assert [verdict["met"] for verdict in found.values()] == [True, True, True, False, True]
    differences = [verdict["values"] for verdict in found.values()]
    assert differences[0] == [0.19, 0.2]
    for got, wanted in zip(differences[1:], ([1, -0.6], [2, 0.2], [1, 1], [12, 19.4]), strict=True):
        assert got == pytest.approx(wanted)
    rows[0]["gmacs"] = 94  # 19 of 94 is more than a fifth
    assert not verdicts(rows, share=0.2)[0]["met"]
    (share, _, _, random, _) = verdicts([row for row in rows if row["seed"] == 0], share=0.2)
    assert len(share["values"]) == 1 and random["values"] == pytest.approx([1])
    assert verdicts([row for row in rows if row["network"] == "random"], share=0.2) == []


def test_tables_say_what_is_simulated_and_what_is_missing():
    rows = rows_of(minkunet=[(50.0, 100), (60.0, 100)], searched=[(40.0, 19)])
    found = {"options": {"seeds": [0, 1]}, "rows": rows, "verdicts": verdicts(rows, share=0.2), "split": "sim_val"}
    found |= {"scans": 20, "at_limits": [{"limit": 25.0, "gmacs": 24.9, "mparams": 4.2, "miou": 0.3}]}
    text = format_comparison(found)
    (line,) = (line for line in text.splitlines() if line.startswith("│ MinkUNet  "))
    assert "55.0 +- 7.1" in line and "100.00" in line
    assert "simulated, REACHED (so far 1 of 2 seeds): multiply-adds" in text
    (line,) = (line for line in text.splitlines() if "24.90" in line)
    assert [cell.strip() for cell in line.strip("│ ").split("│")] == [
        "25",
        "24.90",
        "4.20",
        "30.0",
        "24.6",
        "4.5",
        "62.9",
    ]
    assert text.count("imulated") >= 4


def test_ratios_of_frames_a_second():
    times = {
        ("MinkUNet", "plain"): 80.0,
        ("MinkUNet", "fused"): 60.0,
        ("SPVNAS", "plain"): 30.0,
        ("SPVNAS", "fused"): 20.0,
    }
    rows = [{"network": n, "mode": m, "device": "cpu", "median_ms": t, "p5_ms": t} for (n, m), t in times.items()]
    found = with_ratios(rows)
    assert [row["ratio"] for row in found] == pytest.approx([1, 1, 80 / 30, 3])
    assert [row["ratio_to_plain"] for row in found] == pytest.approx([1, 80 / 60, 80 / 30, 4])
    assert found[-1]["frames_per_s"] == 50
    text = format_frames({"scan": "a/scan.bin", "num_points": 1000, "rows": found})
    assert "NOT REACHED on cpu: SPVNAS (layer by layer, float32) over MinkUNet layer by layer: 2.67" in text
    assert "\nREACHED on cpu: SPVNAS (fused, float32) over MinkUNet layer by layer: 4.00, the talk's 3.6" in text
