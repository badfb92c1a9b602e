# SPDX-License-Identifier: Apache-2.0
"""tools/infer.py --ray: every frame once, also when a worker is killed; resuming; what it refuses."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from pcperc.engine import batch_inference
from pcperc.engine.batch_inference import BatchOptions, FrameSource, PartWriter, infer_on_ray, read_parts
from pcperc.engine.batch_parts import COLUMNS, Failure, part_paths, read_failures, read_part, write_part
from pcperc.engine.checkpoint import save_weights
from pcperc.engine.config import ConfigError, load_config, plain_config
from pcperc.files import only_writer
from pcperc.nn.fuse import FusedConvBlock
from pcperc.registry import MODELS
from pcperc.tables import read_table
from tests.engine.helpers import ENVIRONMENT, ROOT
from tests.nuscenes_root import write_tiny_root

CONFIG = ROOT / "configs/bevfusion/lidar_only_demo.py"
FRAMES = 23

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """A detector with random weights and many small clouds, of as many points as their number tells."""
    folder = tmp_path_factory.mktemp("frames")
    cfg = load_config(CONFIG)
    meta = {"config": plain_config(cfg), "config_file": str(CONFIG), "simulated": True}
    torch.manual_seed(0)
    save_weights(MODELS.build(cfg["model"]).state_dict(), folder / "model.safetensors", meta=meta)
    rng = np.random.default_rng(0)
    files = [folder / f"cloud_{index:02d}.npy" for index in range(FRAMES)]
    for index, path in enumerate(files):
        np.save(path, np.pad(rng.uniform([-40, -40, -2], [40, 40, 1], (400 + index, 3)), ((0, 0), (0, 2))).astype("f4"))
    return BatchOptions(CONFIG, folder / "model.safetensors", folder / "out", files, frames_per_part=2, min_score=0.0)


def test_parts_of_one_worker_hold_every_frame_once(options, tmp_path):
    few = replace(options, out=tmp_path, files=options.files[:5])
    writer = PartWriter(few, "cpu")
    done = writer({"part": np.array([2, 0])})
    np.testing.assert_array_equal(done["frames"], [1, 2])
    table = read_table(tmp_path / "part-000000.parquet", ["frame", "score", "x", "class"])
    assert table["frame"].tolist() == [str(path) for path in few.files[:2]]
    assert len(table["score"][0]) == len(table["x"][0]) == len(table["class"][0]) > 0
    assert (np.diff(table["score"][0]) <= 0).all()
    before = (tmp_path / "part-000000.parquet").stat().st_mtime_ns
    writer.write(0)  # is there already
    assert (tmp_path / "part-000000.parquet").stat().st_mtime_ns == before
    fused = PartWriter(replace(few, out=tmp_path / "fused", fuse=True), "cpu")
    assert any(isinstance(module, FusedConvBlock) for module in fused.model.modules())
    fused.write(0)
    scores = read_table(tmp_path / "fused/part-000000.parquet", ["score"])["score"]
    np.testing.assert_allclose(scores[0], table["score"][0], atol=1e-4)


def test_what_is_refused(options, tmp_path, monkeypatch):
    assert [path.name for path in part_paths(tmp_path, 5, 2)] == [f"part-00000{i}.parquet" for i in range(3)]
    with pytest.raises(ConfigError, match="looks at no images"):
        FrameSource(replace(options, calibration=options.files[:1]))
    with pytest.raises(FileNotFoundError, match="none.npy: no such file"):
        FrameSource(replace(options, files=[tmp_path / "none.npy"]))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"Ray must be installed \(pip install 'pcperc\[ray\]'\)"):
        infer_on_ray(options)


@pytest.fixture
def in_this_process(monkeypatch):
    """Let one worker of this process do what Ray's workers would; return the parts that it was given, run by run."""
    given = []

    def run(_ray, options, missing):
        given.append(list(missing))
        PartWriter(options, "cpu")({"part": np.array(missing)})

    monkeypatch.setattr(batch_inference, "_import_ray", lambda: None)
    monkeypatch.setattr(batch_inference, "_run", run)
    return given


def test_a_stopped_run_goes_on_with_what_is_missing(options, tmp_path, in_this_process):
    few = replace(options, out=tmp_path / "out", files=options.files[:7])
    paths = infer_on_ray(few)
    assert read_parts(few.out)["frame"] == [str(path) for path in few.files]
    kept = {path: path.stat().st_mtime_ns for path in paths}
    paths[2].unlink()
    (few.out / ".part-000002.parquet.123.partial").touch()  # of a worker that was killed
    infer_on_ray(few)
    infer_on_ray(few)
    assert in_this_process == [[0, 1, 2, 3], [2]]
    assert read_parts(few.out)["frame"] == [str(path) for path in few.files]
    assert [path for path in paths if path.stat().st_mtime_ns != kept[path]] == [paths[2]]
    assert sorted(p.name for p in few.out.iterdir()) == ["_run.json", *(p.name for p in paths)]
    with pytest.raises(ConfigError, match=r"holds results of another run \(frames: 7 there, 6 here\)"):
        infer_on_ray(replace(few, files=few.files[:6]))
    with pytest.raises(ConfigError, match="--workers and --frames-per-part must be 1 or more, got 0 and 2"):
        infer_on_ray(replace(few, workers=0))


