# SPDX-License-Identifier: Apache-2.0
"""Real labelled scans through readers, mixing, networks' preprocessing, files of predictions and scores."""

import json

import numpy as np
import pytest
import torch

from pcperc.datasets import NuScenesLidarSeg, SampleKey, SemanticKITTI, collate, count_labels
from pcperc.datasets.semantickitti_labels import CLASSES, LABEL_MAPS
from pcperc.evaluation import LidarSegMetric, SemanticKITTIMetric
from pcperc.geometry import PointLabels
from pcperc.models import Segmentor, VoxelPreprocessor
from pcperc.transforms import GlobalScaleRotateTranslate, LaserMix, PolarMix, RandomChoice, RandomFlip3D
from tests import nuscenes_root as tiny
from tests.planes import Planes

# Categories for the classes of the range images: road, sidewalk, building, pole, vegetation, person, two-wheeler, car,
# truck, bus, none.
CATEGORIES = (
    *("flat.driveable_surface", "flat.sidewalk", "static.manmade", "static.other", "static.vegetation"),
    *("human.pedestrian.adult", "vehicle.bicycle", "vehicle.car", "vehicle.truck", "vehicle.bus.rigid", "noise"),
)


@pytest.fixture
def kitti(realdata, tmp_path):
    """Sequence 08 with the raw scan, and sequence 00 with the two subsampled ones in the layout of the files."""
    (tmp_path / "sequences" / "00").mkdir(parents=True)
    (tmp_path / "sequences" / "08").symlink_to(realdata / "semantickitti" / "seq08")
    source = realdata / "semantickitti" / "subsampled_labelled"
    for name in ("velodyne", "labels"):
        (tmp_path / "sequences" / "00" / name).mkdir()
    for frame in ("000700", "000750"):
        xyz = np.load(source / "points" / f"{frame}.npy")
        labels = np.load(source / "labels" / f"{frame}.npy").ravel()  # 0 ignored, then the 19 classes
        scan = np.concatenate([xyz, np.zeros((len(xyz), 1))], 1).astype("<f4")
        recorded = LABEL_MAPS["official"].to_recorded(np.where(labels == 0, 255, labels - 1))
        (tmp_path / "sequences" / "00" / "velodyne" / f"{frame}.bin").write_bytes(scan.tobytes())
        (tmp_path / "sequences" / "00" / "labels" / f"{frame}.label").write_bytes(recorded.astype("<u4").tobytes())
    (tmp_path / "splits.json").write_text(json.dumps({"pair": ["00"], "all": ["00", "08"]}))
    return tmp_path


def test_train_ids_come_back(kitti, realdata):
    data = SemanticKITTI(root=kitti, split="pair")
    total = np.zeros(19, np.int64)
    for index, frame in enumerate(("000700", "000750")):
        labels = np.load(realdata / "semantickitti/subsampled_labelled/labels" / f"{frame}.npy").ravel()
        expected = np.where(labels == 0, 255, labels - 1)
        np.testing.assert_array_equal(data[index]["point_labels"], expected)
        total += np.bincount(labels, minlength=20)[1:]
    np.testing.assert_array_equal(count_labels(data), total)


def test_the_recipe_with_mixing(kitti):
    move = [GlobalScaleRotateTranslate(scale_range=(0.95, 1.05), rotate_range=(-np.pi, np.pi), translate_std=0)]
    mix = RandomChoice(choices=[LaserMix(), PolarMix(paste_labels=range(8))])
    data = SemanticKITTI(root=kitti, split="all", transforms=[mix, *move, RandomFlip3D()])
    preprocessor = VoxelPreprocessor(0.05, max_voxels=20_000)
    for draw in range(3):
        sample = data[SampleKey(0, 2, draw, 1)]
        again = data[SampleKey(0, 2, draw, 1)]
        np.testing.assert_array_equal(sample["points"], again["points"])
        assert len(sample["points"]) == len(sample["point_labels"]) > 50_000
        batch = preprocessor(collate([sample]), True)
        prepared = batch["inputs"]["prepared"]
        assert len(prepared.points.voxels().coords) == 20_000
        assert set(batch["samples"][0]["point_labels"][prepared.row_point].tolist()) <= {*range(19), 255}


