# SPDX-License-Identifier: Apache-2.0
"""A log of known content in Argoverse 2's layout, with a map as av2 reads it."""

import json

import cv2
import numpy as np

from pcperc.geometry import matrix_to_quaternion, rigid_matrix, rotation_z
from pcperc.tables import write_table

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


def write_root(root):
    """Three sweeps; a car that drives at 5 m/s along the city's y, a bollard without points, an animal."""
    folder = root / "val" / LOG
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
    return root


def write_map(log, *, area):
    """Write the map of a log: one drivable ``area`` [(x, y), ...] of the city, on level ground."""
    folder = log / "map"
    corners = [{"x": x, "y": y, "z": 20.0} for x, y in area]
    layers = {
        "drivable_areas": {"1": {"id": 1, "area_boundary": corners}},
        "lane_segments": {},
        "pedestrian_crossings": {},
    }
    path = folder / f"log_map_archive_{LOG}____PIT_city_47896.json"
    path.write_text(json.dumps(layers))
    np.save(folder / f"{LOG}_ground_height_surface____PIT.npy", np.full((4, 4), 20, np.float16))
    (folder / f"{LOG}___img_Sim2_city.json").write_text(json.dumps({"R": [1.0, 0, 0, 1.0], "t": [0.0, 0.0], "s": 1.0}))
    return path


def simulate_logs(root):
    """Simulate a log of three sweeps for each of train and val."""
    from pcperc.simulation.argoverse2_generate import Settings
    from pcperc.simulation.data_set import simulate

    assert simulate(root, Settings(2, "tiny", 0))
    assert not simulate(root, Settings(2, "tiny", 0))
    return root
