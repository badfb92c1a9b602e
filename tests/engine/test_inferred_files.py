# SPDX-License-Identifier: Apache-2.0
"""tools/visualize.py on files that tools/infer.py read: what is drawn is what was written, by hand here."""

import json

import cv2
import numpy as np
import pytest
import torch

from pcperc.datasets import CLASSES, MAP_CLASSES
from pcperc.datasets.shapenet_part_labels import PART_NAMES, PARTS
from pcperc.engine import event_visualizing, scene_visualizing
from pcperc.engine.config import ConfigError
from pcperc.engine.hit_inference import describe_clusters, write_clusters
from pcperc.engine.prediction_files import describe
from pcperc.engine.raw_files import row_by_row
from pcperc.engine.visualizing import VisualizeOptions, visualize
from pcperc.geometry import Detections, HitClusters
from pcperc.geometry.calorimeter import HIT_CLASSES
from pcperc.visualization import draw_parts
from pcperc.visualization.frame import TRAINED_ON_SIMULATED
from pcperc.visualization.frustums import PREDICTED_BOX
from tests.calorimeter_events import made_event, write_arrays

CONFIG = """
from pcperc.datasets import {kind}
from pcperc.transforms import DrawMapMasks

data_root = "nowhere"
test_dataloader = dict(dataset=dict(type={kind}, root=data_root, split="test"{more}), batch_size=1)
"""
MAP = ', version="v1.0-mini", transforms=[dict(type=DrawMapMasks, x_bound=(-50, 50, 10), y_bound=(-50, 50, 10))]'


def config_of(folder, kind, more=""):
    path = folder / f"{kind}.py"
    path.write_text(CONFIG.format(kind=kind, more=more))
    return path


def write_result(folder, file, parts, **head):
    path = folder / "out" / f"{file.name}.json"
    path.parent.mkdir(exist_ok=True)
    head = {"file": str(file), "checkpoint": "a.pth", "trained_on_simulated_data": False, **head}
    path.write_text(row_by_row(head, parts))
    return path


@pytest.fixture
def frames(monkeypatch):
    """What would be drawn from above."""
    found = []

    def draw(frame, **_):
        found.append(frame)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(scene_visualizing, "draw_birds_eye", draw)
    monkeypatch.setattr(scene_visualizing, "open3d_problem", lambda: "no Open3D here")
    return found


def has(path, color) -> bool:
    return bool((cv2.imread(str(path))[..., ::-1] == np.array(color)).all(-1).any())


def test_boxes_of_a_file(frames, tmp_path):
    """nuScenes' LiDAR looks along +y, pictures along +x; of several sweeps the newest is drawn."""
    points = np.array([[0, 10, -1, 0.5, 0], [3, 0, 0, 0.2, 0.1], [1, 2, 3, 0.1, 0]], np.float32)
    np.save(tmp_path / "a.npy", points)
    boxes = torch.tensor([[1, 20, 0, 4, 2, 1.5, 0.5, -1, torch.nan], [5, 6, 7, 1, 1, 2, -0.5, 0, 0]])
    found = Detections(boxes, torch.tensor([0.9, 0.1]), torch.tensor([8, 0]))
    write_result(tmp_path, tmp_path / "a.npy", {"detections": describe(found, CLASSES)}, intensity_scale=10.0)
    options = VisualizeOptions(
        config_of(tmp_path, "NuScenesDataset", MAP), results=tmp_path / "out", save=tmp_path, score_threshold=0.5
    )
    saved = visualize(options)
    assert [path.name for path in saved] == ["0000_a.npy_birds_eye.png"]
    (frame,) = frames
    np.testing.assert_allclose(frame.predictions.boxes, boxes[:1].numpy(), rtol=1e-6)  # the other one is too improbable
    assert frame.predictions.labels.tolist() == [8] and frame.truth is None and frame.classes == tuple(CLASSES)
    np.testing.assert_allclose(frame.points[:, 3], [5, 1])
    np.testing.assert_allclose(frame.points_in_ego()[:, :3], [[10, 0, 0.84], [2, -1, 4.84]], atol=1e-6)
    np.testing.assert_allclose(frame.boxes_in_ego(frame.predictions)[0, :2], [20, -1], atol=1e-6)
    assert frame.notes() == []
    told = dict(intensity_scale=10.0, trained_on_simulated_data=True)
    write_result(tmp_path, tmp_path / "a.npy", {"detections": describe(found, CLASSES)}, **told)
    visualize(options)
    assert frames[-1].notes() == [TRAINED_ON_SIMULATED]