@pytest.fixture
def with_bad_files(options, tmp_path):
    """Seven files of which three hold something else: one beside good ones, two that are a whole part."""
    files = [tmp_path / path.name for path in options.files[:7]]
    for ours, theirs in zip(files, options.files, strict=False):
        ours.write_bytes(theirs.read_bytes())
    files[1].write_text("hello")
    np.save(files[4], np.full((5, 4), np.nan, np.float32))
    files[5].write_bytes(b"")
    return replace(options, out=tmp_path / "out", files=files)


def test_bad_files_stop_no_others_and_are_tried_again(options, with_bad_files, in_this_process, capsys):
    few, files = with_bad_files, with_bad_files.files
    with pytest.raises(ValueError, match="^3 of 7 frames failed, as said above; the same command tries them again$"):
        infer_on_ray(few)
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(" failed: ")[0] for line in said[-4:-1]] == [str(files[index]) for index in (1, 4, 5)]
    assert said[-3] == f"{files[4]} failed: {files[4]}: must be finite, got NaN or infinity in 5 points, first 0"
    assert said[-1] == f"4 frames: {few.out}/part-*.parquet"
    table = read_parts(few.out)
    assert table["frame"] == [str(files[index]) for index in (0, 2, 3, 6)]
    paths = part_paths(few.out, 7, 2)
    kept = {path: path.stat().st_mtime_ns for path in paths}
    with pytest.raises(ValueError, match="3 of 7 frames failed"):
        infer_on_ray(few)  # nothing was mended, and nothing is written
    assert "7 frames in 4 parts, 2 of them done already; 3 frames that failed are tried" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in paths} == kept
    files[1].write_bytes(options.files[1].read_bytes())
    files[5].write_bytes(options.files[5].read_bytes())
    with pytest.raises(ValueError, match="1 of 7 frames failed"):
        infer_on_ray(few)
    files[4].write_bytes(options.files[4].read_bytes())
    assert infer_on_ray(few) == paths
    assert in_this_process == [[0, 1, 2, 3], [0, 2], [0, 2], [2]]
    whole, again = replace(few, out=few.out / "whole"), read_parts(few.out)
    infer_on_ray(whole)
    for name, values in read_parts(whole.out).items():
        for ours, theirs in zip(again[name], values, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert [path for path in paths if path.stat().st_mtime_ns == kept[path]] == [paths[1], paths[3]]


def test_what_was_found_is_not_looked_for_again(with_bad_files, in_this_process, monkeypatch):
    few = with_bad_files
    with pytest.raises(ValueError, match="3 of 7 frames failed"):
        infer_on_ray(few)
    seen = []
    read = FrameSource.sample
    monkeypatch.setattr(FrameSource, "sample", lambda self, index: (seen.append(index), read(self, index))[1])
    with pytest.raises(ValueError, match="3 of 7 frames failed"):
        infer_on_ray(few)
    assert seen == [1, 4, 5]


def test_parts_have_one_type_whatever_is_in_them(tmp_path):
    """A folder of them is one table for other programs, also where the first part has no frame or no box."""
    row = {name: np.zeros(0, np.float32) for name in COLUMNS} | {"frame": "a", "scene": "", "worker": "w"}
    row |= {"timestamp": float("nan"), "class": []}
    failures = [Failure(0, "b", "no ü"), Failure(1, "c", "")]
    paths = part_paths(tmp_path, 3, 1)
    for path, rows in zip(paths, ([], [row], [row | {"class": ["car"], "score": np.ones(1, np.float32)}]), strict=True):
        write_part(path, rows, failures)
    parquet = pytest.importorskip("pyarrow.parquet")
    assert len({parquet.read_schema(path).remove_metadata() for path in paths}) == 1
    assert read_failures(paths[0]) == failures
    rows, found = read_part(paths[2], range(3))
    assert found == failures and list(rows) == [2] and rows[2]["class"].tolist() == ["car"]
    with pytest.raises(ValueError, match=r"part-000000.parquet: must have the 4 frames from 6 on, got 0 and 2 that"):
        read_part(paths[0], range(6, 10))


def test_a_part_that_is_damaged_is_named(options, tmp_path, in_this_process):
    few = replace(options, out=tmp_path / "out", files=options.files[:3])
    infer_on_ray(few)
    path = part_paths(few.out, 3, 2)[1]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="part-000001.parquet cannot be read, it is truncated or something else"):
        infer_on_ray(few)


