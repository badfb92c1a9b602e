# SPDX-License-Identifier: Apache-2.0
"""Where the cells of a map appear in its picture, and which colour a right, missed or invented one has."""

import numpy as np
import pytest
import torch

from pcperc.geometry import BEVGrid, MapPrediction, rotation_z
from pcperc.visualization import draw_map
from pcperc.visualization.colors import BACKGROUND, RING, SIMULATED, class_color
from pcperc.visualization.map_picture import BOTH_WRONG, FOUND, INVENTED, MISSED

GRID = BEVGrid((-10.0, 10.0, 1.0), (-10.0, 10.0, 1.0))
CLASSES = ("drivable_area", "divider")
SIZE, STEP = 200, 206  # 10 pixels a metre; a picture and the gap beside it
TITLE = 30


def maps(*cells, probability=1.0):
    """A map whose class is at (class, i, j)."""
    values = torch.zeros(2, 20, 20)
    for label, i, j in cells:
        values[label, i, j] = probability
    return MapPrediction(values, GRID)


def at(picture, panel, x, y):
    """Colour at x metres ahead and y metres to the left in the panel-th picture."""
    return tuple(int(v) for v in picture[TITLE + int(100 - 10 * x), panel * STEP + int(100 - 10 * y)])


def test_map_prediction_and_error(make_frame):
    truth = maps((0, 15, 12), (0, 15, 5), (1, 3, 3))  # x = 5.5, y = 2.5; ...
    found = maps((0, 15, 12), (0, 10, 10), (0, 3, 3), probability=0.5)
    frame = make_frame(true_map=truth, predicted_map=found, map_classes=CLASSES, simulated=True)
    picture = draw_map(frame, size=SIZE)
    street, line = (class_color(name) for name in CLASSES)
    assert (
        at(picture, 0, 5.5, 2.5) == street and at(picture, 0, -6.5, -6.5) == line and at(picture, 0, 0.5, 0.5) == RING
    )
    assert at(picture, 1, 5.5, 2.5) == street and at(picture, 1, 0.5, 0.5) == street
    error = {(5.5, 2.5): FOUND, (5.5, -4.5): MISSED, (0.5, 0.5): INVENTED, (-6.5, -6.5): BOTH_WRONG, (8, 8): BACKGROUND}
    assert {place: at(picture, 2, *place) for place in error} == error
    assert (picture == SIMULATED).all(-1).any(), "every picture of simulated data says so"
    assert not (draw_map(frame, size=SIZE, threshold=0.6)[:, STEP : STEP + SIZE] == street).all(-1).any()


def test_the_lidar_frame_is_turned_into_the_vehicles(make_frame):
    """As in nuScenes the LiDAR's x is the vehicle's right: what is at y = 5 of the LiDAR is ahead."""
    frame = make_frame(true_map=maps((0, 10, 15)), map_classes=CLASSES)
    object.__setattr__(frame, "lidar2ego", rotation_z(-np.pi / 2))
    picture = draw_map(frame, size=SIZE)
    assert at(picture, 0, 5.5, -0.5) == class_color("drivable_area")
    assert picture.shape[1] < 2 * STEP + 240, "no prediction, no second picture"


def test_missing_and_different_maps_are_named(make_frame):
    with pytest.raises(ValueError, match="must have a true_map or a predicted_map"):
        draw_map(make_frame())
    other = MapPrediction(torch.zeros(2, 10, 10), BEVGrid((-5, 5, 1), (-5, 5, 1)))
    with pytest.raises(ValueError, match="both maps must be of one grid"):
        draw_map(make_frame(true_map=maps(), predicted_map=other, map_classes=CLASSES))
