# SPDX-License-Identifier: Apache-2.0
"""The prepared index and the data set, against the devkit, against hand-written tables and on bad input."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pcperc.datasets import nuscenes_index
from pcperc.datasets.nuscenes import NuScenesDataset, read_image, read_sweep
from pcperc.datasets.nuscenes_index import CLASS_OF_CATEGORY, CLASSES, index_path, prepare_nuscenes
from pcperc.datasets.nuscenes_tables import CAMERAS
from pcperc.geometry import box_corners
from tests import nuscenes_root as tiny

ROOT = Path(__file__).resolve().parents[2]


def prepare(root, version=tiny.VERSION, **options):
    return prepare_nuscenes(root, version, show_progress=False, **options)


def dataset(root, split="sim_train", **options):
    return NuScenesDataset(root=root, version=tiny.VERSION, split=split, **options)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tiny.write_tiny_root(tmp_path_factory.mktemp("tiny"))
    prepare(root)
    return root


@pytest.fixture
def copy(prepared, tmp_path):
    """A root of one's own, to break."""
    root = tmp_path / "nuscenes"
    shutil.copytree(prepared, root)
    return root


# --- the devkit as oracle


@pytest.fixture(scope="module")
def nusc(prepared):
    nuscenes = pytest.importorskip("nuscenes")
    return nuscenes.NuScenes(tiny.VERSION, str(prepared), verbose=False)


@pytest.mark.parametrize("index", range(3))
def test_boxes_equal_the_devkit(prepared, nusc, index):
    from pyquaternion import Quaternion

    record = dataset(prepared).read_record(index)
    row = nusc.get("sample", record["sample_token"])
    lidar = nusc.get("sample_data", row["data"]["LIDAR_TOP"])
    _, boxes, _ = nusc.get_sample_data(lidar["token"])
    boxes = [box for box in boxes if CLASS_OF_CATEGORY[box.name] is not None]
    assert record["names"] == [CLASS_OF_CATEGORY[box.name] for box in boxes]
    ours = np.array(record["boxes"], float)
    for box, mine in zip(boxes, ours, strict=True):
        corners = box_corners(mine[None])[0]
        expected = box.corners().T
        assert np.abs(corners[:, None] - expected[None]).max(-1).min(1).max() < 1e-5
        velocity = np.array([*nusc.box_velocity(box.token)[:2], 0.0])
        for pose in ("ego_pose", "calibrated_sensor"):
            rotation = nusc.get(pose, lidar[f"{pose}_token"])["rotation"]
            velocity = Quaternion(rotation).inverse.rotate(velocity)
        np.testing.assert_allclose(mine[7:], velocity[:2], atol=1e-5)


def test_sweeps_equal_the_devkit(prepared, nusc):
    from nuscenes.utils.data_classes import LidarPointCloud

    data = dataset(prepared, num_sweeps=9)
    sample = data.read_sample(2)
    row = nusc.get("sample", sample["sample_token"])
    cloud, times = LidarPointCloud.from_file_multisweep(
        nusc, row, "LIDAR_TOP", "LIDAR_TOP", nsweeps=10, min_distance=1.0
    )
    points = sample["points"]
    key = points[:320]  # the devkit removes close points of the key sweep too, the published recipe does not
    far = (np.abs(key[:, :2]) >= 1).any(1)
    points = np.concatenate([key[far], points[320:]])
    assert points.dtype == np.float32 and points.shape == (3000, 5)
    np.testing.assert_allclose(points[:, :4], cloud.points.T, atol=1e-4)
    np.testing.assert_allclose(points[:, 4], times[0], atol=1e-5)


def test_projection_equals_the_devkit(prepared, nusc):
    from pyquaternion import Quaternion

    sample = dataset(prepared).read_sample(1)
    row = nusc.get("sample", sample["sample_token"])
    points = sample["points"][:50, :3].astype(float)
    for index, channel in enumerate(CAMERAS):
        xyz = points.T
        lidar, camera = (nusc.get("sample_data", row["data"][name]) for name in ("LIDAR_TOP", channel))
        for table in ("calibrated_sensor", "ego_pose"):
            pose = nusc.get(table, lidar[f"{table}_token"])
            xyz = Quaternion(pose["rotation"]).rotation_matrix @ xyz + np.array(pose["translation"])[:, None]
        for table in ("ego_pose", "calibrated_sensor"):
            pose = nusc.get(table, camera[f"{table}_token"])
            xyz = Quaternion(pose["rotation"]).rotation_matrix.T @ (xyz - np.array(pose["translation"])[:, None])
        matrix = sample["lidar2camera"][index]
        np.testing.assert_allclose((matrix[:3, :3] @ points.T + matrix[:3, 3:]), xyz, atol=1e-6)
        assert sample["camera2image"][index, 0, 2] == 15.5


