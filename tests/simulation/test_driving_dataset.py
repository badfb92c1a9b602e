# SPDX-License-Identifier: Apache-2.0
"""The simulated data set as a whole: it loads in the devkit, repeats bit for bit, and is never left half-written."""

import errno
import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pcperc.simulated import SIMULATION_STAMP
from pcperc.simulation.data_set import simulate
from pcperc.simulation.driving import generate
from pcperc.simulation.driving.calibration import compare, format_table
from pcperc.simulation.driving.generate import VERSION, Settings

CLASSES = "car truck construction_vehicle bus trailer barrier motorcycle bicycle pedestrian traffic_cone".split()
TINY = Settings(scenes=4, size="tiny", seed=5)
REPOSITORY = Path(__file__).parents[2]


def fingerprint(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "nuscenes"
    calls = []
    assert simulate(out, TINY, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 4) for done in range(5)]
    return out


@pytest.fixture(scope="module")
def nusc(root):
    devkit = pytest.importorskip("nuscenes")
    return devkit.NuScenes(VERSION, str(root), verbose=False)


def test_seed_fixes_every_byte_whatever_the_number_of_workers(root, tmp_path):
    command = [sys.executable, "tools/simulate.py", "nuscenes", "--out", str(tmp_path / "again"), "--scenes", "4"]
    command += ["--size", "tiny", "--seed", "5", "--workers", "2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 simulated scenes" in done.stdout
    assert fingerprint(tmp_path / "again") == fingerprint(root)


def test_another_seed_gives_another_world(root):
    other = generate.scene_world(6, 0)
    same, again = generate.scene_world(5, 0), generate.scene_world(5, 0)
    assert np.array_equal(same.background.geometry, again.background.geometry)
    assert len(other.background) != len(same.background) or other.road.heading != same.road.heading


def test_devkit_finds_ten_classes_in_both_splits(nusc):
    from nuscenes.eval.detection.utils import category_to_detection_name
    from nuscenes.utils.splits import get_scenes_of_custom_split

    for split, names in (("sim_train", 3), ("sim_val", 1)):
        scenes = get_scenes_of_custom_split(split_name=split, nusc=nusc)
        assert len(scenes) == names
        found = set()
        for annotation in nusc.sample_annotation:
            sample = nusc.get("sample", annotation["sample_token"])
            if nusc.get("scene", sample["scene_token"])["name"] in scenes:
                found.add(category_to_detection_name(annotation["category_name"]))
        assert found == set(CLASSES)


def test_points_in_each_box_are_those_annotated(nusc, root):
    checked = 0
    for sample in nusc.sample:
        data = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        points = np.fromfile(root / data["filename"], np.float32).reshape(-1, 5)
        assert points.shape == (1084 * 32, 5) and np.isfinite(points).all()
        assert np.array_equal(points[:64, 4], np.tile(np.arange(32), 2))
        assert points[:, 3].min() >= 0 and points[:, 3].max() <= 255
        world = _to_world(nusc, data, points[:, :3].astype(np.float64))
        for token in sample["anns"]:
            row = nusc.get("sample_annotation", token)
            yaw = 2 * math.atan2(row["rotation"][3], row["rotation"][0])
            delta = world - row["translation"]
            along = delta[:, 0] * math.cos(yaw) + delta[:, 1] * math.sin(yaw)
            aside = delta[:, 1] * math.cos(yaw) - delta[:, 0] * math.sin(yaw)
            width, length, height = row["size"]
            inside = (np.abs(along) <= length / 2) & (np.abs(aside) <= width / 2) & (np.abs(delta[:, 2]) <= height / 2)
            assert inside.sum() == row["num_lidar_pts"], row["token"]
            checked += row["num_lidar_pts"] > 0
    assert checked > 200


def _to_world(nusc, data, points):
    from pyquaternion import Quaternion

    for table, key in (("calibrated_sensor", "calibrated_sensor_token"), ("ego_pose", "ego_pose_token")):
        row = nusc.get(table, data[key])
        points = points @ Quaternion(row["rotation"]).rotation_matrix.T + row["translation"]
    return points


def test_velocity_of_the_devkit_is_the_motion_of_the_actor(nusc):
    moving = 0
    for index, scene in enumerate(sorted(nusc.scene, key=lambda row: row["name"])):
        world = generate.scene_world(TINY.seed, index)
        middle = nusc.get("sample", nusc.get("sample", scene["first_sample_token"])["next"])
        for token in middle["anns"]:
            row = nusc.get("sample_annotation", token)
            if not row["prev"] or not row["next"]:
                continue
            distances = [np.linalg.norm(a.box(0.5)[:3] - row["translation"]) for a in world.actors]
            actor = world.actors[int(np.argmin(distances))]
            assert min(distances) < 1e-6
            expected = (actor.box(0.6)[:2] - actor.box(0.4)[:2]) / 0.2
            velocity = nusc.box_velocity(token)[:2]
            # A difference over one second against one over 0.2 s: they part by what bends and speed swings do.
            assert np.abs(velocity - expected).max() < 0.35, (actor.name, velocity, expected)
            attribute = [nusc.get("attribute", a)["name"] for a in row["attribute_tokens"]]
            if np.linalg.norm(velocity) > 1.0:
                moving += 1
                assert attribute[0] in ("vehicle.moving", "cycle.with_rider", "pedestrian.moving")
            assert len(attribute) == (0 if actor.name in ("barrier", "traffic_cone") else 1)
    assert moving > 10


def test_cameras_sweeps_and_sizes_are_as_recorded(nusc, root):
    import cv2

    sample = nusc.sample[0]
    assert sorted(sample["data"]) == sorted(_channels())
    for channel in _channels()[1:]:
        data = nusc.get("sample_data", sample["data"][channel])
        assert cv2.imread(str(root / data["filename"])).shape == (90, 160, 3)
        assert 0 <= sample["timestamp"] - data["timestamp"] < 50_000, "images are taken shortly before the sweep"
    sweeps = [row for row in nusc.sample_data if row["channel"] == "LIDAR_TOP" and not row["is_key_frame"]]
    assert len(sweeps) == 4 * 3
    key = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    assert key["timestamp"] - nusc.get("sample_data", key["prev"])["timestamp"] == 250_000


def _channels():
    cameras = "FRONT FRONT_LEFT FRONT_RIGHT BACK BACK_LEFT BACK_RIGHT".split()
    return ["LIDAR_TOP", *(f"CAM_{name}" for name in cameras)]


def test_map_has_the_layers_and_the_ego_car_is_on_drivable_ground(nusc, root):
    map_api = pytest.importorskip("nuscenes.map_expansion.map_api")
    layers = ["drivable_area", "road_segment", "lane", "ped_crossing", "walkway", "stop_line"]
    for scene in nusc.scene:
        log = nusc.get("log", scene["log_token"])
        streets = map_api.NuScenesMap(str(root), log["location"])
        sample = nusc.get("sample", scene["first_sample_token"])
        pose = nusc.get("ego_pose", nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["ego_pose_token"])
        x, y = pose["translation"][:2]
        assert streets.layers_on_point(x, y)["drivable_area"], "the map's polygons"
        mask = nusc.get("map", log["map_token"])["mask"]
        assert mask.is_on_mask(x, y).all(), "the map's picture"
        masks = streets.get_map_mask((x, y, 200.0, 200.0), 0.0, layers, (200, 200))
        assert (masks.reshape(len(layers), -1).sum(1) > 0).all(), dict(zip(layers, masks.sum((1, 2)), strict=True))
        assert streets.road_divider and len(streets.lane) >= 8


def test_set_of_the_same_settings_is_kept(root):
    before = fingerprint(root)
    assert simulate(root, TINY) is False
    assert fingerprint(root) == before


def test_other_settings_need_overwrite_and_foreign_folders_are_never_touched(root, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    other = Settings(scenes=2, size="tiny", seed=9)
    with pytest.raises(FileExistsError, match="other settings.*--overwrite"):
        simulate(copy, other)
    assert fingerprint(copy) == fingerprint(root)
    assert simulate(copy, other, overwrite=True)
    assert json.loads((copy / SIMULATION_STAMP).read_text())["seed"] == 9
    foreign = tmp_path / "real"
    foreign.mkdir()
    (foreign / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="was not written by the simulator"):
        simulate(foreign, TINY, overwrite=True)
    assert (foreign / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_stopped_run_leaves_nothing_behind(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(Settings, "finish", fail)
    monkeypatch.setattr(Settings, "write_part", lambda self, root, index: (root / "samples").mkdir(exist_ok=True))
    (tmp_path / ".nuscenes.partial-999999999" / "samples").mkdir(parents=True)  # of a run that was killed
    with pytest.raises(type(error)) as caught:
        simulate(tmp_path / "nuscenes", TINY)
    if isinstance(error, OSError):
        assert "the disk of" in str(caught.value) and "is full" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings, message",
    [((1, "small", 0), "scenes must be"), ((4, "huge", 0), "size must be one of"), ((4, "small", -1), "seed must be")],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(*settings)


def test_splits_hold_out_every_fourth_scene():
    splits = [generate.split_of(i, 10) for i in range(10)]
    assert [i for i, split in enumerate(splits) if split == "sim_val"] == [3, 7]
    assert generate.split_of(1, 2) == "sim_val" and generate.split_of(0, 2) == "sim_train"


@pytest.mark.realdata
def test_simulator_is_calibrated_on_the_real_key_frame(realdata):
    rows = {name: (real, simulated) for name, real, simulated in compare(realdata, scenes=24, seed=0)}
    real, simulated = rows["points a sweep"]
    assert real == 34_688 and abs(simulated / real - 1) < 0.20
    real, simulated = rows["voxels"]
    assert abs(real / 17_508 - 1) < 0.005 and abs(simulated / real - 1) < 0.30
    cars = {name: row for name, row in rows.items() if name.startswith("points in a car")}
    compared = {name: b / a for name, (a, b) in cars.items() if np.isfinite(a)}
    assert len(compared) == 3 and all(0.5 <= ratio <= 2 for ratio in compared.values()), compared
    assert "| voxels | 17" in format_table([("voxels", 17_509.0, 15_000.0)])
