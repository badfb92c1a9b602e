# SPDX-License-Identifier: Apache-2.0
"""The tools with a segmentation network, from a config to scores and files, at toy size."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pcperc.datasets import SemanticKITTI
from pcperc.datasets.semantickitti_labels import CLASSES as SEGMENT_CLASSES
from pcperc.engine.checkpoint import load_checkpoint
from pcperc.engine.config import ConfigError
from pcperc.engine.inference import InferOptions, infer
from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import TrainOptions, train
from pcperc.engine.visualizing import VisualizeOptions, visualize
from pcperc.evaluation import mean_iou, score_semantickitti_files
from pcperc.nn.fuse import FusedConvBlock
from tests.engine.helpers import read_losses
from tests.engine.tiny_segmentation import write_spvcnn, write_spvnas
from tests.semantickitti_root import write_root
from tests.simulated_root import mark_simulated

COLORINGS = ("height", "intensity", "class", "truth", "error", "instance")
SUBNET = {"widths": [16] * 4 + [32] * 5, "transitions": [16] * 8, "inner_widths": [[16]] * 7 + [[16, 32]]}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return mark_simulated(write_root(tmp_path_factory.mktemp("kitti")))


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """Config, work dir and checkpoint of a network that was trained for two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_spvcnn(folder / "tiny.py", root)
    return config, folder / "work", train(TrainOptions(config, work_dir=folder / "work", device="cpu"))


def test_scores_are_those_of_the_files_that_were_written(trained, root, tmp_path, capsys):
    config, _, checkpoint = trained
    found = test(TestOptions(config, checkpoint, evaluation="semantickitti", work_dir=tmp_path, device="cpu"))
    dataset = SemanticKITTI(root=root, split="sim_val")
    confusion = score_semantickitti_files(tmp_path, dataset)
    assert found["mIoU"] == pytest.approx(mean_iou(confusion))
    assert confusion.tolist() == json.loads((tmp_path / "segmentation_scores.json").read_text())["confusion"]
    printed = capsys.readouterr().out
    assert "testing" in printed and "traffic-sign" in printed and "simulated data" in printed


def test_votes_and_files_alone(trained, tmp_path):
    config, _, checkpoint = trained
    once, voted = tmp_path / "once", tmp_path / "voted"
    test(TestOptions(config, checkpoint, work_dir=once, device="cpu"))
    test(TestOptions(config, checkpoint, work_dir=voted, device="cpu", votes=3))
    name = "sequences/02/predictions/000000.label"
    assert (once / name).stat().st_size == (voted / name).stat().st_size == 4 * 60
    assert (once / name).read_bytes() != (voted / name).read_bytes()
    only = tmp_path / "only"
    assert test(TestOptions(config, checkpoint, work_dir=only, device="cpu", format_only=True)) == {}
    assert (only / name).read_bytes() == (once / name).read_bytes()
    assert not (only / "segmentation_scores.json").exists()


def test_the_evaluation_of_another_data_set_is_refused(trained, tmp_path):
    config, _, checkpoint = trained
    with pytest.raises(ConfigError, match="--eval nuscenes: .* is evaluated by --eval semantickitti"):
        test(TestOptions(config, checkpoint, evaluation="nuscenes", work_dir=tmp_path, device="cpu"))
    with pytest.raises(ConfigError, match="must be one of nuscenes, bbox, .*semantickitti, .* got 'boxes'"):
        test(TestOptions(config, checkpoint, evaluation="boxes", work_dir=tmp_path, device="cpu"))


def test_a_super_network_trains_and_a_subnet_goes_on(root, tmp_path):
    config = write_spvnas(tmp_path / "supernet.py", root)
    checkpoint = train(TrainOptions(config, work_dir=tmp_path / "super", device="cpu"))
    losses = read_losses(tmp_path / "super")
    assert all(line["loss_distillation"] > 0 for line in losses.values())
    assert int(load_checkpoint(checkpoint)["state_dict"]["step"]) == len(losses) == 4
    (tmp_path / "subnet.json").write_text(json.dumps(SUBNET))
    tuned = write_spvcnn(tmp_path / "tuned.py", root, "subnet = None\n")
    options = TrainOptions(tuned, work_dir=tmp_path / "tuned", device="cpu", subnet=tmp_path / "subnet.json")
    path = train(options)
    weights = load_checkpoint(path)["state_dict"]
    assert weights["backbone.up_stages.3.blocks.1.block1.conv.weight"].shape == (3, 3, 3, 32, 32)
    # The config fits whatever the subnet is, and nothing but the subnet may differ.
    assert "mIoU" in test(TestOptions(tuned, path, work_dir=tmp_path / "scores", device="cpu"))
    other = write_spvcnn(tmp_path / "other.py", root, "subnet = None\nmodel['data_preprocessor']['voxel_size'] = 1.0")
    with pytest.raises(ConfigError, match="data_preprocessor.voxel_size: 1.0 here, 2.0 there"):
        test(TestOptions(other, path, work_dir=tmp_path / "scores", device="cpu"))


