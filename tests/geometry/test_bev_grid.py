# SPDX-License-Identifier: Apache-2.0
"""Areas and lines on a grid against loops over the cells, against Shapely, and against what must hold of any map."""

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.geometry import BEVGrid, VectorMap, draw_lines, fill_areas, line_segments, ring_edges
from tests import oracles_map as oracle

GRID = BEVGrid((-3.0, 3.0, 0.5), (-2.0, 2.4, 0.4))
WIDE = BEVGrid((-50.0, 50.0, 0.5), (-50.0, 50.0, 0.5))
coordinate = st.floats(-5, 5, allow_nan=False, width=32)
point = st.tuples(coordinate, coordinate)


def star(centre, radii):
    """A simple ring around a centre, in either order."""
    angles = np.linspace(0, 2 * math.pi, len(radii), endpoint=False)
    return [(centre[0] + r * math.cos(a), centre[1] + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


@st.composite
def area(draw):
    centre = draw(point)
    radii = draw(st.lists(st.floats(0.5, 4, width=32), min_size=3, max_size=9))
    exterior = star(centre, radii)
    # Around the same centre and at most 0.4 of the smallest radius, so inside whatever the angles are.
    holes = (
        [star(centre, [0.4 * min(radii)] * draw(st.integers(3, 6)))] if draw(st.booleans()) and len(radii) > 4 else []
    )
    return (exterior[::-1] if draw(st.booleans()) else exterior), holes


def edges_of(areas):
    rings = [
        (ring, hole) for exterior, holes in areas for ring, hole in ((exterior, False), *((h, True) for h in holes))
    ]
    parts = [ring_edges(np.array(ring), hole=hole) for ring, hole in rings]
    return np.concatenate([np.zeros((0, 2, 2)), *parts])


def assert_is(mask, expected):
    wrong = [cell for cell, value in expected.items() if value is not None and mask[cell] != value]
    assert not wrong, wrong


@settings(max_examples=60, deadline=None)
@given(st.lists(area(), max_size=3))
def test_areas_with_holes_are_the_loops(areas):
    """Overlapping ones too, and where a hole of one lies in another."""
    assert_is(fill_areas(edges_of(areas), GRID), oracle.mask(areas, [], GRID.x_bound, GRID.y_bound, width=1.0))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(point, min_size=2, max_size=4), max_size=3), st.floats(0.05, 3))
def test_lines_are_the_loops(lines, width):
    segments = np.concatenate([np.zeros((0, 2, 2)), *(line_segments(np.array(line)) for line in lines)])
    expected = oracle.mask([], lines, GRID.x_bound, GRID.y_bound, width=width)
    assert_is(draw_lines(segments, GRID, width=width), expected)


def test_long_lines_and_large_areas_are_shapelys():
    """Beyond the size of a piece, far outside the grid, with hundreds of corners."""
    rng = np.random.default_rng(3)
    x, y = np.moveaxis(WIDE.centres(), -1, 0)
    lines = [rng.uniform(-90, 90, (5, 2)) for _ in range(4)]
    near = shapely.MultiLineString([line.tolist() for line in lines])
    expected = shapely.distance(near, shapely.points(x, y)) <= 0.75
    assert (draw_lines(np.concatenate([line_segments(line) for line in lines]), WIDE, width=1.5) == expected).all()
    rings = [np.array(star((0, 0), rng.uniform(30, 80, 400))), np.array(star((3, -4), rng.uniform(5, 20, 300)))]
    expected = shapely.contains_xy(shapely.Polygon(rings[0], [rings[1]]), x, y)
    found = fill_areas(np.concatenate([ring_edges(rings[0]), ring_edges(rings[1], hole=True)]), WIDE)
    assert expected.any() and (found == expected).all()