def test_class_of_category_is_the_devkits():
    utils = pytest.importorskip("nuscenes.eval.detection.utils")
    for category, name in CLASS_OF_CATEGORY.items():
        assert utils.category_to_detection_name(category) == name
    assert set(CLASS_OF_CATEGORY.values()) - {None} == set(CLASSES)


def test_official_splits_are_by_scene_name(tmp_path):
    (tmp_path / "v1.0-mini").mkdir()
    found = nuscenes_index.split_scenes(tmp_path, "v1.0-mini", ["scene-0103", "scene-0061", "scene-0553"])
    assert found == {"mini_train": ["scene-0061", "scene-0553"], "mini_val": ["scene-0103"]}
    (tmp_path / "v1.0-trainval").mkdir()
    assert set(nuscenes_index.split_scenes(tmp_path, "v1.0-trainval", ["scene-0103", "scene-0061"])) == {"train", "val"}


# --- hand-written tables


def write_hand_made_root(root, *, version="v1.0-hand", annotated=True):
    """Two samples 0.5 s apart, the sensor at the vehicle's origin; the vehicle stands at (10, 0), then at (12, 0)."""
    identity = [1, 0, 0, 0]
    half = math.sqrt(0.5)
    common = {"calibrated_sensor_token": "cal", "is_key_frame": True, "fileformat": "pcd"}
    annotation = {"instance_token": "i", "size": [2, 4, 1], "num_radar_pts": 0, "visibility_token": "4"}
    tables = {
        "sensor": [{"token": "s", "channel": "LIDAR_TOP", "modality": "lidar"}],
        "calibrated_sensor": [
            {
                **{"token": "cal", "sensor_token": "s", "translation": [0, 0, 0], "rotation": [half, 0, 0, -half]},
                "camera_intrinsic": [],
            }
        ],
        "log": [{"token": "l", "location": "somewhere"}],
        "scene": [{"token": "sc", "name": "hand", "log_token": "l", "first_sample_token": "a"}],
        "sample": [
            {"token": "a", "timestamp": 1_000_000, "scene_token": "sc", "prev": "", "next": "b"},
            {"token": "b", "timestamp": 1_500_000, "scene_token": "sc", "prev": "a", "next": ""},
        ],
        "sample_data": [
            {
                **common,
                **{"token": "da", "sample_token": "a", "ego_pose_token": "ea", "filename": "a.bin"},
                **{"timestamp": 1_000_000, "prev": "", "next": "db"},
            },
            {
                **common,
                **{"token": "db", "sample_token": "b", "ego_pose_token": "eb", "filename": "b.bin"},
                **{"timestamp": 1_500_000, "prev": "da", "next": ""},
            },
        ],
        "ego_pose": [
            {"token": "ea", "translation": [10, 0, 0], "rotation": identity},
            {"token": "eb", "translation": [12, 0, 0], "rotation": identity},
        ],
        "category": [{"token": "c", "name": "vehicle.car"}],
        "instance": [{"token": "i", "category_token": "c"}],
        "sample_annotation": [
            {
                **annotation,
                **{"token": "x", "sample_token": "a", "translation": [20, 5, 1], "rotation": identity},
                **{"prev": "", "next": "y", "num_lidar_pts": 3},
            },
            {
                **annotation,
                **{"token": "y", "sample_token": "b", "translation": [21, 5, 1], "rotation": [half, 0, 0, half]},
                **{"prev": "x", "next": "", "num_lidar_pts": 0},
            },
        ],
        "splits": {"hand_val": ["hand"]},
    }
    if not annotated:
        for name in ("category", "instance", "sample_annotation"):
            del tables[name]
    (root / version).mkdir(parents=True)
    for name, rows in tables.items():
        (root / version / f"{name}.json").write_text(json.dumps(rows))
    np.array([[1, 2, 3, 100, 7], [0.5, -0.5, 0, 1, 2]], np.float32).tofile(root / "a.bin")
    np.array([[4, 5, 6, 200, 9]], np.float32).tofile(root / "b.bin")
    return root


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


# --- samples