def test_boxes_and_map_of_a_file(frames, tmp_path, monkeypatch):
    maps = []
    monkeypatch.setattr(
        scene_visualizing, "draw_map", lambda frame, **_: maps.append(frame) or np.zeros((2, 2, 3), np.uint8)
    )
    np.zeros((4, 4), np.float32).tofile(tmp_path / "a.bin")
    result = write_result(tmp_path, tmp_path / "a.bin", {"detections": [], "map": []}, columns=4)
    probabilities = np.random.default_rng(0).random((len(MAP_CLASSES), 10, 10), np.float32)
    np.save(tmp_path / "out/a.bin.map.npy", probabilities)
    options = VisualizeOptions(config_of(tmp_path, "NuScenesDataset", MAP), results=result, save=tmp_path / "pictures")
    assert [path.name for path in visualize(options)] == ["0000_a.bin_birds_eye.png", "0000_a.bin_map.png"]
    np.testing.assert_array_equal(maps[0].predicted_map.probabilities, probabilities)
    assert len(frames[0].predictions) == 0 and maps[0].true_map is None
    np.save(tmp_path / "out/a.bin.map.npy", probabilities[:, :5])
    with pytest.raises(ConfigError, match=r"a.bin.map.npy: must be \(6, 10, 10\), as .* has it, got \(6, 5, 10\)"):
        visualize(options)


def test_classes_of_the_points_of_a_file(frames, tmp_path):
    np.random.default_rng(0).normal(size=(5, 4)).astype("<f4").tofile(tmp_path / "a.bin")
    rows = [{"class": "car", "number": 10, "points": 2}, {"class": "road", "number": 40, "points": 2}]
    result = write_result(tmp_path, tmp_path / "a.bin", {"classes": rows})
    np.array([10, 40, 0, 40, 10], "<u4").tofile(tmp_path / "out/a.bin.label")
    options = VisualizeOptions(config_of(tmp_path, "SemanticKITTI"), results=result, save=tmp_path / "pictures")
    visualize(options)
    assert frames[0].predicted_labels.tolist() == [0, 8, 255, 8, 0] and frames[0].classes[8] == "road"
    np.array([10, 40], "<u4").tofile(tmp_path / "out/a.bin.label")
    with pytest.raises(ValueError, match=r"a.bin.label: must be of the 5 points .* a.bin.json names, got 2"):
        visualize(options)
    (tmp_path / "out/a.bin.label").unlink()
    with pytest.raises(FileNotFoundError, match=r"a.bin.label: is missing, which .* beside a.bin.json"):
        visualize(options)


def test_parts_of_a_file(tmp_path):
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (30, 6))
    np.savetxt(tmp_path / "mug.txt", points)
    parts = np.resize(PARTS["Mug"], 30)
    names = dict(zip(PARTS["Mug"], PART_NAMES["Mug"], strict=True))
    rows = [{"class": f"Mug/{name}", "number": number} for number, name in names.items()]
    result = write_result(tmp_path, tmp_path / "mug.txt", {"classes": rows}, category="Mug")
    parts.astype("<u4").tofile(tmp_path / "out/mug.txt.label")
    config = config_of(tmp_path, "ShapeNetPart")
    (saved,) = visualize(VisualizeOptions(config, results=result, save=tmp_path / "pictures"))
    expected = draw_parts(points.astype(np.float32), names=names, predicted=parts, title="Mug mug.txt")
    assert saved.name == "0000_mug_txt.png" and (cv2.imread(str(saved))[..., ::-1] == expected).all()


def test_rooms_shapes_and_frustums(tmp_path):
    rng, options = np.random.default_rng(0), {"save": tmp_path / "pictures"}
    np.save(tmp_path / "room.npy", np.concatenate([rng.uniform(0, 3, (50, 3)), rng.uniform(0, 255, (50, 3))], 1))
    result = write_result(tmp_path, tmp_path / "room.npy", {"classes": [{"class": "chair", "number": 8}]})
    np.full(50, 8, "<u4").tofile(tmp_path / "out/room.npy.label")
    (room,) = visualize(VisualizeOptions(config_of(tmp_path, "S3DIS"), results=result, **options))
    assert cv2.imread(str(room)).shape[1] == 2 * 480 + 170  # colours and prediction
    np.save(tmp_path / "chair.npy", rng.uniform(-0.5, 0.5, (50, 6)))
    result = write_result(tmp_path, tmp_path / "chair.npy", {"class": [{"class": "chair", "score": 0.5}]})
    (shape,) = visualize(VisualizeOptions(config_of(tmp_path, "ModelNet40"), results=result, **options))
    assert cv2.imread(str(shape)).std() > 1
    np.save(tmp_path / "car.npy", rng.normal((10, 10, 0, 0.5), 0.5, (50, 4)))
    box = Detections(torch.tensor([[10.0, 10, 0, 4, 2, 1.5, 0.3, 0, 0]]), torch.tensor([0.7]), torch.tensor([0]))
    told = {"detections": describe(box, ("Car",))}
    result = write_result(tmp_path, tmp_path / "car.npy", told, category="Car")
    (frustum,) = visualize(VisualizeOptions(config_of(tmp_path, "KITTIFrustums"), results=result, **options))
    assert has(frustum, PREDICTED_BOX)


