# SPDX-License-Identifier: Apache-2.0
"""Waymo's parquet layout: made-up segments read back pixel by pixel, their true boxes scored, bad input."""

import pickle

import numpy as np
import pytest
import torch

from pcperc.datasets.collate import collate
from pcperc.datasets.waymo import LASERS, TOP, Waymo
from pcperc.evaluation.waymo import WaymoMetric
from pcperc.geometry import Detections, rigid_matrix, rotation_z
from pcperc.tables import read_table, write_table
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
    further = [20.0, 1, 1, 1, 1, 1, 0, None, None, 2]  # pedestrians of unknown speed
    said = [(6, None), (6, 2), (3, 1)]  # points, and which level the annotators said
    rows = {name: [*v, *[extra] * 3] for (name, v), extra in zip(rows.items(), [*further, None, None], strict=True)}
    rows["num_lidar_points_in_box"][4:] = [count for count, _ in said]
    rows["difficulty_level.detection"][4:] = [level for _, level in said]
    write("lidar_box", {time: [TIMES[0]] * 7, **{f"{component}.{name}": v for name, v in rows.items()}})
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
    assert [data.classes[label] for label in sample["labels"]] == ["VEHICLE", *["PEDESTRIAN"] * 4]
    # Five points are few and six are not, where nobody said otherwise.
    np.testing.assert_array_equal(sample["difficulty"], [1, 2, 1, 2, 1])
    assert np.isnan(sample["boxes"][2:, 7:]).all() and sample["sample_token"] == data.tokens[0]
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


def test_loaders_get_a_copy(root):
    """As processes that are not forked do."""
    data = Waymo(root=root, split="training")
    expected = data[1]["points"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data))[1]["points"], expected)


def change(path, **columns):
    """Write a table again, with other values in some columns (their names without the dots' first part)."""
    arrow = pytest.importorskip("pyarrow")
    names = arrow.parquet.read_schema(path).names
    table = read_table(path, names)
    new = {name: columns.get(name.rpartition(".")[2], table[name]) for name in names}
    write_table(path, new)


def test_numbers_that_are_missing(root):
    folder = root / "training"
    pose = folder / "vehicle_pose" / f"{SEGMENT}.parquet"
    before = pose.read_bytes()
    change(pose, transform=[np.zeros(12), None])
    with pytest.raises(
        ValueError, match=f"{SEGMENT}.parquet: the pose at {TIMES[0]} us must be 16 finite numbers, got 12"
    ):
        Waymo(root=root, split="training")[1]
    pose.write_bytes(before)
    calibration = folder / "lidar_calibration" / f"{SEGMENT}.parquet"
    before = calibration.read_bytes()
    change(calibration, transform=[None] * 5)
    with pytest.raises(ValueError, match="the extrinsic of LiDAR 1 must be 16 finite numbers, got none"):
        Waymo(root=root, split="training")[0]
    calibration.write_bytes(before)
    change(calibration, values=[TOP_BEAMS[:3], *[None] * 4])
    with pytest.raises(ValueError, match=f"LiDAR 1 at {TIMES[0]} us: .*inclinations must be 4, got 3"):
        Waymo(root=root, split="training")[0]
    change(calibration, values=[[0, 0, 0, np.nan], *[None] * 4])
    with pytest.raises(ValueError, match=f"lidar/{SEGMENT}.parquet: LiDAR 1 at {TIMES[0]} us: .* must be finite"):
        Waymo(root=root, split="training")[0]
    calibration.write_bytes(before)
    change(folder / "lidar_box" / f"{SEGMENT}.parquet", heading=[None] * 7)
    with pytest.raises(ValueError, match="column '.LiDARBoxComponent..box.heading' must hold .*numbers"):
        Waymo(root=root, split="training")[0]


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
    assert (
        "CYCLIST/L2/AP" not in metrics
        and "PEDESTRIAN/50m+/L1/AP" not in metrics
        and (tmp_path / "scores" / "scores.json").is_file()
    )
