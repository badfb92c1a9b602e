# SPDX-License-Identifier: Apache-2.0
"""Argoverse 2: made-up logs of known content, the real sample, simulated logs, official scores, and bad input."""

import shutil

import cv2
import numpy as np
import pytest
import torch

from pcperc.datasets.argoverse2 import CATEGORIES, Argoverse2
from pcperc.datasets.argoverse2_log import _velocities
from pcperc.datasets.collate import collate
from pcperc.evaluation.argoverse2 import Argoverse2Metric
from pcperc.geometry import Detections, matrix_to_quaternion, project_points, rigid_matrix, rotation_z
from pcperc.ops.points_in_boxes import points_in_boxes_mask
from pcperc.tables import read_table, write_table

pytest.importorskip("pyarrow")

LOG, START, STEP = "0aa-log", 315_966_265_000_000_000, 100_000_000
SPEED = 8.0  # of the recording vehicle along the city's x, m/s
CAMERA = "ring_front_center"
LOOKING_FORWARD = rigid_matrix([1.6, 0.0, 1.4], np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]))


def pose_columns(matrices):
    quaternions = np.array([matrix_to_quaternion(matrix) for matrix in matrices])
    columns = dict(zip(("qw", "qx", "qy", "qz"), quaternions.T, strict=True))
    return columns | dict(zip(("tx_m", "ty_m", "tz_m"), np.array(matrices)[:, :3, 3].T, strict=True))


def ego_pose(step):
    return rigid_matrix([1000 + SPEED * step / 10, 500, 20], rotation_z(0.3)[:3, :3])


@pytest.fixture
def root(tmp_path):
    """Three sweeps; a car that drives at 5 m/s along the city's y, a bollard without points, an animal."""
    folder = tmp_path / "av2" / "val" / LOG
    times = [START + STEP * step for step in range(3)]
    rows = {name: [] for name in ("timestamp_ns", "track_uuid", "category", "num_interior_pts")}
    poses, sizes = [], []
    for step, time in enumerate(times):
        car = np.array([1010.0, 500 + 0.5 * step, 21, 1])
        centre = np.linalg.inv(ego_pose(step)) @ car
        points = np.concatenate([centre[None, :3] + [[0, 0, 0], [0.5, 0.1, 0.2]], [[30.0, -4, 0.5]]]).astype(np.float16)
        columns = {name: np.ascontiguousarray(points[:, i]) for i, name in enumerate("xyz")}
        extra = {"intensity": np.array([7, 200, 0], np.uint8), "laser_number": np.zeros(3, np.uint8)}
        write_table(folder / "sensors/lidar" / f"{time}.feather", columns | extra)
        for track, category, place, size, count in (
            ("car", "REGULAR_VEHICLE", centre[:3], (4.5, 2.0, 1.6), 2),
            ("post", "BOLLARD", [5.0, 5, 0.5], (0.3, 0.3, 1.0), 0),
            ("dog", "ANIMAL", [6.0, 5, 0.5], (1.0, 0.3, 0.6), 1),
        ):
            for name, value in zip(rows, (time, track, category, count), strict=True):
                rows[name].append(value)
            poses.append(rigid_matrix(place, rotation_z(0.4)[:3, :3]))
            sizes.append(size)
    columns = dict(zip(("length_m", "width_m", "height_m"), np.array(sizes).T, strict=True))
    write_table(folder / "annotations.feather", rows | columns | pose_columns(poses))
    moments = times + [START + 30_000_000]  # the last is the camera's
    matrices = [ego_pose(0), ego_pose(1), ego_pose(2), ego_pose(0.3)]
    write_table(folder / "city_SE3_egovehicle.feather", {"timestamp_ns": moments, **pose_columns(matrices)})
    write_table(
        folder / "calibration/egovehicle_SE3_sensor.feather",
        {"sensor_name": [CAMERA], **pose_columns([LOOKING_FORWARD])},
    )
    intrinsics = {"fx_px": [20.0], "fy_px": [20.0], "cx_px": [15.5], "cy_px": [8.5]}
    write_table(folder / "calibration/intrinsics.feather", {"sensor_name": [CAMERA], **intrinsics})
    images = folder / "sensors/cameras" / CAMERA
    images.mkdir(parents=True)
    cv2.imwrite(str(images / f"{moments[-1]}.jpg"), np.full((18, 32, 3), 90, np.uint8))
    (folder / "map").mkdir()
    (folder / "map" / f"log_map_archive_{LOG}____PIT_city_47896.json").write_text("{}")
    return tmp_path / "av2"


