# SPDX-License-Identifier: Apache-2.0
"""Rigid things made of primitives: built in their own frame (x forward, y left, z up), placed in the world."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from pcperc.simulation.driving.intersect import BOX, ELLIPSOID, FRUSTUM, WHEEL
from pcperc.simulation.driving.labels import UNLABELED

# How a camera paints a primitive (see shading.py).
MATTE, PAINT, GLASS, CABIN, WINDOW_BAND, FACADE, FOLIAGE, STRIPES, LAMP, BANDS, TYRE, SLATS = range(12)
# Reflectivity for the LiDAR: one distribution for every class and part, so that intensity tells no class.
REFLECTIVITY_MEDIAN, REFLECTIVITY_SPREAD = 0.20, 0.75


@dataclass(frozen=True)
class Primitives:
    """P primitives: geometry (P, 12) float64 (see intersect.py), kind and material (P,) int64, two colours (P, 3)
    float64 linear RGB in [0, 1], reflectivity (P,) float64, owner (P,) int64 (index of the actor, -1 background), label
    (P,) int64 (labels.py; 0 where the owner says what it is)."""

    geometry: np.ndarray
    kind: np.ndarray
    material: np.ndarray
    colour: np.ndarray
    accent: np.ndarray
    reflectivity: np.ndarray
    owner: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    @staticmethod
    def concatenate(parts: list[Primitives]) -> Primitives:
        """Join several sets; an empty list gives an empty set."""
        parts = parts or [Shape(np.random.default_rng(0)).build()]
        names = Primitives.__dataclass_fields__
        return Primitives(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})

    def place(self, x: float, y: float, z: float, yaw: float, owner: int = -1) -> Primitives:
        """Turn by ``yaw`` about z and move; the copies belong to ``owner``."""
        g = self.geometry.copy()
        c, s = math.cos(yaw), math.sin(yaw)
        g[:, 0], g[:, 1] = c * g[:, 0] - s * g[:, 1] + x, s * g[:, 0] + c * g[:, 1] + y
        g[:, 2] += z
        g[:, 6], g[:, 7] = c * g[:, 6] - s * g[:, 7], s * g[:, 6] + c * g[:, 7]
        return replace(self, geometry=g, owner=np.full(len(g), owner, np.int64))

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper corner (3,), (3,) of the tight box along the axes of the frame."""
        g = self.geometry
        half = g[:, 3:6].copy()
        tube = self.kind == FRUSTUM
        half[tube, 0] = half[tube, 1] = np.maximum(g[tube, 3], g[tube, 4])
        c, s = np.abs(g[:, 6]), np.abs(g[:, 7])
        turned = np.stack((c * half[:, 0] + s * half[:, 1], s * half[:, 0] + c * half[:, 1], half[:, 2]), -1)
        round_ = np.isin(self.kind, (FRUSTUM, ELLIPSOID)) & (half[:, 0] == half[:, 1])
        turned[round_] = half[round_]
        return (g[:, :3] - turned).min(0), (g[:, :3] + turned).max(0)


class Shape:
    """Collects primitives in the frame of one thing. Sizes are full sizes in metres, z is that of the lower side.

    Attributes:
        label: of what is added next (labels.py).
    """

    def __init__(self, rng: np.random.Generator, label: int = UNLABELED):
        self.rng, self.label = rng, label
        self.rows: list[tuple] = []

    def _add(self, kind, x, y, z, a, b, c, yaw, lean, porosity, material, colour, accent):
        g = [x, y, z, a, b, c, math.cos(yaw), math.sin(yaw), *lean, porosity]
        shine = REFLECTIVITY_MEDIAN * math.exp(REFLECTIVITY_SPREAD * self.rng.standard_normal())
        accent = colour if accent is None else accent
        self.rows.append((g, kind, material, tuple(colour), tuple(accent), min(shine, 1.0), self.label))

    def box(
        self,
        x,
        y,
        z,
        length,
        width,
        height,
        colour,
        *,
        material=MATTE,
        accent=None,
        yaw=0.0,
        lean=(0, 0, 0),
        porosity=0.0,
    ):
        """A box on z whose front, rear and sides lean inwards by ``lean`` metres per metre of height."""
        self._add(
            BOX, x, y, z + height / 2, length / 2, width / 2, height / 2, yaw, lean, porosity, material, colour, accent
        )

    def tube(self, x, y, z, bottom, top, height, colour, *, material=MATTE, accent=None):
        """An upright cylinder, or a cone where the two radii differ."""
        self._add(FRUSTUM, x, y, z + height / 2, bottom, top, height / 2, 0.0, (0, 0, 0), 0.0, material, colour, accent)

    def ball(self, x, y, z, length, width, height, colour, *, material=MATTE, yaw=0.0, porosity=0.0):
        """An ellipsoid on z."""
        self._add(
            ELLIPSOID,
            x,
            y,
            z + height / 2,
            length / 2,
            width / 2,
            height / 2,
            yaw,
            (0, 0, 0),
            porosity,
            material,
            colour,
            None,
        )

    def wheel(self, x, y, radius, width, *, colour=(0.03, 0.03, 0.03), accent=(0.3, 0.3, 0.3), porosity=0.0):
        """A wheel that stands on z = 0 and rolls along x."""
        self._add(WHEEL, x, y, radius, radius, width / 2, radius, 0.0, (0, 0, 0), porosity, TYRE, colour, accent)

    def build(self) -> Primitives:
        """Return what was collected."""
        if not self.rows:
            empty, none = np.zeros((0, 3)), np.zeros(0, np.int64)
            return Primitives(np.zeros((0, 12)), none, none, empty, empty, np.zeros(0), none, none)
        g, kind, material, colour, accent, shine, label = zip(*self.rows, strict=True)
        return Primitives(
            np.array(g, np.float64),
            np.array(kind, np.int64),
            np.array(material, np.int64),
            np.array(colour, np.float64),
            np.array(accent, np.float64),
            np.array(shine),
            np.full(len(kind), -1, np.int64),
            np.array(label, np.int64),
        )
