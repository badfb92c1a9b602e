# SPDX-License-Identifier: Apache-2.0
"""The prepared index: what it says of hand-made tables, stopped and repeated preparation, indices of other tables."""

import json
import math
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from pcperc.datasets import nuscenes_index
from pcperc.datasets.nuscenes import NuScenesDataset
from pcperc.datasets.nuscenes_index import index_path
from pcperc.datasets.nuscenes_prepare import prepare_nuscenes_for_training
from tests import nuscenes_root as tiny
from tests.datasets.nuscenes_helpers import dataset, prepare, write_hand_made_root

ROOT = Path(__file__).resolve().parents[2]


def test_hand_made_tables(tmp_path):
    root = write_hand_made_root(tmp_path)
    prepare(root, "v1.0-hand")
    data = NuScenesDataset(root=root, version="v1.0-hand", split="hand_val", modalities=("lidar",), num_sweeps=2)
    assert len(data) == 2
    first, second = data.read_sample(0), data.read_sample(1)
    # Ego +x is LiDAR +y and ego +y is LiDAR -x: the car is 10 m ahead and 5 m to the left.
    np.testing.assert_allclose(first["boxes"], [[-5, 10, 1, 4, 2, 1, math.pi / 2, 0, 2]], atol=1e-6)
    assert first["labels"].tolist() == [0] and first["num_lidar_pts"].tolist() == [3]
    assert first["timestamp"] == 1.0 and first["scene_name"] == "hand" and first["sample_token"] == "a"
    # No older sweep: the key sweep stands in for both, without its point on the vehicle.
    expected = [[1, 2, 3, 100, 0], [0.5, -0.5, 0, 1, 0], [1, 2, 3, 100, 0], [1, 2, 3, 100, 0]]
    np.testing.assert_allclose(first["points"], expected)
    # The second sample's car has no point: not valid. Its older sweep was taken 2 m further back.
    assert second["boxes"].shape == (0, 9)
    np.testing.assert_allclose(second["points"], [[4, 5, 6, 200, 0], [1, 0, 3, 100, 0.5]], atol=1e-6)
    record = data.read_record(1)
    np.testing.assert_allclose(record["boxes"], [[-5, 9, 1, 4, 2, 1, -math.pi, 0, 2]], atol=1e-6)
    assert record["valid"] == [False] and record["location"] == "somewhere" and record["prev"] == "a"


def test_missing_sweeps_need_not_be_padded(tmp_path):
    root = write_hand_made_root(tmp_path)
    prepare(root, "v1.0-hand")
    options = {"root": root, "version": "v1.0-hand", "split": "hand_val", "modalities": ("lidar",)}
    assert len(NuScenesDataset(**options, pad_missing_sweeps=False)[0]["points"]) == 2
    assert len(NuScenesDataset(**options, num_sweeps=0)[1]["points"]) == 1


def test_object_annotated_once_has_no_velocity(tmp_path):
    root = write_hand_made_root(tmp_path)
    path = root / "v1.0-hand/sample_annotation.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([{**rows[0], "next": ""}]))
    prepare(root, "v1.0-hand")
    text = index_path(root, "v1.0-hand", "hand_val").read_text()
    assert "NaN" not in text and "null, null]" in text
    box = NuScenesDataset(root=root, version="v1.0-hand", split="hand_val", modalities=("lidar",))[0]["boxes"][0]
    assert np.isnan(box[7:]).all() and np.isfinite(box[:7]).all()


def test_samples_too_far_apart_give_no_velocity(tmp_path):
    root = write_hand_made_root(tmp_path)
    path = root / "v1.0-hand/sample.json"
    path.write_text(path.read_text().replace("1500000", "2600000"))
    prepare(root, "v1.0-hand")
    assert (
        json.loads(index_path(root, "v1.0-hand", "hand_val").read_text().splitlines()[0])["boxes"][0][7:] == [None] * 2
    )


def test_test_version_needs_no_annotations(tmp_path):
    root = write_hand_made_root(tmp_path, version="v1.0-handtest", annotated=False)
    prepare(root, "v1.0-handtest")
    data = NuScenesDataset(root=root, version="v1.0-handtest", split="hand_val", modalities=("lidar",))
    assert data[0]["boxes"].shape == (0, 9) and data[0]["labels"].dtype == np.int64
    assert data.sample_labels(0).tolist() == []


def test_index_does_not_depend_on_the_run(prepared, copy):
    path = index_path(copy, tiny.VERSION, "sim_train")
    before = path.read_bytes()
    shutil.rmtree(copy / "pcperc")
    prepare(copy)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == [
        *("sim_train.info.json", "sim_train.jsonl", "sim_val.info.json", "sim_val.jsonl"),
    ]


def test_complete_index_is_kept(copy, monkeypatch):
    prepare(copy)  # copying changed the times of the tables
    monkeypatch.setattr(nuscenes_index, "NuScenesTables", None)  # would be called, had it something to do
    prepare(copy)
    with pytest.raises(TypeError):
        prepare(copy, overwrite=True)