def test_a_square_by_hand():
    grid = BEVGrid((0.0, 4.0, 1.0), (0.0, 3.0, 1.0))
    square = ring_edges(np.array([(1, 0), (3, 0), (3, 2), (1, 2), (1, 0)]))  # the last corner repeats the first
    assert fill_areas(square, grid).astype(int).tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 0], [0, 0, 0]]
    line = line_segments(np.array([(0.5, 1.5), (2.4, 1.5)]))
    assert draw_lines(line, grid, width=0.3).astype(int).tolist() == [[0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert draw_lines(line, grid, width=2.0)[3].tolist() == [False, False, False]  # its centre is 1.1 m from the end


def test_an_edge_through_centres_belongs_to_one_side():
    """Two areas that share it cover each centre, and only once."""
    left, right = [(0, 0), (1.5, 0), (1.5, 4), (0, 4)], [(1.5, 0), (4, 0), (4, 4), (1.5, 4)]
    grid = BEVGrid((0.0, 4.0, 1.0), (0.0, 4.0, 1.0))
    masks = [fill_areas(ring_edges(np.array(ring)), grid) for ring in (left, right)]
    assert (masks[0] ^ masks[1]).all()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(area(), min_size=1, max_size=2),
    st.lists(point, min_size=2, max_size=3),
    st.fixed_dictionaries(
        {
            "x": coordinate,
            "y": coordinate,
            "heading": st.floats(-4, 4),
            "scale": st.floats(0.5, 2),
            "mirror": st.booleans(),
            "turn": st.floats(-4, 4),
            "shift": point,
        }
    ),
)
def test_a_map_is_drawn_as_the_vehicle_sees_it(areas, line, pose):
    """Every corner moved by its own formula, the line as wide as the scale makes it."""
    moved = [([oracle.seen_from(p, **pose) for p in ring], [[oracle.seen_from(p, **pose) for p in h] for h in holes])
             for ring, holes in areas]  # fmt: skip
    points = [oracle.seen_from(p, **pose) for p in line]
    expected = oracle.mask(moved, [points], GRID.x_bound, GRID.y_bound, width=0.7 * pose["scale"], margin=1e-6)
    columns = [oracle.seen_from(p, **pose) for p in ((0, 0), (1, 0), (0, 1))]
    matrix = np.eye(3)
    matrix[:2, 2] = columns[0]
    matrix[:2, :2] = np.subtract(columns[1:], columns[0]).T
    rings = [[np.array(exterior), *map(np.array, holes)] for exterior, holes in areas]
    world = VectorMap("place", {"street": rings}, {"street": [np.array(line)]})
    assert_is(world.masks(matrix, GRID, line_width=0.7)[0], expected)


def test_mirrored_and_turned_maps_have_mirrored_and_turned_masks():
    rng = np.random.default_rng(1)
    areas = [[np.array(star(rng.uniform(-20, 20, 2), rng.uniform(5, 25, 12)))] for _ in range(4)]
    world = VectorMap("place", {"a": areas}, {"a": [rng.uniform(-60, 60, (5, 2))]})

    def masks(*rows):
        return world.masks(np.array([*rows, (0, 0, 1)], float), WIDE, line_width=1.5)[0]

    plain = masks((1, 0, 0), (0, 1, 0))
    assert 0.05 < plain.mean() < 0.95
    assert (masks((-1, 0, 0), (0, 1, 0)) == plain[::-1]).all()
    assert (masks((1, 0, 0), (0, -1, 0)) == plain[:, ::-1]).all()
    assert (masks((0, -1, 0), (1, 0, 0)) == np.rot90(plain)).all()  # x' = -y, y' = x


def test_nothing_to_draw():
    assert not fill_areas(np.zeros((0, 2, 2)), GRID).any() and not draw_lines(np.zeros((0, 2, 2)), GRID, width=1).any()
    dot = draw_lines(line_segments(np.array([(0.25, 0.2), (0.25, 0.2)])), GRID, width=0.1)
    assert dot.sum() == 1  # a segment of no length is a dot


@pytest.mark.parametrize("bound", [(0, 1, 0.3), (1, 0, 0.5), (0, 1, 0), (0, 1), (0.0, 1.0, -0.5)])
def test_bounds_are_of_whole_cells(bound):
    with pytest.raises(ValueError, match=r"BEVGrid: y_bound must be \(first, last, cell size\) of whole cells, got"):
        BEVGrid((0, 1, 0.5), bound)