def test_a_subnet_that_is_none(trained, root, tmp_path):
    config, _, _ = trained
    (tmp_path / "subnet.json").write_text("{}")
    with pytest.raises(ConfigError, match="must have the key 'subnet'"):
        train(TrainOptions(config, work_dir=tmp_path, device="cpu", subnet=tmp_path / "subnet.json"))
    tuned = write_spvcnn(tmp_path / "tuned.py", root, "subnet = None\n")
    with pytest.raises(ConfigError, match="subnet.json: must be a file that tools/search.py wrote .*widths"):
        train(TrainOptions(tuned, work_dir=tmp_path, device="cpu", subnet=tmp_path / "subnet.json"))


def test_points_in_class_colours_and_by_error(trained, root, tmp_path):
    config, _, checkpoint = trained
    test(TestOptions(config, checkpoint, work_dir=tmp_path / "scores", device="cpu"))
    dataset = SemanticKITTI(root=root, split="sim_val")
    options = VisualizeOptions(config, checkpoint, save=tmp_path / "model", max_samples=1, device="cpu")
    by_class = visualize(options)
    assert all(path.name.startswith("0000_02_000000_") for path in by_class)
    pictures = {color: visualize(replace(options, save=tmp_path / color, color_by=color)) for color in COLORINGS}
    images = {color: cv2.imread(str(paths[0])) for color, paths in pictures.items()}
    assert (cv2.imread(str(by_class[0])) == images["class"]).all()
    assert len({image.tobytes() for image in images.values()}) == len(COLORINGS)
    # From the files that test.py wrote, and of the truth alone.
    files = visualize(VisualizeOptions(config, results=tmp_path / "scores", save=tmp_path / "files", max_samples=1))
    size = images["truth"].shape[0]  # without the legend: files do not say what the network was trained on
    assert (cv2.imread(str(files[0]))[:, :size] == images["class"][:, :size]).all()
    alone = visualize(VisualizeOptions(config, save=tmp_path / "truth_alone", max_samples=1))
    assert (cv2.imread(str(alone[0]))[:, :size] == images["truth"][:, :size]).all()
    with pytest.raises(ValueError, match="by must be one of height, intensity, class, truth, instance, got 'error'"):
        visualize(VisualizeOptions(config, save=tmp_path / "none", max_samples=1, color_by="error"))
    assert len(dataset) == 2


def test_raw_files(trained, root, tmp_path):
    config, _, checkpoint = trained
    scan = root / "sequences/02/velodyne/000001.bin"
    (path,) = infer(InferOptions(config, checkpoint, [scan], out=tmp_path / "out", device="cpu"))
    test(TestOptions(config, checkpoint, work_dir=tmp_path / "scores", device="cpu"))
    official = tmp_path / "scores/sequences/02/predictions/000001.label"
    assert path.with_name("000001.bin.label").read_bytes() == official.read_bytes()
    found = json.loads(path.read_text())
    numbers = np.fromfile(official, "<u4")
    assert {row["number"]: row["points"] for row in found["classes"]} == {
        number: count for number, count in zip(*np.unique(numbers, return_counts=True), strict=True)
    }
    assert all(0 < row["mean_score"] <= 1 and row["class"] in SEGMENT_CLASSES for row in found["classes"])
    drawn = visualize(VisualizeOptions(config, results=path, save=tmp_path / "pictures"))
    assert drawn[0].name == "0000_000001.bin_birds_eye.png" and cv2.imread(str(drawn[0])).std() > 1


def test_fused_networks_predict_as_they_were_trained(trained, root, tmp_path, monkeypatch):
    config, _, checkpoint = trained
    built, init = [], FusedConvBlock.__init__
    monkeypatch.setattr(FusedConvBlock, "__init__", lambda self, *arguments: built.append(init(self, *arguments)))
    scan = root / "sequences/02/velodyne/000001.bin"
    labels, counts = {}, [0]
    for fuse in (False, True):
        options = dict(device="cpu", fuse=fuse)
        test(TestOptions(config, checkpoint, work_dir=tmp_path / f"scores{fuse}", **options))
        counts.append(len(built))
        (path,) = infer(InferOptions(config, checkpoint, [scan], out=tmp_path / f"out{fuse}", **options))
        counts.append(len(built))
        tested = tmp_path / f"scores{fuse}/sequences/02/predictions/000001.label"
        labels[fuse] = [np.fromfile(file, "<u4") for file in (tested, path.with_name("000001.bin.label"))]
    blocks = counts[3]
    assert counts == [0, 0, 0, blocks, 2 * blocks] and blocks > 0
    for plain, fused in zip(labels[False], labels[True], strict=True):
        assert (plain == fused).mean() > 0.95