def test_a_sample(root):
    data = Argoverse2(root=root, split="val", num_sweeps=2)
    sample = data[2]
    assert len(data) == 3 and sample["sample_token"] == f"{LOG}/{START + 2 * STEP}" and sample["location"] == "PIT"
    np.testing.assert_allclose(sample["ego2global"], ego_pose(2), atol=1e-9)
    points = sample["points"]
    assert points.shape == (9, 5) and points.dtype == np.float32
    np.testing.assert_allclose(points[:, 4], np.repeat([0, 0.1, 0.2], 3), atol=1e-6)
    np.testing.assert_array_equal(points[:3, 3], [7, 200, 0])
    # The first point of each sweep is the car's middle, brought into the last vehicle's frame: it moves along y there.
    city = points[::3, :3] @ ego_pose(2)[:3, :3].T + ego_pose(2)[:3, 3]
    np.testing.assert_allclose(city, [[1010, 501, 21], [1010, 500.5, 21], [1010, 500, 21]], atol=0.02)
    assert [data.classes[label] for label in sample["labels"]] == ["REGULAR_VEHICLE"]
    np.testing.assert_array_equal(sample["num_lidar_pts"], [2])
    box = sample["boxes"][0]
    np.testing.assert_allclose(box[:3], points[0, :3], atol=0.01)
    np.testing.assert_allclose(box[3:7], [4.5, 2.0, 1.6, 0.4], atol=1e-6)
    velocity = ego_pose(2)[:3, :3].T @ [0, 5, 0]
    for index in range(3):
        np.testing.assert_allclose(data[index]["boxes"][0, 7:], velocity[:2], atol=1e-4)


def test_velocities_are_of_neighbours_that_are_near():
    """From the place before to the place after; a track that was lost for long, or was seen once, has none."""
    seconds = {"a": (0.0, 0.5, 1.4, 3.4, 3.9), "b": (0.5,)}
    times = np.array([round(t * 1e9) for track in "ab" for t in seconds[track]])
    tracks = np.array(["a"] * 5 + ["b"])
    centre = np.stack([times * 2e-9, times * 0.0, times * 0.0], 1)
    poses = {int(time): np.eye(4) for time in times}
    found = _velocities(times, tracks, centre, poses)
    np.testing.assert_allclose(found[:, 0], [2, 2, np.nan, np.nan, 2, np.nan])
    np.testing.assert_allclose(found[[0, 1, 4], 1], 0)


def test_images_with_ego_motion(root):
    farther = root / "val" / LOG / "sensors/cameras" / CAMERA / f"{START - 80_000_000}.jpg"
    cv2.imwrite(str(farther), np.full((18, 32, 3), 200, np.uint8))
    data = Argoverse2(root=root, split="val", modalities=("camera",), cameras=[CAMERA])
    sample = data[0]
    assert sample["images"][0].max() < 100, "the nearest in time is taken"
    assert "points" not in sample and sample["images"][0].shape == (18, 32, 3)
    # The camera fires 0.03 s later, 0.24 m further on along the city's x.
    ahead = np.array([[11.6, 0, 1.4]])
    moved = ahead - ego_pose(0)[:3, :3].T @ [0.24, 0, 0]
    _, depth = project_points(moved[None], sample["lidar2camera"], sample["camera2image"])
    still = np.linalg.inv(LOOKING_FORWARD)
    assert depth[0, 0] == pytest.approx((still @ [*(moved[0] - ego_pose(0)[:3, :3].T @ [0.24, 0, 0]), 1])[2], abs=1e-6)


@pytest.mark.realdata
def test_points_in_the_real_boxes_are_as_many_as_published(realdata):
    data = Argoverse2(root=realdata, split="argoverse2", num_sweeps=0)
    assert len(data) == 2
    for index in range(2):
        sample = data[index]
        inside = points_in_boxes_mask(torch.from_numpy(sample["points"]), torch.from_numpy(sample["boxes"]))
        np.testing.assert_array_equal(inside.sum(0).numpy(), sample["num_lidar_pts"])
        assert len(sample["boxes"]) == 71 and sample["num_lidar_pts"].min() > 0
        speed = np.linalg.norm(sample["boxes"][:, 7:], axis=1)
        assert np.isfinite(speed).all() and speed.max() < 30


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    from pcperc.simulation.argoverse2_generate import Settings
    from pcperc.simulation.data_set import simulate

    out = tmp_path_factory.mktemp("simulated") / "argoverse2"
    assert simulate(out, Settings(2, "tiny", 0))
    assert not simulate(out, Settings(2, "tiny", 0))
    return out


