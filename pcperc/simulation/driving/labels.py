# SPDX-License-Identifier: Apache-2.0
"""What a surface is called: the recorded numbers of SemanticKITTI's label files (docs of semantic-kitti-api).

Every primitive of the background carries such a number; that of an actor follows from its class and whether
it moves.
"""

from __future__ import annotations

import numpy as np

UNLABELED = 0
CAR, BICYCLE, BUS, MOTORCYCLE, TRUCK, OTHER_VEHICLE, PERSON, BICYCLIST, MOTORCYCLIST = (
    10,
    11,
    13,
    15,
    18,
    20,
    30,
    31,
    32,
)
ROAD, PARKING, SIDEWALK, OTHER_GROUND, LANE_MARKING, TERRAIN = 40, 44, 48, 49, 60, 72
BUILDING, FENCE, VEGETATION, TRUNK, POLE, TRAFFIC_SIGN, OTHER_OBJECT = 50, 51, 70, 71, 80, 81, 99
MOVING = {CAR: 252, BICYCLIST: 253, PERSON: 254, MOTORCYCLIST: 255, BUS: 257, TRUCK: 258, OTHER_VEHICLE: 259}
# One number for each of the 19 classes that are scored, in the official order.
SCORED = (
    *(CAR, BICYCLE, MOTORCYCLE, TRUCK, OTHER_VEHICLE, PERSON, BICYCLIST, MOTORCYCLIST, ROAD, PARKING, SIDEWALK),
    *(OTHER_GROUND, BUILDING, FENCE, VEGETATION, TRUNK, TERRAIN, POLE, TRAFFIC_SIGN),
)
NAMES = dict(
    zip(
        SCORED,
        "car bicycle motorcycle truck other-vehicle person bicyclist motorcyclist road parking sidewalk other-ground "
        "building fence vegetation trunk terrain pole traffic-sign".split(),
        strict=True,
    )
)
_SCORED_AS = {**{moving: still for still, moving in MOVING.items()}, LANE_MARKING: ROAD}
_SCORED_AS |= {BUS: OTHER_VEHICLE, MOVING[BUS]: OTHER_VEHICLE}

_ACTORS = {
    "car": CAR,
    "truck": TRUCK,
    "bus": BUS,
    "trailer": OTHER_VEHICLE,
    "construction_vehicle": OTHER_VEHICLE,
    "pedestrian": PERSON,
    "barrier": FENCE,
    "traffic_cone": OTHER_OBJECT,
}
_TWO_WHEELERS = {"bicycle": (BICYCLE, BICYCLIST), "motorcycle": (MOTORCYCLE, MOTORCYCLIST)}
_WITHOUT_INSTANCE = (FENCE, OTHER_OBJECT)


def actor_label(actor, index: int) -> int:
    """Return the uint32 of a label file for actor number ``index``: class below, instance (``index`` + 1) above.

    Whether something moves holds for the whole recording, as annotators see it.
    """
    if actor.name in _TWO_WHEELERS:
        number = _TWO_WHEELERS[actor.name][actor.resting == "cycle.with_rider"]
    else:
        number = _ACTORS[actor.name]
    if number in _WITHOUT_INSTANCE:
        return number
    if actor.path.speed(0.0) > 0.3:
        number = MOVING.get(number, number)
    return number | (index + 1) << 16


def count_classes(recorded: np.ndarray) -> dict[int, int]:
    """Count the points of each class of ``SCORED`` by the official convention; ``recorded`` as in a label file."""
    counts = dict.fromkeys(SCORED, 0)
    for number, count in zip(*np.unique(recorded & 0xFFFF, return_counts=True), strict=True):
        number = _SCORED_AS.get(int(number), int(number))
        if number in counts:
            counts[number] += int(count)
    return counts
