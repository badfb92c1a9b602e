# SPDX-License-Identifier: Apache-2.0
"""Maps of the simulated places: a drivable-area mask and the layers that nuScenes' map expansion has.

The scenes of a location lie on a square grid of tiles, far enough apart that no scene sees another's streets.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from pcperc.simulation.driving.ground import (
    CORNER_RADIUS,
    CROSSING_FAR,
    CROSSING_NEAR,
    PAVEMENT_WIDTH,
    STOP_LINE,
    STOP_LINE_WIDTH,
)
from pcperc.simulation.driving.road import Road
from pcperc.simulation.nuscenes_map import MapLayers

TILE = 320.0
REACH = 130.0  # metres of street on each side of a scene's start that are mapped
STEP = 4.0


def tile_centre(index: int) -> tuple[float, float]:
    """Return the world x, y of tile ``index``; tiles fill growing squares, whatever their number."""
    ring = math.isqrt(index)
    rest = index - ring * ring
    column, row = (ring, rest) if rest <= ring else (2 * ring - rest, ring)
    return (column + 0.5) * TILE, (row + 0.5) * TILE


def canvas_edge(tiles: int) -> float:
    """Return the side in metres of the map of a location with that many tiles."""
    return max(math.isqrt(max(tiles - 1, 0)) + 1, 1) * TILE


def strip(road: Road, s0: float, s1: float, d0: float, d1: float, *, cross: bool = False) -> np.ndarray:
    """Return the outline (N, 2) of the part of a road between two places along it and two offsets."""
    s = np.linspace(s0, s1, max(int(math.ceil(abs(s1 - s0) / STEP)) + 1, 2))
    place = road.cross_to_world if cross else road.to_world
    right, left = place(s, np.full_like(s, d0)), place(s[::-1], np.full_like(s, d1))
    return np.stack([np.concatenate([right[k], left[k]]) for k in (0, 1)], -1)


def line(road: Road, s0: float, s1: float, d: float, *, cross: bool = False) -> np.ndarray:
    """Return points (N, 2) along a road at offset ``d``."""
    s = np.linspace(s0, s1, max(int(math.ceil(abs(s1 - s0) / STEP)) + 1, 2))
    return np.stack((road.cross_to_world if cross else road.to_world)(s, np.full_like(s, d))[:2], -1)


def _arms(road: Road):
    """The four arms of the junction as (cross road?, start, end, half width, lanes); s is relative to the road."""
    c, w = road.cross_half_width, road.half_width
    yield False, -REACH, road.cross_at - c, w, road.lanes
    yield False, road.cross_at + c, REACH, w, road.lanes
    yield True, -REACH, -w, c, road.cross_lanes
    yield True, w, REACH, c, road.cross_lanes


def carpark_outline(lot) -> np.ndarray:
    """Return the corners (4, 2) of a car park."""
    x, y, a, b, yaw = lot
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([(x + c * u - s * v, y + s * u + c * v) for u, v in ((a, b), (-a, b), (-a, -b), (a, -b))])


def _corner(road: Road, along: int, aside: int) -> np.ndarray:
    """Return the rounded corner between two arms of the junction: the square corner without a quarter circle."""
    c, w, r = road.cross_half_width, road.half_width, CORNER_RADIUS
    angle = np.linspace(0, math.pi / 2, 7)
    s = np.concatenate([[c], c + r - r * np.sin(angle)])
    d = np.concatenate([[w], w + r - r * np.cos(angle)])
    return np.stack(road.to_world(road.cross_at + along * s, aside * d)[:2], -1)


def drivable_outlines(road: Road) -> list[np.ndarray]:
    """Return the polygons that make up the drivable ground of a scene."""
    w, c = road.half_width, road.cross_half_width
    outlines = [strip(road, -REACH, REACH, -w, w), strip(road, -REACH, REACH, -c, c, cross=True)]
    outlines += [_corner(road, along, aside) for along in (-1, 1) for aside in (-1, 1)]
    return outlines + [carpark_outline(lot) for lot in road.carparks]


def add_layers(layers: MapLayers, road: Road) -> None:
    """Add the streets of one scene to the map of its location."""
    for outline in drivable_outlines(road):
        layers.add_polygon("drivable_area", outline)
    for lot in road.carparks:
        layers.add_polygon("carpark_area", carpark_outline(lot), orientation=float(lot[4]))
    c, w = road.cross_half_width, road.half_width
    junction = strip(road, road.cross_at - c, road.cross_at + c, -w, w)
    layers.add_polygon("road_segment", junction, is_intersection=True)
    for cross, start, end, half, lanes in _arms(road):
        _add_arm(layers, road, cross, start, end, half, lanes)


def _add_arm(layers: MapLayers, road: Road, cross: bool, start: float, end: float, half: float, lanes: int) -> None:
    """Add what lies along one arm: segment, blocks, lanes, dividers, pavements, crossing and stop line."""
    segment = layers.add_polygon("road_segment", strip(road, start, end, -half, half, cross=cross))
    edge = end if (end < road.cross_at if not cross else end < 0) else start  # where the arm meets the junction
    way = -1.0 if edge == end else 1.0
    near, far = edge + way * CROSSING_NEAR, edge + way * CROSSING_FAR
    crossing = strip(road, min(near, far), max(near, far), -half, half, cross=cross)
    crossing_token = layers.add_polygon("ped_crossing", crossing, road_segment_token=segment)
    width = lanes * road.lane_width
    # The lanes that run towards the junction: right of the centre line before it, left of it after it.
    side = (-width, 0.0) if way < 0 else (0.0, width)
    # As in nuScenes the area is more than the paint: from the crossing to the far edge of the line.
    s0, s1 = sorted((far, edge + way * (STOP_LINE + STOP_LINE_WIDTH)))
    layers.add_polygon(
        "stop_line",
        strip(road, s0, s1, *side, cross=cross),
        stop_line_type="PED_CROSSING",
        ped_crossing_tokens=[crossing_token],
    )
    for sign in (-1, 1):
        block = sorted((0.0, sign * half))
        layers.add_polygon("road_block", strip(road, start, end, *block, cross=cross), road_segment_token=segment)
        pavement = sorted((sign * half, sign * (half + PAVEMENT_WIDTH)))
        layers.add_polygon("walkway", strip(road, start, end, *pavement, cross=cross))
        for i in range(lanes):
            bounds = sorted((sign * i * road.lane_width, sign * (i + 1) * road.lane_width))
            layers.add_polygon("lane", strip(road, start, end, *bounds, cross=cross))
            if i:
                layers.add_line("lane_divider", line(road, start, end, sign * i * road.lane_width, cross=cross))
    layers.add_line("road_divider", line(road, start, end, 0.0, cross=cross), road_segment_token=segment)


def draw_mask(roads: list[Road], edge: float) -> np.ndarray:
    """Draw the drivable ground of a location: uint8, 255 on it, 0.1 m a pixel, the first row northernmost."""
    size = int(round(edge * 10))
    mask = np.zeros((size, size), np.uint8)
    for road in roads:
        for outline in drivable_outlines(road):
            pixels = np.stack((outline[:, 0] * 10, size - outline[:, 1] * 10), -1)
            cv2.fillPoly(mask, [np.round(pixels).astype(np.int32)], 255)
    return mask
