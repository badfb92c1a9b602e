# SPDX-License-Identifier: Apache-2.0
"""The number of classes of a network beside that of its data: where it stands in a config, and in every config here."""

import contextlib
from pathlib import Path

import pytest

from pcperc.datasets import MAP_CLASSES
from pcperc.datasets.modelnet40 import CATEGORIES as SHAPES
from pcperc.datasets.shapenet_part_labels import CATEGORIES
from pcperc.engine.class_counts import check_class_counts
from pcperc.engine.config import ConfigError, load_config, plain_config, restored_config
from pcperc.engine.file_samples import classes_of, label_map_of
from pcperc.models.bevfusion import CenterTask
from pcperc.models.pvcnn import frustum_pvcnn_kitti, pvcnn_s3dis, pvcnn_shapenet
from tests.test_configs import CONFIGS


class Rooms:
    metainfo = {"classes": ("floor", "wall", "door"), "map_classes": ("road", "walkway")}


def center(*tasks):
    return {"heads": {"object": {"type": "CenterHead", "tasks": tasks}}}


def task(*classes):
    return {"type": "CenterTask", "classes": classes}


def map_of(*classes):
    return {"heads": {"map": {"type": "BEVSegmentationHead", "classes": classes}}}


FRUSTUM = {"type": "FrustumPreprocessor"}


@pytest.mark.parametrize(
    ("model", "got"),
    [
        ({"backbone": {"type": pvcnn_s3dis, "num_classes": 3}}, None),
        ({"backbone": {"type": pvcnn_s3dis}}, "model.backbone.num_classes must be 3, .*, got 13$"),
        ({"backbone": {"type": "OnVoxels", "net": {"type": "MinkUNet"}}}, None),  # without a classifier
        ({"backbone": {"type": "OnVoxels", "net": {"type": "MinkUNet", "num_classes": 2}}}, "backbone.net.num_classes"),
        ({"heads": {"object": {"type": "TransFusionHead", "num_classes": 2}}}, "heads.object.num_classes"),
        ({"network": {"segmentation": {"type": "PVCNN", "num_classes": 2}}}, None),  # of a frustum: in or outside
        (center(task(0, 2), task(1)), None),
        (
            center(task(0, 2), task(1), task(3)),
            r"a.py: number of classes of model.heads.object.tasks must be 3, Rooms has 3 classes .floor, .*, got 4$",
        ),
        (center(CenterTask((0,)), CenterTask((1,))), "heads.object.tasks must be 3, .*, got 2$"),
        (map_of("road", "walkway"), None),
        (
            map_of("road"),
            r"number of model.heads.map.classes must be 2, Rooms has 2 map classes \(road, walkway\), got 1$",
        ),
        ({"network": {"type": frustum_pvcnn_kitti}, "data_preprocessor": FRUSTUM}, None),
        (
            {"network": {"type": "frustum_pvcnn_kitti", "num_categories": 2}},
            "network.num_categories must be 3, .*got 2",
        ),
        (
            {"network": {"type": "FrustumPVCNN", "segmentation": {"type": "PVCNN", "num_categories": 4}}},
            "model.network.segmentation.num_categories must be 3, .*, got 4$",
        ),
        (
            {"data_preprocessor": {**FRUSTUM, "class_templates": (0, 3)}},
            "number of model.data_preprocessor.class_templates must be 3, Rooms has 3 classes .*, got 2$",
        ),
    ],
)
def test_classes_of_the_model_are_those_of_the_data(model, got):
    with contextlib.nullcontext() if got is None else pytest.raises(ConfigError, match=got):
        check_class_counts(model, Rooms(), Path("a.py"))
    check_class_counts(model, object(), Path("a.py"))


class Shapes:
    metainfo = {"classes": ("seat", "leg"), "categories": ("chair", "mug", "lamp")}