def two_scene_split(root):
    (root / tiny.VERSION / "splits.json").write_text(json.dumps({"both": ["sim-0000", "sim-0001"]}))


def test_stopped_preparation_goes_on(copy, monkeypatch):
    two_scene_split(copy)
    prepare(copy)
    path = index_path(copy, tiny.VERSION, "both")
    expected = path.read_bytes()
    shutil.rmtree(copy / "pcperc")
    describe, done = nuscenes_index.describe_sample, []

    def stop_at_fifth(tables, sample, scene, **options):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(scene["name"])
        return describe(tables, sample, scene, **options)

    monkeypatch.setattr(nuscenes_index, "describe_sample", stop_at_fifth)
    with pytest.raises(KeyboardInterrupt):
        prepare(copy)
    assert not path.exists()
    done.clear()
    prepare(copy)  # three samples of the second scene are left: the fifth call never comes
    assert done == ["sim-0001"] * 3
    assert path.read_bytes() == expected


def test_parts_of_other_tables_are_not_used(copy, monkeypatch):
    two_scene_split(copy)
    merge = nuscenes_index._merge
    monkeypatch.setattr(nuscenes_index, "_merge", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(copy)
    monkeypatch.setattr(nuscenes_index, "_merge", merge)
    path = copy / tiny.VERSION / "sample_annotation.json"
    path.write_text(path.read_text().replace('"num_lidar_pts": 5', '"num_lidar_pts": 6'))
    prepare(copy)
    assert '"num_lidar_pts": [6' in index_path(copy, tiny.VERSION, "both").read_text()


def test_index_of_other_tables_is_refused(copy):
    path = copy / tiny.VERSION / "sample_annotation.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(ValueError, match="was made from another sample_annotation.json; run python tools/prepare_data"):
        dataset(copy)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"format": 7}, {}, "is of format 7 and must be of format 1; run python tools/prepare_data"),
        ({"num_sweeps": 3}, {"num_sweeps": 4}, "lists 3 older sweeps and must list 4; run .*--num-sweeps 4"),
    ],
)
def test_index_of_another_kind_is_refused(copy, change, options, message):
    path = index_path(copy, tiny.VERSION, "sim_train").with_name("sim_train.info.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        dataset(copy, **options)


def test_index_of_too_few_sweeps(copy):
    with pytest.raises(ValueError, match="older sweeps must be 0 or more, got -3"):
        prepare(copy, num_sweeps=-3)


def test_command(copy):
    tool = [sys.executable, "tools/prepare_data.py", "nuscenes", "--root", str(copy), "--version"]
    done = subprocess.run([*tool, tiny.VERSION], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "sim_train:" in done.stdout
    failed = subprocess.run([*tool, "v1.0-none"], cwd=ROOT, capture_output=True, text=True)
    message = (
        f"error: nuScenes: folder {copy}/v1.0-none with the tables of v1.0-none is missing; versions found there: "
    )
    assert (failed.returncode, failed.stdout, failed.stderr) == (1, "", f"{message}{tiny.VERSION}\n")
    database = copy / "pcperc" / tiny.VERSION / "sim_train_gt_database"
    assert (database / "index.jsonl").is_file()


OTHER_PREPARATION = """
import sys
from pcperc.datasets.nuscenes_index import one_preparation
with one_preparation(*sys.argv[1:]):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("has_index", [False, True], ids=["index", "database"])
def test_one_preparation_at_a_time(copy, has_index):
    """As of the first runs of two trainings: they wrote into one database."""
    shutil.rmtree(copy / "pcperc", ignore_errors=True)
    if has_index:
        prepare(copy)
    folder = copy / "pcperc" / tiny.VERSION
    names = {"sim_train.jsonl", "sim_train.info.json", "sim_val.jsonl", "sim_val.info.json"} if has_index else set()
    command = [sys.executable, "-c", OTHER_PREPARATION, str(copy), tiny.VERSION]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"in\n"
        options = {"show_progress": False}
        own = threading.Thread(target=prepare_nuscenes_for_training, args=(copy, tiny.VERSION), kwargs=options)
        own.start()
        own.join(timeout=1)
        assert own.is_alive() and {path.name for path in folder.iterdir()} == {*names, ".preparing.lock"}
        other.stdin.close()
        own.join(timeout=60)
    assert (folder / "sim_train_gt_database/index.jsonl").is_file()


def test_complete_data_may_be_read_only(copy, monkeypatch):
    prepare_nuscenes_for_training(copy, tiny.VERSION, show_progress=False)

    def refuse(*_, **__):
        raise OSError("read-only")

    monkeypatch.setattr("pcperc.datasets.nuscenes_index.only_writer", refuse)
    prepare_nuscenes_for_training(copy, tiny.VERSION, show_progress=False)
    with pytest.raises(OSError, match="read-only"):
        prepare_nuscenes_for_training(copy, tiny.VERSION, overwrite=True, show_progress=False)
