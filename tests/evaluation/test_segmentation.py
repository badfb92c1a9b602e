# SPDX-License-Identifier: Apache-2.0
"""IoU against definitions and the nuScenes devkit; predictions through files and back; the metrics."""

import json

import numpy as np
import pytest
import torch

from pcperc.datasets import SemanticKITTI, collate
from pcperc.datasets.nuscenes_lidarseg import CHALLENGE_MAP
from pcperc.datasets.semantickitti_labels import CLASSES
from pcperc.evaluation import (
    LidarSegMetric,
    SegmentationMetric,
    SemanticKITTIMetric,
    confusion_matrix,
    format_scores,
    iou_per_class,
    mean_iou,
    score_semantickitti_files,
    scores_of,
    write_semantickitti_predictions,
)
from pcperc.geometry import PointLabels
from pcperc.transforms import PointsRangeFilter
from tests import oracles_segmentation as oracle
from tests import semantickitti_root as tiny
from tests.simulated_root import mark_simulated


def random_labels(seed: int, *, count=300, present=(0, 1, 3, 4), said=(0, 1, 2, 3)) -> tuple[np.ndarray, np.ndarray]:
    """Truth and predictions over 6 classes with ignored points; class 5 is in neither, class 2 is only predicted."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([*present, 255], count)
    predicted = np.where(rng.uniform(size=count) < 0.5, truth, rng.choice([*said, 255], count))
    return truth, np.where(predicted == 255, rng.choice([*said, 255], count), predicted)


@pytest.mark.parametrize("absent", ["skip", "zero", "one"])
def test_mean_iou_is_that_of_the_definition(absent):
    for seed in range(3):
        truth, predicted = random_labels(seed)
        confusion = confusion_matrix(truth, predicted, num_classes=6)
        expected = oracle.iou_by_sets(truth.tolist(), predicted.tolist(), 6)
        assert expected[5] is None and expected[2] == 0
        got = iou_per_class(confusion)
        for value, wanted in zip(got, expected, strict=True):
            assert np.isnan(value) if wanted is None else value == pytest.approx(wanted, abs=1e-15)
        assert mean_iou(confusion, absent=absent) == pytest.approx(
            oracle.mean_of(expected, absent, truth.tolist()), abs=1e-15
        )


def test_a_table_by_hand():
    truth = np.array([0, 0, 0, 1, 1, 255, 255])
    predicted = np.array([0, 0, 1, 1, 255, 0, 1])
    confusion = confusion_matrix(truth, predicted, num_classes=3)
    assert confusion.tolist() == [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    assert iou_per_class(confusion)[:2].tolist() == [2 / 3, 1 / 3]
    scores = scores_of(confusion, ("a", "b", "c"))
    assert scores == {"mIoU": 0.5, "accuracy": 0.6, "a/IoU": 2 / 3, "b/IoU": 1 / 3}
    assert mean_iou(confusion, absent="one") == pytest.approx(2 / 3)
    text = format_scores(confusion, ("a", "b", "c"), title="by hand")
    assert "0.667" in text and text.split("│ c ")[1].split("│")[1].strip() == "-"
    assert "1 classes neither occur nor are predicted: left out of the mean" in text
    assert "1 classes do not occur: counted as 1" in format_scores(confusion, "abc", title="by hand", absent="one")


def test_a_class_that_is_predicted_and_does_not_occur_counts_by_the_rule():
    """SPVNAS looks at the truth alone; it was counted 0 there, as by the others."""
    confusion = confusion_matrix(np.array([0, 0]), np.array([0, 1]), num_classes=3)
    means = {absent: mean_iou(confusion, absent=absent) for absent in ("skip", "zero", "one")}
    assert means == pytest.approx({"skip": 0.5 / 2, "zero": 0.5 / 3, "one": 2.5 / 3})
    texts = {absent: format_scores(confusion, "abc", title="by hand", absent=absent) for absent in means}
    assert "1 classes neither occur nor are predicted: counted as 0" in texts["zero"]
    assert "2 classes do not occur: counted as 1" in texts["one"] and "0.833" in texts["one"]


def test_lidarseg_scores_are_the_devkits():
    from nuscenes.eval.lidarseg.utils import ConfusionMatrix

    rng = np.random.default_rng(0)
    devkit = ConfusionMatrix(num_classes=17, ignore_idx=0)
    total = np.zeros((16, 17), np.int64)
    for _ in range(3):
        truth, predicted = rng.integers(0, 15, 500), rng.integers(1, 14, 500)
        devkit.update(truth, predicted)
        total += confusion_matrix(CHALLENGE_MAP.to_train(truth), predicted - 1, num_classes=16)
    assert mean_iou(total) == pytest.approx(devkit.get_mean_iou(), abs=1e-6)
    np.testing.assert_allclose(iou_per_class(total), devkit.get_per_class_iou()[1:], atol=1e-6)


def test_nothing_at_all():
    empty = confusion_matrix(np.zeros(0, int), np.zeros(0, int), num_classes=2)
    assert scores_of(empty, ("a", "b")) == {}
    assert scores_of(confusion_matrix(np.full(3, 255), np.zeros(3, int), num_classes=2), ("a", "b")) == {}


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([0, 1], [0], r"of one length, got \(2,\) and \(1,\)"),
        ([0, 4], [0, 0], r"truth must be in \[0, 4\) or 255, got 4"),
        ([0, 1], [0, -1], r"predicted must be in \[0, 4\) or 255, got -1"),
    ],
)
def test_refusals(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(truth), np.array(predicted), num_classes=4)


@pytest.fixture
def data(tmp_path):
    tiny.write_scan(tiny.write_root(tmp_path / "kitti") / "sequences" / "02", 2, 9, count=0)
    (tmp_path / "kitti/sequences/02/poses.txt").unlink()
    (tmp_path / "kitti/sequences/02/times.txt").unlink()
    return SemanticKITTI(root=mark_simulated(tmp_path / "kitti"), split="sim_val", test_mode=True)


def guess(sample: dict, seed: int) -> PointLabels:
    """A prediction for every recorded point, right for about half of them."""
    rng = np.random.default_rng(seed)
    truth = sample.get("recorded_labels", sample["point_labels"])
    labels = np.where(rng.uniform(size=len(truth)) < 0.5, truth, rng.integers(0, 19, len(truth)))
    return PointLabels(torch.from_numpy(labels), torch.rand(len(truth)))


def test_predictions_through_files_give_the_scores_of_the_metric(data, tmp_path):
    metric = SemanticKITTIMetric(output_dir=tmp_path / "out")
    metric.dataset_meta = data.metainfo
    predictions = [guess(data[i], i) for i in range(3)]
    metric.process(collate([data[0], data[1]]), predictions[:2])
    metric.process(collate([data[2]]), predictions[2:])
    metric.process(collate([data[0]]), predictions[:1])  # as a sampler repeats it to fill up a batch
    scores = metric.evaluate(4)
    folder = tmp_path / "out" / "sequences" / "02" / "predictions"
    assert sorted(p.name for p in folder.iterdir()) == [f"{i:06d}.label" for i in range(3)]
    written = np.fromfile(folder / "000001.label", "<u4")
    assert len(written) == tiny.NUM_POINTS and (folder / "000002.label").stat().st_size == 0
    recorded = {0: 10, 4: 20, 8: 40, 14: 70, 18: 81, 255: 0}  # some train ids and their numbers in the format
    for label, number in recorded.items():
        assert (written[predictions[1].labels.numpy() == label] == number).all()
    assert scores == scores_of(score_semantickitti_files(tmp_path / "out", data), CLASSES)
    truth = np.concatenate([data[i]["point_labels"] for i in range(3)]).tolist()
    said = torch.cat([p.labels for p in predictions]).tolist()
    assert scores["mIoU"] == pytest.approx(oracle.mean_of(oracle.iou_by_sets(truth, said, 19), "skip"))
    saved = json.loads((tmp_path / "out" / "segmentation_scores.json").read_text())
    assert saved["scores"] == scores and saved["num_samples"] == 3 and "simulated data" in saved["title"]


def test_the_rule_of_the_metric_is_that_of_its_scores_and_its_table(data, tmp_path):
    found = {}
    for absent in ("skip", "zero", "one"):
        metric = SemanticKITTIMetric(absent=absent, output_dir=tmp_path)
        metric.dataset_meta = data.metainfo
        metric.process(collate([data[0]]), [guess(data[0], 0)])
        found[absent] = metric.evaluate(1)["mIoU"]
        assert json.loads((tmp_path / "segmentation_scores.json").read_text())["absent"] == absent
    assert found["zero"] < found["skip"] < found["one"]


@pytest.mark.parametrize(("name", "train_id"), [("official", 4), ("spvnas", 255)])
def test_files_of_others_are_read_by_the_convention_of_the_data_set(data, tmp_path, name, train_id):
    """A network of another project may say bus, which is other-vehicle for one convention and nothing for the other."""
    data = SemanticKITTI(root=data.root, split="sim_val", label_map=name)
    for token in data.tokens:
        path = tmp_path / "sequences" / token.replace("/", "/predictions/")
        path.parent.mkdir(parents=True, exist_ok=True)
        count = len(data[data.tokens.index(token)]["points"])
        path.with_suffix(".label").write_bytes(np.full(count, 13, "<u4").tobytes())
    confusion = score_semantickitti_files(tmp_path, data)
    assert confusion.sum() == confusion[:, 19 if train_id == 255 else train_id].sum() > 50


def test_points_that_a_transform_left_out_are_scored_too(data):
    data.transforms = [PointsRangeFilter(point_range=(0, 0, -5, 20, 20, 5))]
    metric = SemanticKITTIMetric()
    metric.dataset_meta = data.metainfo
    sample = data[0]
    assert 0 < len(sample["points"]) < tiny.NUM_POINTS
    labels = np.full(tiny.NUM_POINTS, 255)
    labels[sample["point_index"]] = sample["point_labels"]  # all right, where anything is said
    said = labels.copy()
    metric.process(collate([sample]), [PointLabels(torch.from_numpy(said), torch.zeros(tiny.NUM_POINTS))])
    scores = metric.evaluate(1)
    truth = sample["recorded_labels"]
    expected = oracle.iou_by_sets(truth.tolist(), said.tolist(), 19)
    assert scores["mIoU"] == pytest.approx(oracle.mean_of(expected, "skip")) and scores["mIoU"] < 0.9


def test_what_a_metric_refuses(data, tmp_path):
    metric = SegmentationMetric(classes=CLASSES)
    batch = collate([data[0]])
    with pytest.raises(ValueError, match=r"sample 02/000000 must have 60 predictions, got 0"):
        metric.process(batch, [PointLabels.empty()])
    with pytest.raises(ValueError, match="data_samples must have 1 entries, got 0"):
        metric.process(batch, [])
    del batch["samples"][0]["point_labels"]
    with pytest.raises(ValueError, match="sample 02/000000 must have point_labels to be scored"):
        metric.process(batch, [guess(data[0], 0)])
    with pytest.raises(ValueError, match="absent must be one of skip, zero, one, got 'nan'"):
        SegmentationMetric(absent="nan")
    with pytest.raises(ValueError, match="output_dir must be given with format_only"):
        SemanticKITTIMetric(format_only=True)
    with pytest.raises(ValueError, match="classes must be in the metainfo"):
        SemanticKITTIMetric().compute_metrics([])
    write_semantickitti_predictions(tmp_path, "02/000000", guess(data[1], 0), label_map=data.label_map)
    with pytest.raises(FileNotFoundError, match="02/predictions/000001.label is missing"):
        score_semantickitti_files(tmp_path, data)
    path = tmp_path / "sequences/02/predictions/000000.label"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"prediction .*000000.label must have 60 labels, one a point, got 59"):
        score_semantickitti_files(tmp_path, data)


def test_lidarseg_files_are_those_of_the_challenge(tmp_path):
    metric = LidarSegMetric(output_dir=tmp_path, format_only=True)
    metric.dataset_meta = {"split": "val", "classes": CHALLENGE_MAP.classes}
    sample = {"sample_token": "a", "lidar_token": "b"}
    metric.process({"samples": [sample]}, [PointLabels(torch.tensor([0, 15, 255]), torch.ones(3))])
    assert metric.evaluate(1) == {}
    assert (tmp_path / "lidarseg" / "val" / "b_lidarseg.bin").read_bytes() == bytes([1, 16, 0])
    assert json.loads((tmp_path / "val" / "submission.json").read_text())["meta"]["use_lidar"] is True