def test_simulated_logs(simulated):
    data = Argoverse2(root=simulated, split="val", num_sweeps=0)
    assert len(data) == 3 and data[0]["scene_name"].startswith("sim-0002")
    for index in range(3):
        sample = data[index]
        inside = points_in_boxes_mask(torch.from_numpy(sample["points"]), torch.from_numpy(sample["boxes"]))
        wrong = (inside.sum(0).numpy() != sample["num_lidar_pts"]).sum()
        assert wrong == 0 and len(sample["boxes"]) > 5


def truth(sample):
    boxes = torch.as_tensor(sample["boxes"])
    return Detections(boxes, torch.linspace(1, 0.5, len(boxes)), torch.as_tensor(sample["labels"]))


def test_true_boxes_score_one_by_av2(simulated, tmp_path):
    pytest.importorskip("av2")
    data = Argoverse2(root=simulated, split="val", num_sweeps=0)
    metric = Argoverse2Metric(output_dir=tmp_path, in_map_only=False)
    metric.dataset_meta = data.metainfo
    for index in range(len(data)):
        batch = collate([data[index]])
        metric.process(batch, [truth(batch["samples"][0])])
    metrics = metric.evaluate(len(data))
    assert metrics["mAP"] == pytest.approx(1, abs=1e-3) and metrics["CDS"] == pytest.approx(1, abs=2e-3)
    assert metrics["REGULAR_VEHICLE/ATE"] < 0.01 and 0 < metrics["mAP_all"] < 1
    assert "simulated data" in (tmp_path / "scores.json").read_text()


def test_the_results_table_is_the_servers(root, tmp_path):
    data = Argoverse2(root=root, split="val")
    metric = Argoverse2Metric(output_dir=tmp_path, format_only=True)
    metric.dataset_meta = data.metainfo
    batch = collate([data[0], data[1]])
    metric.process(batch, [truth(sample) for sample in batch["samples"]])
    assert metric.evaluate(2) == {}
    columns = "log_id timestamp_ns category tx_m ty_m tz_m length_m width_m height_m qw qx qy qz score".split()
    table = read_table(tmp_path / "detections_av2.feather", columns)
    assert table["log_id"].tolist() == [LOG] * 2 and table["timestamp_ns"].tolist() == [START, START + STEP]
    np.testing.assert_allclose(table["qz"], np.sin(0.2), atol=1e-6)


def test_bad_input(root):
    log = root / "val" / LOG
    with pytest.raises(FileNotFoundError, match="train is missing"):
        Argoverse2(root=root, split="train")
    with pytest.raises(ValueError, match="classes must be of ARTICULATED_BUS.*, got .'TREE'"):
        Argoverse2(root=root, split="val", classes=["TREE"])
    with pytest.raises(ValueError, match=f"log .*{LOG} must have images and calibration of ring_rear_left"):
        Argoverse2(root=root, split="val", modalities=("camera",), cameras=["ring_rear_left"])[0]
    sweep = log / "sensors/lidar" / f"{START}.feather"
    sweep.write_bytes(sweep.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"table .*{START}.feather cannot be read, it is truncated"):
        Argoverse2(root=root, split="val")[0]
    write_table(log / "city_SE3_egovehicle.feather", {"timestamp_ns": [START], **pose_columns([ego_pose(0)])})
    with pytest.raises(ValueError, match=f"must have a pose at {START + STEP} ns"):
        Argoverse2(root=root, split="val")[1]
    write_table(log / "annotations.feather", {"timestamp_ns": [START]})
    with pytest.raises(ValueError, match="annotations.feather must have the column 'track_uuid', got timestamp_ns"):
        Argoverse2(root=root, split="val")[0]
    shutil.rmtree(log / "sensors")
    with pytest.raises(FileNotFoundError, match="must have sensors/lidar, but has none"):
        Argoverse2(root=root, split="val")


def test_the_categories_are_the_official_ones():
    evaluation = pytest.importorskip("av2.evaluation")
    assert CATEGORIES == tuple(category.value for category in evaluation.SensorCompetitionCategories)
