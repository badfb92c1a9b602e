# SPDX-License-Identifier: Apache-2.0
"""Small nuScenes roots of the tests, prepared and opened in one call each, and their labels as detections."""

import json
import math

import numpy as np
import torch

from pcperc.datasets.nuscenes import NuScenesDataset
from pcperc.datasets.nuscenes_index import prepare_nuscenes
from pcperc.geometry import Detections
from tests import nuscenes_root as tiny


def prepare(root, version=tiny.VERSION, **options):
    return prepare_nuscenes(root, version, show_progress=False, **options)


def dataset(root, split="sim_train", **options):
    return NuScenesDataset(root=root, version=tiny.VERSION, split=split, **options)


def truth(sample, *, shift=0.0, scores=1.0) -> Detections:
    """The labelled boxes of a sample as detections, ``shift`` metres off along x."""
    boxes = torch.as_tensor(sample["boxes"]).clone()
    boxes[:, 0] += shift
    return Detections(boxes, torch.full((len(boxes),), float(scores)), torch.as_tensor(sample["labels"]))


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