def test_clusters_of_a_file(tmp_path, monkeypatch):
    frames = []
    monkeypatch.setattr(event_visualizing, "open3d_problem", lambda: "no Open3D here")
    monkeypatch.setattr(
        event_visualizing, "draw_event", lambda frame, **_: frames.append(frame) or np.zeros((2, 2, 3), np.uint8)
    )
    hits = made_event(np.random.default_rng(1), 3)["hits"]
    file = write_arrays(tmp_path / "event.npz", recHitFeatures=hits)
    instances = torch.arange(len(hits)) % 4 - 1
    found = HitClusters((instances >= 0).long(), instances, torch.rand(len(hits)))
    rows = describe_clusters(found, hits)
    result = write_result(tmp_path, file, {"clusters": rows})
    write_clusters(result.with_suffix(".clusters.npz"), found, rows)
    config = config_of(tmp_path, "CalorimeterHits")
    saved = visualize(VisualizeOptions(config, results=result, save=tmp_path / "pictures"))
    assert [path.name for path in saved] == ["0000_event.npz_event.png"] and rows[0]["class"] == HIT_CLASSES[1]
    np.testing.assert_array_equal(frames[0].hits, hits)
    np.testing.assert_array_equal(frames[0].predictions.instances, instances)
    assert frames[0].truth is None
    result.with_suffix(".clusters.npz").write_bytes(b"PK junk")
    with pytest.raises(ValueError, match=r"event.npz.clusters.npz: cannot be read"):
        visualize(VisualizeOptions(config, results=result, save=tmp_path / "pictures"))


def test_says_what_is_wrong(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 5), np.float32))
    row = {"class": "car", "score": 1, "center": [0, 0, 0], "size_lwh": [1, 1, 1], "yaw": 0, "velocity": [0, 0]}
    result = write_result(tmp_path, tmp_path / "a.npy", {"detections": [row]})
    config, save = config_of(tmp_path, "NuScenesDataset", ', version="v1.0-mini"'), tmp_path / "pictures"

    def refused(kind, message, config=config, results=result, **more):
        with pytest.raises(kind, match=message):
            visualize(VisualizeOptions(config, results=results, save=save, **more))

    refused(ConfigError, "--split is for samples of a data set, .*a.npy.json is of files", split="val")
    refused(ConfigError, "--data-root is for samples", data_root="there")
    kitti = config_of(tmp_path, "SemanticKITTI")
    message = (
        "SemanticKITTI.py: does not fit; .*a.npy.json: has boxes of car, but SemanticKITTI has no classes of boxes"
    )
    refused(ConfigError, message, config=kitti)
    frustums = config_of(tmp_path, "KITTIFrustums")
    refused(ConfigError, "boxes of car, but KITTIFrustums has classes of boxes: Car, ", config=frustums)
    (tmp_path / "empty").mkdir()
    refused(ConfigError, "empty: a folder must hold <file>.json of tools/infer.py, or", results=tmp_path / "empty")
    result.write_text(result.read_text().replace('"velocity"', '"speed"'))
    refused(ValueError, r"a.npy.json: detections must be as tools/infer.py writes them: KeyError\('velocity'\)")
    result.write_text(json.dumps({"file": 3}))
    refused(ValueError, "a.npy.json: must be a result of tools/infer.py, with the names of 'file'")
    result.write_text(result.read_text()[:-1])
    refused(ValueError, "a.npy.json: must be a result of tools/infer.py, but cannot be read")
    write_result(tmp_path, tmp_path / "a.npy", {"map": []})
    refused(ConfigError, "is of a map, for which NuScenesDataset of the config has no DrawMapMasks")
    write_result(tmp_path, tmp_path / "a.npy", {"clusters": []})
    refused(ConfigError, "a.npy.json: has 'clusters', which is of CalorimeterHits, but the data set is NuScenesDataset")
    write_result(tmp_path, tmp_path / "a.npy", {"detections": []})
    shapes = config_of(tmp_path, "ModelNet40")
    refused(ConfigError, "a.npy.json: must have 'class', as files of ModelNet40 do, got 'detections'", config=shapes)
    (tmp_path / "a.npy").unlink()
    refused(FileNotFoundError, "a.npy: is missing, of which .*a.npy.json is; call where infer.py was called")


def test_the_profile_that_fits_is_taken(frames, tmp_path):
    np.zeros((2, 4), "<f4").tofile(tmp_path / "a.bin")
    result = write_result(tmp_path, tmp_path / "a.bin", {"classes": [{"class": "car", "number": 10, "points": 2}]})
    np.full(2, 10, "<u4").tofile(tmp_path / "out/a.bin.label")
    config_of(tmp_path, "SemanticKITTI")
    own = config_of(tmp_path, "S3DIS")
    own.write_text(own.read_text() + 'profiles = dict(demo="SemanticKITTI.py")\n')
    assert visualize(VisualizeOptions(own, results=result, save=tmp_path / "pictures"))
    assert frames[0].predicted_labels.tolist() == [0, 0]
