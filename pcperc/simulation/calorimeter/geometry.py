# SPDX-License-Identifier: Apache-2.0
"""The endcap: 52 sampling layers and the cells that each is read out by. Lengths in cm, energies in GeV.

Positions, cell sizes and the radii where they change follow the high-granularity calorimeter of CMS as
LLRCMS/HGCAL-FastShower describes it. Depths are round figures close to its technical design report
(CERN-LHCC-2017-023), not checked against it number by number, and spread evenly over the layers of a compartment:

| compartment | layers | z - 320 cm | X0 | interaction lengths | read out by |
|---|---|---|---|---|---|
| electromagnetic | 28 | 0.75 .. 30.4 | 27.7 | 1.5 | silicon hexagons |
| front hadronic | 12 | 36.33 .. 87.81 | 24 | 3.5 | silicon hexagons |
| back hadronic | 12 | 105.1 .. 200.8 | 46 | 5.0 | hexagons within 140 cm of the axis, tiles outside |

A hexagon has sides of 0.476 cm close to the beam (sensors of 100 um) and of 0.648 cm elsewhere; a tile is one degree
wide in azimuth and as long as it is wide. The edges of modules and gaps between them are not modelled.
"""

from __future__ import annotations

import math

import numpy as np

from pcperc.simulation.jit import cached_njit

LAYERS = 52
_COUNTS = (28, 12, 12)
COMPARTMENT = np.repeat(np.arange(3), _COUNTS)
_OFFSETS = ((0.75, 30.4), (36.33, 87.81), (105.1, 200.8))
LAYER_Z = 320.0 + np.concatenate([np.linspace(*ends, n) for ends, n in zip(_OFFSETS, _COUNTS, strict=True)])
# Depth behind each layer, so that layer i sees what is deposited between entries i and i + 1.
DEPTH_X0 = np.concatenate([[0.0], np.cumsum(np.repeat(np.array([27.7, 24.0, 46.0]) / _COUNTS, _COUNTS))])
DEPTH_LAMBDA = np.concatenate([[0.0], np.cumsum(np.repeat(np.array([1.5, 3.5, 5.0]) / _COUNTS, _COUNTS))])
# Mean loss of a minimum-ionising particle in a layer, absorber included: the unit "MIP" of thresholds and noise.
# 35 and 68 mm of steel at 11.4 MeV/cm; lead, tungsten and copper of the front part together 10.5 MeV a layer.
MIP_GEV = np.array([0.0105, 0.040, 0.078])[COMPARTMENT]

ETA_RANGE = (1.475, 3.0)
THICKNESS_RADII = np.array([[75.0, 120.0], [60.0, 100.0], [60.0, 100.0]])  # 100 | 200 | 300 um, by compartment
TILE_RADIUS = 140.0
SMALL, LARGE, TILE = 0, 1, 2
SIDES = np.array([0.476, 0.648])
TILE_ANGLE = math.radians(1.0)
_R0 = 10.0  # where rows of tiles are counted from
_BITS, _HALF = 20, 1 << 19

_SPAN = np.tan(2 * np.arctan(np.exp(-np.array(ETA_RANGE))))  # radius over z: largest, smallest
RADIUS_MAX, RADIUS_MIN = LAYER_Z * _SPAN[0], LAYER_Z * _SPAN[1]


@cached_njit
def region_of(compartment, radius):
    """Return which lattice reads a place: SMALL, LARGE or TILE."""
    if compartment == 2 and radius > TILE_RADIUS:
        return TILE
    return SMALL if radius < THICKNESS_RADII[compartment, 0] else LARGE


@cached_njit
def cell_of(layer, x, y):
    """Return the id of the cell that a point of a layer is in, or -1 outside the endcap.

    The id packs layer, lattice and the two indices on it. Hexagons stand on a corner; the nearest centre is found by
    rounding the three cube coordinates and correcting the one that was rounded most.
    """
    radius = math.hypot(x, y)
    if not RADIUS_MIN[layer] <= radius < RADIUS_MAX[layer]:
        return -1
    region = region_of(COMPARTMENT[layer], radius)
    if region == TILE:
        u = int(math.floor(math.log(radius / _R0) / TILE_ANGLE))
        v = int(math.floor((math.atan2(y, x) + math.pi) / TILE_ANGLE)) % 360
    else:
        side = SIDES[region]
        q = (math.sqrt(3.0) / 3.0 * x - y / 3.0) / side
        r = 2.0 / 3.0 * y / side
        qi, ri, si = round(q), round(r), round(-q - r)
        dq, dr, ds = abs(qi - q), abs(ri - r), abs(si + q + r)
        if dq > dr and dq > ds:
            qi = -ri - si
        elif dr > ds:
            ri = -qi - si
        u, v = int(qi), int(ri)
    return ((((layer << 2) | region) << _BITS | (u + _HALF)) << _BITS) | (v + _HALF)


@cached_njit
def cell_centres(cells):
    """Return the layers, (N,) int64, and the centres, (N, 3) float64, of cells by id."""
    layers = np.empty(len(cells), np.int64)
    centres = np.empty((len(cells), 3))
    for i in range(len(cells)):
        cell = cells[i]
        v = (cell & ((1 << _BITS) - 1)) - _HALF
        u = ((cell >> _BITS) & ((1 << _BITS) - 1)) - _HALF
        region = (cell >> (2 * _BITS)) & 3
        layer = cell >> (2 * _BITS + 2)
        if region == TILE:
            radius, angle = _R0 * math.exp((u + 0.5) * TILE_ANGLE), (v + 0.5) * TILE_ANGLE - math.pi
            x, y = radius * math.cos(angle), radius * math.sin(angle)
        else:
            x = SIDES[region] * math.sqrt(3.0) * (u + 0.5 * v)
            y = SIDES[region] * 1.5 * v
        layers[i] = layer
        centres[i, 0], centres[i, 1], centres[i, 2] = x, y, LAYER_Z[layer]
    return layers, centres


def thickness_index(radius: np.ndarray) -> np.ndarray:
    """Return 0, 1 or 2 for sensors of 100, 200 or 300 um at a distance from the beam in the front compartment."""
    return np.searchsorted(THICKNESS_RADII[0], radius, side="right")


def cells_by_ring() -> list[tuple[int, float, float, float]]:
    """Return (layer, inner radius, outer radius, number of cells) of every ring that one lattice reads."""
    rings = []
    for layer in range(LAYERS):
        compartment = COMPARTMENT[layer]
        edges = [RADIUS_MIN[layer], THICKNESS_RADII[compartment, 0], RADIUS_MAX[layer]]
        if compartment == 2:
            edges.insert(2, TILE_RADIUS)
        for inner, outer in zip(edges, edges[1:], strict=False):
            inner, outer = max(inner, RADIUS_MIN[layer]), min(outer, RADIUS_MAX[layer])
            if inner >= outer:
                continue
            region = region_of(compartment, (inner + outer) / 2)
            if region == TILE:
                count = 360 * math.log(outer / inner) / TILE_ANGLE
            else:
                count = math.pi * (outer**2 - inner**2) / (1.5 * math.sqrt(3.0) * SIDES[region] ** 2)
            rings.append((layer, inner, outer, count))
    return rings
