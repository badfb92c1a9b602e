# SPDX-License-Identifier: Apache-2.0
"""Waymo's parquet layout: made-up segments read back pixel by pixel, scores against a slow reference, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.datasets.collate import collate
from pcperc.datasets.waymo import LASERS, TOP, Waymo
from pcperc.evaluation.waymo import MIN_OVERLAP, Truth, WaymoMetric, waymo_scores
from pcperc.geometry import Detections, rigid_matrix, rotation_z
from pcperc.tables import write_table
from tests import oracles_waymo

SEGMENT, TIMES = "1234_segment", (1_500_000, 1_600_000)
SIZES = {TOP: (4, 10), 2: (3, 6), 3: (3, 6), 4: (3, 6), 5: (3, 6)}
TOP_BEAMS = np.array([-0.3, -0.15, -0.05, 0.04])  # lowest first, unevenly


def vehicle_pose(index):
    return rigid_matrix([100.0 + 2 * index, 50, 7], rotation_z(0.2 + 0.1 * index)[:3, :3])


def laser_pose(laser):
    return rigid_matrix([0.4 * laser, 0.1, 2.0 - 0.2 * laser], rotation_z(0.7 * (laser - 1))[:3, :3])


def range_image(rng, laser, channels=4):
    image = rng.uniform(2, 40, (*SIZES[laser], channels)).astype(np.float32)
    image[rng.random(SIZES[laser]) < 0.4, 0] = -1
    return image


def pixel_poses(index):
    poses = np.zeros((*SIZES[TOP], 6), np.float32)
    poses[..., :3] = np.linspace(-0.02, 0.02, 10)[:, None] + [0.01, -0.01, 0.2 + 0.1 * index]
    poses[..., 3:] = np.linspace(-0.5, 0.5, 10)[:, None] * [2.0, 0.1, 0] + vehicle_pose(index)[:3, 3]
    return poses


def flat(images, name):
    return {f"{name}.values": [i.ravel() for i in images], f"{name}.shape": [np.array(i.shape) for i in images]}


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return {(t, laser, r): range_image(rng, laser) for t in TIMES for laser in LASERS for r in (1, 2)}


@pytest.fixture
def root(tmp_path, images):
    pytest.importorskip("pyarrow")

    def write(component, columns):
        write_table(tmp_path / "waymo" / "training" / component / f"{SEGMENT}.parquet", columns)

    time, laser = "key.frame_timestamp_micros", "key.laser_name"
    poses = {"[VehiclePoseComponent].world_from_vehicle.transform": [vehicle_pose(i).ravel() for i in range(2)]}
    write("vehicle_pose", {time: list(TIMES), **poses})
    keys = [(t, number) for t in TIMES for number in LASERS[::-1]]
    columns = {time: [t for t, _ in keys], laser: [number for _, number in keys]}
    for r in (1, 2):
        columns |= flat([images[t, number, r] for t, number in keys], f"[LiDARComponent].range_image_return{r}")
    write("lidar", columns)
    component = "[LiDARPoseComponent].range_image_return1"
    write("lidar_pose", {time: list(TIMES), laser: [TOP, TOP], **flat([pixel_poses(i) for i in range(2)], component)})
    component = "[LiDARCalibrationComponent]"
    columns = {laser: list(LASERS), f"{component}.extrinsic.transform": [laser_pose(n).ravel() for n in LASERS]}
    columns |= {f"{component}.beam_inclination.min": [-0.4] * 5, f"{component}.beam_inclination.max": [0.1] * 5}
    write("lidar_calibration", columns | {f"{component}.beam_inclination.values": [TOP_BEAMS, *[None] * 4]})
    component = "[LiDARBoxComponent]"
    rows = {
        "box.center.x": [10.0, 12, 5, 3], "box.center.y": [1.0, -2, 0, 4], "box.center.z": [1.0, 1, 1, 1],
        "box.size.x": [4.5, 0.8, 1.8, 1], "box.size.y": [2.0, 0.7, 0.6, 1], "box.size.z": [1.6, 1.7, 1.5, 1],
        "box.heading": [0.5, 0, 1, 0], "speed.x": [5.0, 0, 0, 0], "speed.y": [0.0, 1, 0, 0],
        "type": [1, 2, 4, 3], "num_lidar_points_in_box": [100, 5, 0, 9], "difficulty_level.detection": [0, 0, 0, 0],
    }  # fmt: skip
    write("lidar_box", {time: [TIMES[0]] * 4, **{f"{component}.{name}": v for name, v in rows.items()}})
    return tmp_path / "waymo"


def test_every_pixel_is_where_a_plain_loop_puts_it(root, images):
    data = Waymo(root=root, split="training")
    for index, time in enumerate(TIMES):
        points = data[index]["points"]
        expected = []
        for laser in LASERS:
            height, width = SIZES[laser]
            for r in (1, 2):
                image = images[time, laser, r]
                for row, column in zip(*np.nonzero(image[..., 0] > 0), strict=True):
                    beam = height - 1 - row
                    inclination = TOP_BEAMS[beam] if laser == TOP else -0.4 + 0.5 * (beam + 0.5) / height
                    extra = {}
                    if laser == TOP:
                        world2vehicle = np.linalg.inv(vehicle_pose(index))
                        extra = {"pose": pixel_poses(index)[row, column], "world2vehicle": world2vehicle}
                    place = oracles_waymo.point_of_pixel(
                        image, row, column, lidar2vehicle=laser_pose(laser), inclination=inclination, **extra
                    )
                    expected.append([*place, image[row, column, 1], 0])
        np.testing.assert_allclose(points, np.array(expected), atol=2e-4)
    one = Waymo(root=root, split="training", returns=1)[0]["points"]
    assert len(one) < len(data[0]["points"])


def test_boxes_levels_and_speeds(root):
    data = Waymo(root=root, split="training")
    sample = data[0]
    assert sample["sample_token"] == f"{SEGMENT}/{TIMES[0]}" and len(data) == 2
    assert [data.classes[label] for label in sample["labels"]] == ["VEHICLE", "PEDESTRIAN"]
    np.testing.assert_array_equal(sample["difficulty"], [1, 2])  # the pedestrian has five points, and six are easy
    np.testing.assert_allclose(sample["boxes"][0, :7], [10, 1, 1, 4.5, 2.0, 1.6, 0.5], atol=1e-6)
    np.testing.assert_allclose(sample["boxes"][0, 7:], vehicle_pose(0)[:3, :3].T[:2] @ [5, 0, 0], atol=1e-6)
    assert len(data[1]["boxes"]) == 0


def test_older_frames_are_moved(root):
    apart = Waymo(root=root, split="training")
    both = Waymo(root=root, split="training", num_sweeps=3)[1]["points"]
    new, old = apart[1]["points"], apart[0]["points"]
    np.testing.assert_array_equal(both[: len(new)], new)
    to_new = np.linalg.inv(vehicle_pose(1)) @ vehicle_pose(0)
    np.testing.assert_allclose(both[len(new) :, :3], old[:, :3] @ to_new[:3, :3].T + to_new[:3, 3], atol=1e-4)
    np.testing.assert_allclose(both[len(new) :, 4], 0.1)


def test_bad_input(root):
    folder = root / "training"
    with pytest.raises(FileNotFoundError, match="vehicle_pose must have .parquet files"):
        Waymo(root=root, split="testing")
    with pytest.raises(ValueError, match="classes must be of VEHICLE, PEDESTRIAN, CYCLIST, got .'SIGN'"):
        Waymo(root=root, split="training", classes=["SIGN"])
    data = Waymo(root=root, split="training")
    path = folder / "lidar" / f"{SEGMENT}.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=f"table .*lidar/{SEGMENT}.parquet cannot be read, it is truncated"):
        data[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"lidar/{SEGMENT}.parquet is missing"):
        data[0]
    write_table(path, {"key.frame_timestamp_micros": [TIMES[0]]})
    with pytest.raises(ValueError, match="must have the column 'key.laser_name'"):
        data[0]


boxes = st.tuples(
    st.integers(-2, 2), st.integers(-1, 1), st.sampled_from([0.0, 0.4, 3.0, -3.0]), st.integers(1, 2), st.integers(0, 3)
)


def frame_of(truth, found):
    true_boxes = np.array([[1.3 * x, 2.5 * y, 0, 2, 1, 1, yaw] for x, y, yaw, _, _ in truth]).reshape(-1, 7)
    levels = np.array([level for *_, level, _ in truth], np.int64)
    made = np.array([[1.3 * x + 0.05 * s, 2.5 * y, 0, 2, 1, 1.1, yaw] for x, y, yaw, _, s in found]).reshape(-1, 7)
    scores = np.array([0.2 * (s + 1) for *_, s in found], np.float32)
    return true_boxes, levels, made, scores


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(boxes, max_size=4), st.lists(boxes, max_size=5)), min_size=1, max_size=3))
def test_scores_equal_the_slow_reference(frames):
    frames = [frame_of(*frame) for frame in frames]
    truth = [Truth(t, np.zeros(len(t), np.int64), level) for t, level, _, _ in frames]
    found = [Detections(np.pad(b, ((0, 0), (0, 2))), s, np.zeros(len(b), np.int64)) for _, _, b, s in frames]
    ours = waymo_scores(truth, found, classes=["PEDESTRIAN"])["PEDESTRIAN"]
    for level in (1, 2):
        for kind in ("AP", "APH"):
            slow = oracles_waymo.average_precision(
                frames, overlap=MIN_OVERLAP["PEDESTRIAN"], level=level, by_heading=kind == "APH"
            )
            assert ours[f"L{level}/{kind}"] == pytest.approx(slow, abs=1e-9, nan_ok=True), (level, kind)


def test_a_hand_computed_score():
    """Two easy cars and a hard one; hits on an easy and the hard one, the latter turned round, between them a miss."""
    box = np.array([[0.0, 0, 0, 4, 2, 1.5, 0], [20, 0, 0, 4, 2, 1.5, 0], [40, 0, 0, 4, 2, 1.5, 0]])
    truth = [Truth(box, np.zeros(3, np.int64), np.array([1, 1, 2]))]
    made = np.pad(box[[0, 1, 2]], ((0, 0), (0, 2)))
    made[1, 0], made[2, 6] = 90, np.pi
    found = [Detections(made, np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64))]
    scores = waymo_scores(truth, found, classes=["VEHICLE"])["VEHICLE"]
    assert scores["L1/AP"] == pytest.approx(1 / 2) and scores["L1/APH"] == pytest.approx(1 / 2)
    assert scores["L2/AP"] == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    assert scores["L2/APH"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("name", "long", "score"), [("VEHICLE", 5.6, 1), ("VEHICLE", 6.0, 0), ("CYCLIST", 7.6, 1)])
def test_how_much_a_hit_must_overlap(name, long, score):
    """Boxes of 4 m in one that is ``long``: 0.71, 0.67 and 0.53 of its volume; 0.7 are asked of vehicles, else 0.5."""
    truth = [Truth(np.array([[0.0, 0, 0, 4, 2, 1.5, 3.1]]), np.zeros(1, np.int64), np.ones(1, np.int64))]
    made = np.array([[0.0, 0, 0, long, 2, 1.5, 3.1 - 2 * np.pi, 0, 0]])  # the same heading, written otherwise
    found = [Detections(made, np.ones(1, np.float32), np.zeros(1, np.int64))]
    scores = waymo_scores(truth, found, classes=[name])[name]
    assert scores["L1/AP"] == scores["L1/APH"] == pytest.approx(score)


def test_true_boxes_score_one(root, tmp_path):
    data = Waymo(root=root, split="training")
    metric = WaymoMetric(output_dir=tmp_path / "scores")
    metric.dataset_meta = data.metainfo
    batch = collate([data[0], data[1]])
    found = [
        Detections(torch.as_tensor(s["boxes"]), torch.ones(len(s["boxes"])), torch.as_tensor(s["labels"]))
        for s in batch["samples"]
    ]
    metric.process(batch, found)
    metrics = metric.evaluate(2)
    assert metrics["VEHICLE/L1/APH"] == metrics["PEDESTRIAN/L2/AP"] == metrics["mL2/APH"] == 1
    assert "PEDESTRIAN/L1/AP" not in metrics and (tmp_path / "scores" / "scores.json").is_file()
