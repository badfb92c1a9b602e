# SPDX-License-Identifier: Apache-2.0
"""Samples as the data set reads them, and what it says of bad files and arguments."""

import cv2
import numpy as np
import pytest
import torch

from pcperc.datasets.image_file import read_image
from pcperc.datasets.nuscenes import NuScenesDataset, read_sweep
from pcperc.datasets.nuscenes_index import index_path
from pcperc.datasets.nuscenes_record import CLASSES
from tests import nuscenes_root as tiny
from tests.datasets.nuscenes_helpers import dataset, prepare


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
