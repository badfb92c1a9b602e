# SPDX-License-Identifier: Apache-2.0
"""The simulated map says what stands under the sensors: its masks against the ground that cameras and LiDAR see."""

import json

import numpy as np
import pytest

from pcperc.datasets.nuscenes_map import MAP_CLASSES, expansion_path, read_vector_map
from pcperc.geometry import BEVGrid
from pcperc.simulation.driving import generate
from pcperc.simulation.driving.ground import CARPARK, CURB, PAVEMENT, WHITE, YELLOW, ground_kind
from pcperc.simulation.driving.maps import add_layers
from pcperc.simulation.nuscenes_map import MapLayers

GRID = BEVGrid((-50.0, 50.0, 1.0), (-50.0, 50.0, 1.0))


@pytest.mark.parametrize("index", [1, 2])
def test_masks_are_the_ground_that_sensors_see(tmp_path, index):
    road = generate.scene_world(0, index).road
    layers = MapLayers(canvas_edge=(2000, 2000))
    add_layers(layers, road)
    path = expansion_path(tmp_path, "here")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(layers.to_json()))
    to_scene = np.eye(3)
    to_scene[:2, 2] = -road.x, -road.y
    masks = dict(zip(MAP_CLASSES, read_vector_map(tmp_path, "here").masks(to_scene, GRID, line_width=1.5), strict=True))
    table, places = road.table(), (GRID.centres() + [road.x, road.y]).reshape(-1, 2)
    kind, edge = np.array([ground_kind(table, road.carparks, *place) for place in places]).T.reshape(2, *GRID.shape)
    parking = (edge > 0) & np.isin(kind, [CARPARK, WHITE])
    expected = {
        "drivable_area": (edge <= 0) | parking,
        "walkway": np.isin(kind, [PAVEMENT, CURB]),
        "carpark_area": parking,
    }
    for name, mask in expected.items():
        assert mask.sum() > 100
        iou = (masks[name] & mask).sum() / (masks[name] | mask).sum()
        assert iou > 0.95, (name, iou)  # pavements do not follow the rounded corners of the junction
    assert all(mask.sum() > 20 for mask in masks.values())
    paint = np.isin(kind, [WHITE, YELLOW]) & (edge <= 0)
    for name in ("ped_crossing", "stop_line", "divider"):
        assert (masks[name] & ~masks["drivable_area"]).sum() < 0.05 * masks[name].sum()
        share = paint[masks[name]].mean()
        assert share > 2 * paint[masks["drivable_area"]].mean(), f"{name}: {share:.2f} of its cells are painted"