def test_sample_layout(prepared):
    data = dataset(prepared, split="sim_val")
    sample = data[1]
    assert sample["scene_name"] == "sim-0001" and sample["sample_index"] == 1
    assert len(sample["images"]) == 6 and sample["images"][2].shape == (18, 32, 3)
    np.testing.assert_allclose(sample["images"][3][5, 5].astype(int), [120, 100, 200], atol=4)  # CAM_BACK, RGB
    assert sample["boxes"].shape == (10, 9) and sample["boxes"].dtype == np.float32
    assert sample["labels"].tolist() == [CLASSES.index(name) for name in tiny.CLASSES]
    for key, shape in {"lidar2camera": (6, 4, 4), "camera2image": (6, 3, 3), "image_aug": (6, 3, 3)}.items():
        assert sample[key].shape == shape and sample[key].dtype == np.float64
    assert {"lidar2ego", "ego2global", "lidar_aug", "timestamp", "sample_token"} <= set(sample)
    lidar_only = dataset(prepared, modalities=("lidar",))[0]
    assert "images" not in lidar_only and "lidar2camera" not in lidar_only
    assert "points" not in dataset(prepared, modalities=("camera",))[0]


def test_classes_choose_boxes_and_labels(prepared):
    data = dataset(prepared, classes=("bus", "car"), modalities=("lidar",))
    assert data[0]["labels"].tolist() == [1, 0]
    assert data.sample_labels(2).tolist() == [1, 0]
    assert data.metainfo["classes"] == ("bus", "car") and data.classes == ("bus", "car")


def test_transforms_get_rng_and_epoch_and_may_drop_samples(prepared):
    from pcperc.datasets.sampling import SampleKey

    seen = []

    def drop_first(sample):
        seen.append((sample["sample_index"], sample["epoch"], sample["rng"].random()))
        return None if sample["sample_index"] == 0 else sample

    data = dataset(prepared, transforms=[drop_first], modalities=("lidar",))
    picked = data[SampleKey(epoch=4, index=0, seed=1)]["sample_index"]
    assert picked != 0 and seen[0][:2] == (0, 4)
    first = list(seen)
    seen.clear()
    assert data[SampleKey(epoch=4, index=0, seed=1)]["sample_index"] == picked
    assert seen == first
    with pytest.raises(ValueError, match="dropped sample 0, which test_mode forbids"):
        dataset(prepared, transforms=[drop_first], modalities=("lidar",), test_mode=True)[0]
    with pytest.raises(ValueError, match="dropped 100 samples of sim_train in a row"):
        dataset(prepared, transforms=[lambda sample: None], modalities=("lidar",))[0]


def test_workers_read_the_same(prepared):
    data = dataset(prepared)
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=1)
    for here, there in zip((data[i] for i in range(len(data))), loader, strict=True):
        np.testing.assert_array_equal(here["points"], there["points"])
        assert here["sample_token"] == there["sample_token"]


def test_registered():
    from pcperc.registry import DATASETS

    assert DATASETS.get("NuScenesDataset") is NuScenesDataset


# --- preparation


def test_index_does_not_depend_on_the_run(prepared, copy):
    path = index_path(copy, tiny.VERSION, "sim_train")
    before = path.read_bytes()
    shutil.rmtree(copy / "pcperc")
    prepare(copy)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == [
        *("sim_train.info.json", "sim_train.jsonl", "sim_val.info.json", "sim_val.jsonl")
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


# --- bad input


def edit(root, table, change):
    path = root / tiny.VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        (
            "sample_annotation",
            lambda rows: rows[0].update(size=[0, 1, 1]),
            "annotation.json: 'size' must be 3 numbers > 0",
        ),
        ("sample_annotation", lambda rows: rows[1].update(size="abc"), "'size' must be 3 finite numbers, got abc"),
        ("sample_annotation", lambda rows: rows[1].update(size=[1, "b", 1]), "'size' must be 3 finite numbers"),
        ("sample_annotation", lambda rows: rows[1].update(translation=None), "'translation' must be 3 finite .* None"),
        ("sample_annotation", lambda rows: rows[1].update(translation=[1, math.nan, 2]), "'translation' must be 3 fin"),
        ("sample_annotation", lambda rows: rows[1].update(rotation=[2, 0, 0, 0]), "'rotation' must be a quaternion of"),
        (
            "sample_annotation",
            lambda rows: rows[1].update(num_lidar_pts=None),
            "'num_lidar_pts' must be a whole number",
        ),
        ("sample", lambda rows: rows[1].update(timestamp="noon"), "sample.json: 'timestamp' must be a whole .* 'noon'"),
        (
            "category",
            lambda rows: rows[8].update(name="vehicle.spaceship"),
            "category of annotation .*'vehicle.spaceship'",
        ),
        ("ego_pose", lambda rows: rows.clear(), "table ego_pose.json must have a row with token"),
        (
            "ego_pose",
            lambda rows: rows[0].update(rotation=[0, 0, 0, 0]),
            "row .* of table .*ego_pose.json: 'rotation' must be a quat",
        ),
        ("sample", lambda rows: rows[0].pop("next"), r"sample.json must have the keys \['next'\]"),
        ("sample_data", lambda rows: [r.update(is_key_frame=False) for r in rows], "must have a LIDAR_TOP key frame"),
        ("splits", lambda splits: splits.update(new=["sim-9999"]), "must name scenes of v1.0-tiny, got 'sim-9999'"),
        ("splits", lambda splits: splits.update(val=["sim-0000"]), "must not name a split 'val'"),
        ("splits", lambda splits: splits.clear(), "no scene of v1.0-tiny is in a split"),
    ],
)
def test_wrong_tables(copy, table, change, message):
    shutil.rmtree(copy / "pcperc")
    edit(copy, table, change)
    with pytest.raises(ValueError, match=message):
        prepare(copy)
    assert not list(copy.glob("pcperc/*/*.jsonl"))


