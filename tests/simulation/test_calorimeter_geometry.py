# SPDX-License-Identifier: Apache-2.0
"""The calorimeter as the simulator sees it: layers, depth and cells."""

import math

import numpy as np
import pytest

from pcperc.simulation.calorimeter.geometry import (
    COMPARTMENT,
    DEPTH_LAMBDA,
    DEPTH_X0,
    LARGE,
    LAYER_Z,
    LAYERS,
    SIDES,
    SMALL,
    TILE,
    cell_centres,
    cell_of,
    cells_by_ring,
    region_of,
)


def test_layers_and_depth_are_those_of_the_table():
    assert len(LAYER_Z) == LAYERS == 52 and (np.diff(LAYER_Z) > 0).all()
    assert np.bincount(COMPARTMENT).tolist() == [28, 12, 12]
    assert LAYER_Z[[0, 27, 28, 39, 40, 51]] == pytest.approx([320.75, 350.4, 356.33, 407.81, 425.1, 520.8])
    assert DEPTH_X0[[0, 28, -1]] == pytest.approx([0.0, 27.7, 97.7])
    assert DEPTH_LAMBDA[-1] == pytest.approx(10.0)


def test_lattices_change_at_their_radii():
    """Sensors of 100 um end at 75 cm in front and at 60 cm behind; tiles begin at 140 cm, at the back alone."""
    for compartment, rings in (
        (0, [(74.9, SMALL), (75.1, LARGE), (150.0, LARGE)]),
        (1, [(59.9, SMALL), (60.1, LARGE), (150.0, LARGE)]),
        (2, [(59.9, SMALL), (60.1, LARGE), (139.9, LARGE), (140.1, TILE)]),
    ):
        assert [region_of(compartment, radius) for radius, _ in rings] == [region for _, region in rings]
    assert list(SIDES) == [0.476, 0.648]
    rims = LAYER_Z / np.sinh([[3.0], [1.475]])  # where a layer begins and ends
    for layer in (0, 30, 51):
        inner, outer = rims[:, layer]
        seen = [cell_of(layer, radius, 0.0) >= 0 for radius in (inner - 0.01, inner + 0.01, outer - 0.01, outer + 0.01)]
        assert seen == [False, True, True, False]


def test_a_point_is_in_the_cell_whose_centre_is_nearest():
    rng = np.random.default_rng(0)
    for layer, low, high in ((0, 35, 70), (5, 80, 140), (45, 145, 190)):
        radius, turn = rng.uniform(low, high, 400), rng.uniform(-math.pi, math.pi, 400)
        places = np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1)
        cells = np.array([cell_of(layer, x, y) for x, y in places])
        layers, centres = cell_centres(cells)
        assert (layers == layer).all() and (centres[:, 2] == LAYER_Z[layer]).all()
        if layer == 45:
            assert np.abs(places - centres[:, :2]).max() < 190 * math.radians(1)
            continue
        side = SIDES[layer // 5]
        offset = np.hypot(*(places - centres[:, :2]).T)
        assert offset.max() <= side + 1e-9
        neighbours = [
            (math.sqrt(3) * math.cos(k * math.pi / 3), math.sqrt(3) * math.sin(k * math.pi / 3)) for k in range(6)
        ]
        for dx, dy in neighbours:
            assert (np.hypot(*(places - centres[:, :2] - np.array([dx, dy]) * side).T) >= offset - 1e-9).all()
    assert cell_of(0, 10.0, 0.0) == -1 and cell_of(0, 300.0, 0.0) == -1


def test_rings_count_the_cells_of_a_layer():
    layer, inner, outer, count = next(ring for ring in cells_by_ring() if ring[0] == 0)
    grid = np.arange(-outer, outer, 0.25)
    seen = {cell_of(0, x, y) for x in grid for y in grid if inner <= math.hypot(x, y) < outer}
    assert len(seen) == pytest.approx(count, rel=0.06)  # cells on the rim are seen by halves
