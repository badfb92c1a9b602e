# SPDX-License-Identifier: Apache-2.0
"""The two conventions by which the 34 recorded classes of SemanticKITTI become the 19 that are scored.

They number the 19 classes alike and differ in what is ignored: a checkpoint trained with one and scored with the other
loses a little on other-vehicle and road.
"""

from pcperc.datasets.label_map import LabelMap
from pcperc.geometry import IGNORED

CLASSES = (
    *("car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist", "motorcyclist"),
    *("road", "parking", "sidewalk", "other-ground", "building", "fence", "vegetation", "trunk", "terrain"),
    *("pole", "traffic-sign"),
)

RECORDED_NAMES = {
    **{0: "unlabeled", 1: "outlier"},
    **{10: "car", 11: "bicycle", 13: "bus", 15: "motorcycle", 16: "on-rails", 18: "truck", 20: "other-vehicle"},
    **{30: "person", 31: "bicyclist", 32: "motorcyclist"},
    **{40: "road", 44: "parking", 48: "sidewalk", 49: "other-ground"},
    **{50: "building", 51: "fence", 52: "other-structure", 60: "lane-marking"},
    **{70: "vegetation", 71: "trunk", 72: "terrain", 80: "pole", 81: "traffic-sign", 99: "other-object"},
    **{252: "moving-car", 253: "moving-bicyclist", 254: "moving-person", 255: "moving-motorcyclist"},
    **{256: "moving-on-rails", 257: "moving-bus", 258: "moving-truck", 259: "moving-other-vehicle"},
}


def _label_map(name: str, joined: dict[str, str]) -> LabelMap:
    """Make a map in which a class named in ``joined`` counts as another and all that is no scored class is ignored."""
    still = {number: recorded.removeprefix("moving-") for number, recorded in RECORDED_NAMES.items()}
    classes = {number: joined.get(recorded, recorded) for number, recorded in still.items()}
    train_ids = {n: CLASSES.index(c) if c in CLASSES else IGNORED for n, c in classes.items()}
    number_of = {recorded: number for number, recorded in RECORDED_NAMES.items()}
    return LabelMap(name, CLASSES, train_ids, tuple(number_of[c] for c in CLASSES))


# official: semantic-kitti-api, config/semantic-kitti.yaml, and mmdetection3d. spvnas: the code of the SPVNAS paper.
LABEL_MAPS = {
    "official": _label_map("official", {"bus": "other-vehicle", "on-rails": "other-vehicle", "lane-marking": "road"}),
    "spvnas": _label_map("spvnas", {}),
}


def label_map(name: str) -> LabelMap:
    """Return a convention by its name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in LABEL_MAPS:
        raise ValueError(f"label_map: name must be one of {', '.join(LABEL_MAPS)}, got {name!r}")
    return LABEL_MAPS[name]
