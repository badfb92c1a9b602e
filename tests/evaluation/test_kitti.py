# SPDX-License-Identifier: Apache-2.0
"""KITTI's average precision against plain loops and what is known of it; the metric, its files, the real frames."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.datasets import KITTIFrustums, KITTIObject, collate
from pcperc.datasets.kitti_files import CLASSES, KITTIObjects, read_objects
from pcperc.evaluation import KITTIMetric, average_precision, detections_to_objects, kitti_scores, score_kitti_files
from pcperc.evaluation.kitti import DIFFICULTIES, OVERLAPS, flat_scores, format_kitti_scores, overlaps_of
from pcperc.geometry import Detections, transform_boxes
from tests import kitti_root as tiny
from tests import oracles_kitti as oracle

LEVELS = tuple(DIFFICULTIES)


def as_objects(things, *, scored: bool) -> KITTIObjects:
    rows = [[t["truncation"], t["occlusion"], 0.0, *t["box"], *t["size"], *t["place"], t["turn"]] for t in things]
    scores = [t["score"] for t in things] if scored else None
    return KITTIObjects.from_table([t["type"] for t in things], np.array(rows).reshape(-1, 14), scores)


ALIKE = {"Van": "Car", "Person_sitting": "Pedestrian"}  # a detector takes the one for the other


def random_frame(rng: np.random.Generator) -> tuple[list[dict], list[dict]]:
    """Objects of all kinds, and detections that hit, miss, repeat, mistake and are too low."""
    objects, detections = [], []
    for _ in range(rng.integers(0, 6)):
        kind = str(rng.choice(["Car", "Car", "Van", "Pedestrian", "Person_sitting", "Cyclist"]))
        size = np.array({"Car": (1.5, 1.7, 4.0), "Van": (2.0, 1.9, 5.0)}.get(kind, (1.7, 0.8, 1.2)))
        height = float(rng.choice([20.0, 25.0, 32.0, 40.0, 60.0]))
        objects.append(
            {
                "type": kind,
                "truncation": float(rng.choice([0.0, 0.15, 0.2, 0.4, 0.8])),
                "occlusion": int(rng.integers(0, 4)) if rng.random() < 0.4 else 0,
                "box": (100.0, 100.0, 150.0, 100.0 + height),
                "size": size * rng.uniform(0.9, 1.1, 3),
                "place": np.array([rng.uniform(-8, 8), rng.uniform(1.4, 1.8), rng.uniform(5, 15)]),
                "turn": rng.uniform(-3, 3),
            }
        )
    for thing in [thing for thing in objects if rng.random() < 0.2]:  # one on top of another, for one detection
        objects.append({**thing, "place": thing["place"] + rng.normal(0, 0.05, 3)})
    for thing in objects:
        for _ in range(rng.choice(3, p=(0.2, 0.5, 0.3))):
            spread = rng.choice([0.01, 0.1, 0.4])
            low = rng.random() < 0.15
            detections.append(
                {
                    **thing,
                    "type": ALIKE.get(thing["type"], thing["type"]) if rng.random() < 0.85 else "Car",
                    "box": (100.0, 100.0, 150.0, 112.0) if low else thing["box"],
                    "place": thing["place"] + rng.normal(0, spread, 3),
                    "turn": thing["turn"] + rng.normal(0, 0.05),
                    "score": float(rng.choice([0.1, 0.3, 0.5, 0.7, 0.9, rng.random()])),
                }
            )
    rng.shuffle(detections)
    return objects, detections


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_average_precision_is_that_of_the_definition(seed, count):
    rng = np.random.default_rng(seed)
    frames = [random_frame(rng) for _ in range(count)]
    truth = [as_objects(objects, scored=False) for objects, _ in frames]
    found = [as_objects(detections, scored=True) for _, detections in frames]
    for kind in OVERLAPS:
        overlaps = [overlaps_of(*pair, kind=kind) for pair in zip(truth, found, strict=True)]
        for (objects, detections), overlap in zip(frames, overlaps, strict=True):
            wanted = [[oracle.overlap(a, b, kind == "3D") for b in detections] for a in objects]
            np.testing.assert_allclose(overlap, np.reshape(wanted, overlap.shape), atol=1e-9)
        for name in CLASSES:
            for number, level in enumerate(LEVELS):
                got = average_precision(truth, found, overlaps, name=name, difficulty=level)
                wanted = oracle.average_precision(frames, name, number, kind == "3D")
                if wanted is None:
                    assert got.num_objects == 0 and np.isnan(got.r40)
                else:
                    assert (got.r40, got.r11) == pytest.approx(wanted, abs=1e-9)


def test_more_objects_than_recalls():
    """With 60 to 120 objects thresholds are chosen among them."""
    rng = np.random.default_rng(3)
    frames = [random_frame(rng) for _ in range(60)]
    for objects, detections in frames:
        for thing in objects:
            thing.update(type="Car", occlusion=0, truncation=0.0, box=(0.0, 0.0, 50.0, 60.0))
        for thing in detections:
            thing.update(type="Car", box=(0.0, 0.0, 50.0, 60.0), score=float(rng.random()))
    truth = [as_objects(objects, scored=False) for objects, _ in frames]
    found = [as_objects(detections, scored=True) for _, detections in frames]
    overlaps = [overlaps_of(*pair, kind="BEV") for pair in zip(truth, found, strict=True)]
    got = average_precision(truth, found, overlaps, name="Car", difficulty="easy")
    assert got.num_objects > 60 and 10 < got.r40 < 90
    assert (got.r40, got.r11) == pytest.approx(oracle.average_precision(frames, "Car", 0, False), abs=1e-9)


def objects_in_a_row(count: int) -> KITTIObjects:
    things = [
        {
            **{"type": CLASSES[k % 3], "truncation": 0.0, "occlusion": 0, "box": (0.0, 0.0, 50.0, 60.0)},
            **{"size": (1.6, 1.7, 4.0), "place": (6.0 * k, 1.6, 20.0), "turn": 0.3 * k, "score": 1 - k / (4 * count)},
        }
        for k in range(count)
    ]
    return as_objects(things, scored=True)


@pytest.mark.parametrize(("count", "r40", "r11"), [(41, 100.0, 100.0), (100, 100.0, 100.0), (1, 0.0, 100 / 11)])
def test_truth_given_as_detections(count, r40, r11):
    """With 41 objects of a class or more the truth scores 100; one alone reaches the first of 41 recalls."""
    objects = objects_in_a_row(3 * count)
    scores = kitti_scores([objects], [objects], classes=CLASSES)
    assert len(scores) == 18
    for found in scores.values():
        assert found.num_objects == count
        assert (found.r40, found.r11) == pytest.approx((r40, r11))
    assert flat_scores(scores)["Car/3D/R40/easy"] == pytest.approx(r40)
    assert "Pedestrian" in format_kitti_scores(scores, title="truth")


def test_an_overlap_of_exactly_the_least_is_none():
    """The official program asks for more than 0.7 or 0.5."""
    things = [
        {
            **{"type": "Pedestrian", "truncation": 0.0, "occlusion": 0, "box": (0.0, 0.0, 50.0, 60.0)},
            **{"size": (1.0, 1.0, length), "place": (0.0, 1.0, 20.0), "turn": 0.0, "score": 0.5},
        }
        for length in (2.0, 4.0, 3.9)
    ]
    truth, touching, close = (as_objects([thing], scored=True) for thing in things)
    for found, expected in ((touching, 0.0), (close, 100 / 11)):
        overlaps = [overlaps_of(truth, found, kind="BEV")]
        assert overlaps[0] == pytest.approx(2 / found.sizes[0, 2], abs=1e-12)
        overlaps = [np.round(overlaps[0], 12)]
        score = average_precision([truth], [found], overlaps, name="Pedestrian", difficulty="easy")
        assert score.r11 == pytest.approx(expected)


def test_nothing_found_is_zero_and_nothing_to_find_is_undefined():
    objects, nothing = objects_in_a_row(3), KITTIObjects.from_table([], np.zeros((0, 14)))
    scores = kitti_scores([objects], [nothing], classes=CLASSES)
    assert all((found.r40, found.r11) == (0, 0) for found in scores.values())
    scores = kitti_scores([nothing], [objects], classes=CLASSES)
    assert flat_scores(scores) == {} and "-" in format_kitti_scores(scores, title="nothing")


def test_refusals():
    objects = objects_in_a_row(3)
    overlaps = [overlaps_of(objects, objects, kind="3D")]
    with pytest.raises(ValueError, match="name and difficulty must be of Car, .* got 'Truck', 'easy'"):
        average_precision([objects], [objects], overlaps, name="Truck", difficulty="easy")
    with pytest.raises(ValueError, match="of the same frames, got 1, 2 and 1"):
        average_precision([objects], [objects] * 2, overlaps, name="Car", difficulty="easy")
    unscored = dataclasses.replace(objects, scores=np.full(3, np.nan))
    with pytest.raises(ValueError, match="detections must have scores, got NaN"):
        average_precision([objects], [unscored], overlaps, name="Car", difficulty="easy")


def truth_of(sample) -> Detections:
    boxes = torch.from_numpy(sample["boxes"])
    return Detections(boxes, torch.full((len(boxes),), 0.9), torch.from_numpy(sample["labels"]))


def test_the_metric_writes_files_that_read_back(tmp_path):
    data = KITTIObject(root=tiny.write_root(tmp_path / "kitti"), split="sim_val", test_mode=True)
    metric = KITTIMetric(output_dir=tmp_path / "out")
    metric.dataset_meta = data.metainfo
    samples = [data[index] for index in range(len(data))]
    metric.process({"samples": collate(samples)["samples"]}, [truth_of(sample) for sample in samples])
    scores = metric.evaluate(len(samples))
    assert scores["Car/3D/R11/easy"] == pytest.approx(100 / 11)  # one car alone
    assert json.loads((tmp_path / "out/scores.json").read_text())["scores"] == scores
    for sample in samples:
        found = read_objects(tmp_path / "out/kitti_results" / f"{sample['frame']}.txt")
        kept = sample["objects"].take(np.isin(sample["objects"].types, CLASSES))
        assert found.types.tolist() == kept.types.tolist()
        np.testing.assert_allclose(found.locations, kept.locations, atol=1e-3)
        np.testing.assert_allclose(found.rotations_y, kept.rotations_y, atol=1e-3)
        np.testing.assert_allclose(found.alpha, kept.alpha, atol=0.02)  # the labels round it to two digits
    only_files = KITTIMetric(output_dir=tmp_path / "files", format_only=True)
    only_files.dataset_meta = data.metainfo
    assert only_files.evaluate(0) == {}
    assert len(list((tmp_path / "files/kitti_results").glob("*.txt"))) == len(data)  # empty ones too
    with pytest.raises(ValueError, match="output_dir must be given"):
        KITTIMetric(format_only=True)


def test_folders_of_results_are_scored(tmp_path):
    root = tiny.write_root(tmp_path / "kitti")
    scores = score_kitti_files(root, "sim_val", root / "training/label_2")  # labels count as certain
    assert scores["Car/3D/easy"].r11 == pytest.approx(100 / 11) and scores["Car/3D/easy"].num_objects == 1
    (tmp_path / "empty").mkdir()
    assert score_kitti_files(root, "sim_val", tmp_path / "empty")["Car/3D/easy"].r11 == 0
    with pytest.raises(FileNotFoundError, match="results must be a folder"):
        score_kitti_files(root, "sim_val", tmp_path / "nowhere")


def test_boxes_of_frustums_come_back_to_their_frames(tmp_path):
    data = KITTIFrustums(root=tiny.write_root(tmp_path / "kitti"), split="sim_val", test_mode=True)
    metric = KITTIMetric(output_dir=tmp_path / "out")
    metric.dataset_meta = data.metainfo
    for index in range(len(data)):
        sample = data[index]
        box = transform_boxes(sample["box"][None].astype(np.float64), sample["frustum2lidar"], upright="source")
        boxes = torch.from_numpy(np.concatenate([box, np.zeros((1, 2))], 1))
        found = Detections(boxes, torch.tensor([0.5]), torch.tensor([sample["class_index"]]))
        metric.process({"samples": [sample]}, [found])
    metric.evaluate(len(data))
    for frame in data.frames:
        truth = read_objects(data.folder / "label_2" / f"{frame}.txt")
        truth = truth.take(np.isin(truth.types, CLASSES))
        found = read_objects(tmp_path / "out/kitti_results" / f"{frame}.txt")
        np.testing.assert_allclose(found.locations, truth.locations, atol=1e-3)
        np.testing.assert_allclose(found.boxes_2d, truth.boxes_2d, atol=1e-3)


def test_a_detection_behind_the_camera_is_no_row(tmp_path):
    data = KITTIObject(root=tiny.write_root(tmp_path / "kitti"), split="sim_val")
    sample = data[0]
    boxes = torch.tensor([[-20.0, 0, 0, 4, 2, 1.5, 0, 0, 0], [20.0, 0, -1, 4, 2, 1.5, 0, 0, 0]])
    found = Detections(boxes, torch.ones(2), torch.zeros(2, dtype=torch.int64))
    size = sample["image_size"]
    rows = detections_to_objects(found, sample["calibration"], classes=CLASSES, image_size=size)
    assert len(rows) == 1 and rows.locations[0, 2] > 0


def test_rectangles_end_with_the_image(tmp_path):
    """A car that reaches over the left edge; one that fills the image."""
    data = KITTIObject(root=tiny.write_root(tmp_path / "kitti"), split="sim_val")
    sample, (height, width) = data[0], tiny.SIZE
    boxes = torch.tensor([[10.0, 6, -1, 4, 2, 1.5, 0, 0, 0], [4.0, 0, 0, 4, 9, 9, 0, 0, 0]])
    found = Detections(boxes, torch.ones(2), torch.zeros(2, dtype=torch.int64))
    options = dict(classes=CLASSES, image_size=tiny.SIZE)
    (left, top, right, bottom), filling = detections_to_objects(found, sample["calibration"], **options).boxes_2d
    assert left == 0 and 0 < top < bottom < height and 0 < right < width - 1
    assert filling.tolist() == [0, 0, width - 1, height - 1]


def test_what_the_truth_scores_on_the_real_frames(realdata):
    """Too few objects for 100: one car and one pedestrian are counted, of which each reaches one of 41 recalls."""
    data = KITTIObject(root=realdata / "kitti_object", split="training", test_mode=True)
    metric = KITTIMetric()
    metric.dataset_meta = data.metainfo
    samples = [data[index] for index in range(3)]
    metric.process({"samples": samples}, [truth_of(sample) for sample in samples])
    scores = metric.evaluate(3)
    counted = {("Car", "moderate"), ("Car", "hard"), *(("Pedestrian", level) for level in LEVELS)}
    expected = {
        f"{name}/{kind}/{recalls}/{level}": value
        for name, level in counted
        for kind in OVERLAPS
        for recalls, value in (("R40", 0.0), ("R11", 100 / 11))
    }
    assert scores == pytest.approx(expected)
    frames = []
    for sample in samples:
        objects = sample["objects"]
        fields = dict(type="types", truncation="truncation", occlusion="occlusion", box="boxes_2d", size="sizes")
        fields |= dict(place="locations", turn="rotations_y")
        truth = [{name: getattr(objects, key)[k] for name, key in fields.items()} for k in range(len(objects))]
        frames.append((truth, [{**thing, "score": 0.9} for thing in truth if thing["type"] in CLASSES]))
    for name in CLASSES:
        for number, level in enumerate(LEVELS):
            wanted = oracle.average_precision(frames, name, number, True)
            found = tuple(scores.get(f"{name}/3D/{recalls}/{level}") for recalls in ("R40", "R11"))
            assert found == ((None, None) if wanted is None else pytest.approx(wanted))
