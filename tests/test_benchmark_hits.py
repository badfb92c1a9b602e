# SPDX-License-Identifier: Apache-2.0
"""The program that times networks of calorimeter hits, at toy size; times themselves are not asserted."""

import json
from pathlib import Path

import numpy as np
import pytest

from pcperc.benchmark.hits import HitsOptions, crowded, measure_hits
from tests.calorimeter_events import made_event, write_arrays


def test_more_hits_of_an_event():
    hits = made_event(np.random.default_rng(0), 2)["hits"]
    for count in (0, 10, len(hits), 150):
        found = crowded(hits, count)
        assert found.shape == (count, 9) and (found == crowded(hits, count)).all()
        np.testing.assert_allclose(np.sort(found[:60, 0]), np.sort(hits[:, 0]) if count >= 60 else np.sort(found[:, 0]))
    # Copies are turned about the beam: another place, the same depth and distance.
    copy = found[60:120]
    assert np.sort(copy[:, 7]) == pytest.approx(np.sort(hits[:, 7]), rel=1e-6)
    assert np.sort(np.hypot(*copy[:, 5:7].T)) == pytest.approx(np.sort(np.hypot(*hits[:, 5:7].T)), rel=1e-5)
    assert np.abs(np.sort(copy[:, 5]) - np.sort(hits[:, 5])).max() > 1


def test_times_of_files_and_of_numbers_of_hits(tmp_path, capsys):
    event = write_arrays(tmp_path / "event.npz", **made_event(np.random.default_rng(0), 2))
    options = HitsOptions([Path("configs/calo_spvcnn.py")], [event], runs=1, device="cpu", json=tmp_path / "out.json")
    (row,) = measure_hits(options).rows
    assert row["hits"] == 60 and row["network"] == "calo_spvcnn" and row["event"] == "event.npz"
    assert row["median_ms"] >= row["clustering_ms"] >= 0 and row["cpu_ms"] > 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["rows"] == [row] and "torch" in written["environment"]
    report = measure_hits(HitsOptions(options.models, [event], hits=(90, 30), runs=1, max_seconds=0.0, device="cpu"))
    assert [row["hits"] for row in report.rows] == [30]  # any time is longer than none, so 90 are left out
    assert "more hits than took 0 s" in capsys.readouterr().out