def test_a_folder_is_one_table_for_other_programs(options, tmp_path, in_this_process):
    parquet = pytest.importorskip("pyarrow.parquet")
    few = replace(options, out=tmp_path / "out", files=options.files[:3])
    infer_on_ray(few)
    assert parquet.read_table(few.out)["frame"].to_pylist() == [str(path) for path in few.files]


def test_a_folder_that_cannot_be_taken(options, tmp_path, in_this_process):
    few = replace(options, out=tmp_path / "out", files=options.files[:3])
    with only_writer(few.out, "inferring"), pytest.raises(OSError, match="out: another process is inferring there"):
        infer_on_ray(few)
    (few.out / "_run.json").write_text('{"frames": 3')
    with pytest.raises(ConfigError, match="out/_run.json cannot be read: .*; choose another --out"):
        infer_on_ray(few)
    (few.out / "_run.json").write_text("[]")
    with pytest.raises(ConfigError, match="out/_run.json must say of which frames the parts are, it does not"):
        infer_on_ray(few)
    assert in_this_process == []


def test_an_error_of_the_program_is_none_of_the_frame(options, tmp_path, in_this_process, monkeypatch):
    few = replace(options, out=tmp_path / "out", files=options.files[:3])
    monkeypatch.setattr(batch_inference, "predict", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError):
        infer_on_ray(few)
    assert not list(few.out.glob("part-*"))


@pytest.mark.parametrize(
    "other", [{"columns": 5}, {"calibration": ("b.json",)}, {"intensity_scale": 255.0}, {"fuse": True}]
)
def test_files_that_are_read_otherwise_are_another_run(options, tmp_path, in_this_process, monkeypatch, other):
    monkeypatch.setattr(FrameSource, "_check_files", lambda self: None)  # this detector has no cameras
    monkeypatch.setattr(
        batch_inference, "_run", lambda _ray, few, missing: [write_part(p, [], []) for p in part_paths(few.out, 2, 2)]
    )
    few = replace(options, out=tmp_path / "out", files=options.files[:2])
    infer_on_ray(few)
    with pytest.raises(ConfigError, match="holds results of another run"):
        infer_on_ray(replace(few, **other))


def test_all_frames_of_a_data_set(options, tmp_path, in_this_process):
    root = write_tiny_root(tmp_path / "nuscenes", version="v1.0-sim")
    whole = replace(options, files=(), out=tmp_path / "out", data_root=str(root), split="sim_train")
    infer_on_ray(whole)
    table = read_parts(whole.out)
    assert table["scene"] == ["sim-0000"] * 3 and len(set(table["frame"])) == 3
    assert np.allclose(np.diff(table["timestamp"]), 0.5, atol=1e-3)


def test_a_bad_frame_of_a_data_set_is_named_by_its_number(options, tmp_path, in_this_process, capsys):
    root = write_tiny_root(tmp_path / "nuscenes", version="v1.0-sim")
    whole = replace(options, files=(), out=tmp_path / "out", data_root=str(root), split="sim_train")
    sweep = root / FrameSource(whole).dataset.read_record(1)["lidar"]["path"]
    sweep.write_bytes(b"cut")
    with pytest.raises(ValueError, match="of 3 frames failed, as said above"):
        infer_on_ray(whole)
    assert re.search(f"^sample 1 of sim_train failed: .*{re.escape(sweep.name)}", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.large
def test_a_killed_worker_costs_no_frame(options):
    pytest.importorskip("ray")
    command = [sys.executable, "tools/infer.py", CONFIG, options.checkpoint, *options.files, "--ray", "--workers", "3"]
    command += ["--frames-per-part", "2", "--min-score", "0", "--out", options.out, "--device", "cpu"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    paths = part_paths(options.out, FRAMES, 2)
    run = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=-2, text=True
    )
    try:
        victim = worker_of_first_part(paths, run)
        os.kill(victim, signal.SIGKILL)
        done = sum(path.is_file() for path in paths)
        said, _ = run.communicate(timeout=180)
    finally:
        run.kill()
    assert run.returncode == 0, said
    assert done < len(paths), "the worker was killed when all was done: nothing is shown"
    table = read_parts(options.out)
    assert table["frame"] == [str(path) for path in options.files]
    workers = {int(name.rpartition("/")[2]) for name in table["worker"]}
    assert victim in workers and len(workers) > 1
    assert not list(options.out.glob(".part-*"))


def worker_of_first_part(paths, run) -> int:
    """Wait for the first part; return the process that wrote it."""
    end = time.monotonic() + 120
    while time.monotonic() < end and run.poll() is None:
        for path in paths:
            if path.is_file():
                return int(read_table(path, ["worker"])["worker"][0].rpartition("/")[2])
        time.sleep(0.02)
    raise AssertionError(f"no part was written: {run.stdout.read() if run.poll() is not None else 'in time'}")