def parts(told, preprocessed):
    backbone = {"type": pvcnn_shapenet, "num_classes": 2, "num_categories": told}
    return {"backbone": backbone, "data_preprocessor": {"type": "ShapePreprocessor", "num_categories": preprocessed}}


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (parts(3, 3), None),
        (parts(0, 0), None),  # neither is told what a shape is
        (
            parts(16, 3),
            r"a.py: model.backbone.num_categories must be 3, Shapes has 3 categories \(chair, mug, lamp\), got 16$",
        ),
        (parts(3, 2), "a.py: model.data_preprocessor.num_categories must be 3, .*, got 2$"),
        (parts(3, 0), "a.py: model.data_preprocessor.num_categories must be 3, .*, got 0$"),
        (parts(0, 3), "a.py: model.backbone.num_categories must be 3, .*, got 0$"),
        (
            {"data_preprocessor": {"type": "ShapePreprocessor"}},
            "data_preprocessor.num_categories must be 3, .*, got 16$",
        ),
    ],
)
def test_categories_that_a_network_of_parts_is_told_are_those_of_the_data(model, got):
    with contextlib.nullcontext() if got is None else pytest.raises(ConfigError, match=got):
        check_class_counts(model, Shapes(), Path("a.py"))
    data = Shapes()
    data.metainfo = {"classes": Shapes.metainfo["classes"]}  # such as ModelNet40, whose classes these are
    check_class_counts(model, data, Path("a.py"))


@pytest.mark.parametrize("path", [path for path in CONFIGS if Path(path).stem.startswith(("shapenet", "parts"))])
def test_configs_of_parts_have_the_categories_of_their_data(path):
    cfg, data = load_config(path), Shapes()
    data.metainfo = {"categories": CATEGORIES}
    check_class_counts(cfg.model, data, path)
    data.metainfo = {"categories": CATEGORIES[:-1]}
    with pytest.raises(ConfigError, match=rf"{path}: model.backbone.num_categories must be 15, .*, got 16$"):
        check_class_counts(cfg.model, data, path)


@pytest.mark.parametrize(
    ("parts", "got"),
    [
        (None, None),
        ([2, 1], None),
        ((4, 2), r"a.py: model.parts must be \(2, 1\), Parts has parts of chair 2, mug 1; got \(4, 2\)$"),
        ((3,), r"a.py: model.parts must be \(2, 1\), .*; got \(3,\)$"),
    ],
)
def test_parts_of_the_model_are_those_of_the_data(parts, got):
    class Parts:
        metainfo = {"classes": ("seat", "leg", "cup"), "parts": {"chair": (0, 1), "mug": (2,)}}

    with contextlib.nullcontext() if got is None else pytest.raises(ConfigError, match=got):
        check_class_counts({"parts": parts}, Parts(), Path("a.py"))
    check_class_counts({"parts": parts}, Rooms(), Path("a.py"))


def test_data_without_a_map_say_nothing_of_map_heads():
    data = Rooms()
    data.metainfo = {"classes": Rooms.metainfo["classes"]}
    check_class_counts(map_of("road"), data, Path("a.py"))


@pytest.mark.parametrize("path", CONFIGS)
def test_every_config_has_the_classes_of_its_data(path):
    """As it is read, and as it comes from a checkpoint; and with one class more in the data it is refused."""
    cfg = load_config(path)
    restored = restored_config(plain_config(cfg))
    for loader in ("train_dataloader", "test_dataloader"):
        dataset, label_map, data = cfg[loader].dataset, label_map_of(cfg[loader].dataset), Rooms()
        names = tuple(classes_of(dataset) if label_map is None else label_map.classes)
        names = names or SHAPES  # of ModelNet40, whose files are of one class each
        data.metainfo = {"classes": names, "map_classes": MAP_CLASSES}
        for model in (cfg.model, restored["model"]):
            check_class_counts(model, data, path)
        data.metainfo = {"classes": (*names, "cloud"), "map_classes": (*MAP_CLASSES, "cloud")}
        with pytest.raises(ConfigError, match=rf"{path}: .*model\..* must be \d+, Rooms has \d+ (map )?classes"):
            check_class_counts(cfg.model, data, path)