@pytest.mark.parametrize("table", ["sample_data", "sample_annotation", "scene", "log"])
def test_missing_and_truncated_tables(copy, table):
    path = copy / tiny.VERSION / f"{table}.json"
    content = path.read_text()
    path.write_text(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"table .*{table}.json must be JSON, but cannot be read \(truncated\?\)"):
        prepare(copy)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"table .*v1.0-tiny/{table}.json is missing"):
        prepare(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"must hold float32 rows of 5 \(20 bytes each\), got 0 bytes"),
        (b"\0" * 47, "got 47 bytes"),
        (
            np.array([[1, 2, 3, 4, 5], [1, np.nan, 3, 4, 5]], "<f4").tobytes(),
            "got NaN or infinity in 1 points, first 1",
        ),
    ],
)
def test_bad_point_files(copy, content, message):
    data = dataset(copy)
    path = copy / data.read_record(0)["lidar"]["path"]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"point file {path} .*{message}"):
        data[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"point file {path} is missing"):
        read_sweep(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[: len(content) // 2], "is cut short"),
        (lambda content: b"", "does not decode"),
        (lambda content: b"hello", "does not decode"),
        (lambda content: cv2.imencode(".jpg", np.zeros((4, 6, 3), np.uint8))[1].tobytes(), "must be of 18 x 32"),
    ],
)
def test_bad_images(copy, change, message):
    data = dataset(copy)
    path = copy / data.read_record(0)["cameras"]["CAM_BACK"]["path"]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"image {path} .*{message}"):
        data[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"image {path} is missing"):
        read_image(path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"split": "val"},
            FileNotFoundError,
            "index .*val.jsonl is missing; run python tools/prepare_data.py nuscenes --root",
        ),
        ({"classes": ("car", "spaceship")}, ValueError, "classes must be of car, truck"),
        ({"classes": ()}, ValueError, "classes must be of car"),
        ({"modalities": ("radar",)}, ValueError, "modalities must be of lidar, camera"),
        ({"num_sweeps": -1}, ValueError, "num_sweeps must be 0 or more, got -1"),
    ],
)
def test_bad_arguments(prepared, options, error, message):
    with pytest.raises(error, match=message):
        dataset(prepared, **options)


def test_bad_index(copy):
    path = index_path(copy, tiny.VERSION, "sim_train")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{broken\n")
    data = dataset(copy, modalities=("lidar",))
    assert data[0]["sample_index"] == 0
    with pytest.raises(ValueError, match=f"line 2 of {path} must be JSON"):
        data[1]
    with pytest.raises(IndexError, match=r"index must be in \[0, 2\), got 2"):
        data.read_record(2)
    path.write_bytes(lines[0].replace(b"lidar2ego", b"lidar2car"))
    with pytest.raises(ValueError, match=f"line 1 of {path} must have the key 'lidar2ego'"):
        dataset(copy).read_record(0)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"index {path} must have at least one sample"):
        dataset(copy)
    with pytest.raises(ValueError, match="split of v1.0-tiny must be one of sim_train, sim_val, got 'x'"):
        prepare(copy, splits=["x"])
