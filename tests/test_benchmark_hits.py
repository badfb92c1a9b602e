# SPDX-License-Identifier: Apache-2.0
"""The program that times networks of calorimeter hits, at toy size; times themselves are not asserted."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pcperc.benchmark import hits
from pcperc.benchmark.hits import HitsOptions, crowded, expected_seconds, measure_hits
from pcperc.benchmark.report import Report
from pcperc.nn.fuse import FusedConvBlock
from tests.calorimeter_events import made_event, write_arrays


def test_more_hits_of_an_event():
    event = made_event(np.random.default_rng(0), 2)["hits"]
    for count in (0, 10, len(event), 150):
        found = crowded(event, count)
        assert found.shape == (count, 9) and (found == crowded(event, count)).all()
        first = found[:60, 0]  # the event's own hits, each once
        assert len(set(first.tolist())) == len(first) and set(first.tolist()) <= set(event[:, 0].tolist())
    # Copies are turned about the beam: another place, the same depth and distance.
    copy = found[60:120]
    assert np.sort(copy[:, 7]) == pytest.approx(np.sort(event[:, 7]), rel=1e-6)
    assert np.sort(np.hypot(*copy[:, 5:7].T)) == pytest.approx(np.sort(np.hypot(*event[:, 5:7].T)), rel=1e-5)
    assert np.abs(np.sort(copy[:, 5]) - np.sort(event[:, 5])).max() > 1


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
    (left_out,) = report.not_measured
    assert left_out["event"] == "90 hits" and "more than --max-seconds 0" in left_out["reason"]
    assert "expected to take" in capsys.readouterr().out


@pytest.fixture
def timed(monkeypatch):
    """Networks of which a pass over N hits takes (N / 10,000)^2 s; ``timed.stop`` hits are a Ctrl-C."""
    timed = SimpleNamespace(hits=[], stop=None, capacities=[])

    def time_batch(model, events, *, device, runs):
        count = len(events[0])
        if count == timed.stop:
            raise KeyboardInterrupt
        timed.hits.append(count)
        return {"hits": count, "median_ms": 1e3 * (count / 1e4) ** 2, "network_ms": 0.0}

    monkeypatch.setattr(hits, "time_batch", time_batch)
    monkeypatch.setattr(hits, "load_network", lambda path, device, cuda_graph: timed.capacities.append(cuda_graph))
    return timed


def options_of(tmp_path, *counts, **changes):
    event = write_arrays(tmp_path / "event.npz", **made_event(np.random.default_rng(0), 2))
    models = [Path("a.py"), Path("b.py")]
    return HitsOptions(models, [event], hits=counts, runs=1, device="cpu", json=tmp_path / "out.json", **changes)


def test_a_row_that_is_expected_to_take_too_long_is_left_out_before_it_runs(tmp_path, timed):
    """All passes of a row and the growth of hits count: 3 passes of 1 s at 10,000 hits are 6 s at 20,000."""
    report = measure_hits(options_of(tmp_path, 20_000, 100, 10_000, 30_000, max_seconds=6.0))
    assert timed.hits == 2 * [100, 10_000, 20_000]  # 20,000 took 12 s, so that 30,000 would take 18
    assert [entry["event"] for entry in report.not_measured] == 2 * ["30000 hits"]
    assert "expected to take 18 s, more than --max-seconds 6" in report.not_measured[0]["reason"]
    row = {"hits": 20_000, "median_ms": 500.0, "network_ms": 400.0}
    assert expected_seconds(row, 60_000, runs=3) == pytest.approx(3 * (5 * 0.5 + 3 * 0.4))
    assert expected_seconds(row | {"hits": 0}, 10_000, runs=3) == pytest.approx(5 * 0.5 + 3 * 0.4)


def test_events_that_find_no_room_in_the_graph_are_left_out(tmp_path, timed):
    report = measure_hits(options_of(tmp_path, 100, 250, 251, cuda_graph=250))
    assert timed.hits == 2 * [100, 250] and timed.capacities == [250, 250] and report.input["cuda_graph"] == 250
    reasons = [entry["reason"] for entry in report.not_measured]
    assert reasons == 2 * ["251 hits: 251 hits, more than --cuda-graph 250"]


def test_a_network_goes_into_its_graph_fused(monkeypatch):
    captured = {}
    monkeypatch.setattr(hits, "capture_model", lambda model, *, capacity: captured.update({capacity: model}))
    cpu, config = torch.device("cpu"), Path("configs/calo_spvcnn.py")
    model = hits.load_network(config, cpu, cuda_graph=77)
    assert captured == {77: model} and any(isinstance(module, FusedConvBlock) for module in model.modules())
    hits.load_network(config, cpu)
    assert list(captured) == [77]


def test_a_stopped_run_keeps_its_rows(tmp_path, timed, capsys):
    timed.stop = 300
    with pytest.raises(KeyboardInterrupt):
        measure_hits(options_of(tmp_path, 100, 200, 300))
    assert [row["hits"] for row in json.loads((tmp_path / "out.json").read_text())["rows"]] == [100, 200]
    assert "200 hits" in capsys.readouterr().out.partition("environment")[2]  # the table


def test_a_run_that_is_stopped_before_its_first_row_leaves_the_file_of_another(tmp_path, timed, monkeypatch, capsys):
    (tmp_path / "out.json").write_text("of another run")

    def missing(path, device, cuda_graph):
        raise FileNotFoundError(path)

    monkeypatch.setattr(hits, "load_network", missing)
    with pytest.raises(FileNotFoundError, match=r"a\.py"):
        measure_hits(options_of(tmp_path, 100, 200))
    assert (tmp_path / "out.json").read_text() == "of another run"
    assert "environment" not in capsys.readouterr().out


def test_each_row_is_written_as_it_is_measured(tmp_path, timed, monkeypatch):
    written = []
    monkeypatch.setattr(Report, "save", lambda report, path: written.append((len(report.rows), path)))
    measure_hits(options_of(tmp_path, 100, 200))
    assert written[:4] == [(count, tmp_path / "out.json") for count in (1, 2, 3, 4)]