def test_a_scan_through_network_and_files(kitti, tmp_path):
    data = SemanticKITTI(root=kitti, split="val", test_mode=True)
    batch = collate([data[0]])
    model = Segmentor(VoxelPreprocessor(0.05, points="one_per_voxel", rounding="round"), Planes(19))
    (prediction,) = model.val_step(batch)
    assert len(prediction) == 123_389
    metric = SemanticKITTIMetric(output_dir=tmp_path / "out")
    metric.dataset_meta = data.metainfo
    metric.process(batch, [prediction])
    guess = metric.evaluate(1)
    metric.process(batch, [PointLabels(batch["samples"][0]["point_labels"], torch.ones(123_389))])
    perfect = metric.evaluate(1)
    assert 0 < guess["mIoU"] < 0.1 and perfect["mIoU"] == perfect["accuracy"] == 1
    # 13 of the 19 classes occur: the others neither help nor harm.
    assert sum(f"{name}/IoU" in perfect for name in CLASSES) == len(set(data[0]["point_labels"]) - {255})
    written = np.fromfile(tmp_path / "out/sequences/08/predictions/000000.label", "<u4")
    recorded = np.fromfile(kitti / "sequences/08/labels/000000.label", "<u4") & 0xFFFF
    to_train = LABEL_MAPS["official"].to_train
    scored = to_train(recorded) != 255
    np.testing.assert_array_equal(to_train(written)[scored], to_train(recorded)[scored])


def test_a_sweep_of_nuscenes_as_the_devkit_scores_it(realdata, copy, tmp_path):
    from nuscenes.eval.lidarseg.utils import ConfusionMatrix

    image = np.load(realdata / "nuscenes_lidarseg_rangeview" / "train_0.npz")
    seen = image["image"][..., 4] > 0
    points, recorded = image["image"][seen].copy(), image["label"][seen].astype(np.uint8)
    points[:, 4] = 0
    tables = copy / tiny.VERSION
    rows = [{"token": name, "name": name, "index": index} for index, name in enumerate(CATEGORIES)]
    (tables / "lidarseg.json").write_text("[]")
    size = (tables / "category.json").stat().st_size
    text = json.dumps(rows)
    (tables / "category.json").write_text(text + " " * (size - len(text)))  # as long as the one that was prepared
    data = NuScenesLidarSeg(root=copy, version=tiny.VERSION, split="sim_val")
    lidar = data.read_record(0)["lidar"]
    (copy / lidar["path"]).write_bytes(points.astype("<f4").tobytes())
    (copy / "labels.bin").write_bytes(recorded.tobytes())
    row = {"token": "a", "sample_data_token": lidar["token"], "filename": "labels.bin"}
    (tables / "lidarseg.json").write_text(json.dumps([row]))
    data = NuScenesLidarSeg(root=copy, version=tiny.VERSION, split="sim_val")
    batch = collate([data[0]])
    metric = LidarSegMetric(output_dir=tmp_path / "out")
    metric.dataset_meta = data.metainfo
    metric.process(batch, Segmentor(VoxelPreprocessor(0.1), Planes(16)).val_step(batch))
    scores = metric.evaluate(1)
    written = np.fromfile(tmp_path / "out/lidarseg/sim_val" / f"{lidar['token']}_lidarseg.bin", np.uint8)
    assert len(written) == len(points) == 25_175
    challenge = {0: 11, 1: 13, 2: 15, 3: 0, 4: 16, 5: 7, 6: 2, 7: 4, 8: 10, 9: 3, 10: 0}
    devkit = ConfusionMatrix(num_classes=17, ignore_idx=0)
    devkit.update(np.array([challenge[label] for label in recorded.tolist()]), written.astype(int))
    assert scores["mIoU"] == pytest.approx(devkit.get_mean_iou(), abs=1e-6)
