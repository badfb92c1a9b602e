# SPDX-License-Identifier: Apache-2.0
"""Writes a simulated ShapeNet-Part root: one text file a shape, the table of categories and the lists of splits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcperc.simulation.data_set import SimulatedSet
from pcperc.simulation.shapes import belongings, furniture, vehicles
from pcperc.simulation.shapes.builder import Builder
from pcperc.simulation.shapes.solids import surface_points

# category: (folder, names of the parts in the order of their numbers, what builds it); numbers run on from one to the
# next
CATEGORIES = {
    "Airplane": ("02691156", ("body", "wing", "tail", "engine"), vehicles.airplane),
    "Bag": ("02773838", ("handle", "body"), belongings.bag),
    "Cap": ("02954340", ("panel", "peak"), belongings.cap),
    "Car": ("02958343", ("roof", "hood", "wheel", "body"), vehicles.car),
    "Chair": ("03001627", ("back", "seat", "leg", "arm"), furniture.chair),
    "Earphone": ("03261776", ("earphone", "headband", "wire"), belongings.earphone),
    "Guitar": ("03467517", ("head", "neck", "body"), belongings.guitar),
    "Knife": ("03624134", ("blade", "handle"), furniture.knife),
    "Lamp": ("03636649", ("base", "shade", "canopy", "stem"), furniture.lamp),
    "Laptop": ("03642806", ("keyboard", "screen"), furniture.laptop),
    "Motorbike": ("03790512", ("tank", "seat", "wheel", "handlebar", "light", "frame"), vehicles.motorbike),
    "Mug": ("03797390", ("handle", "cup"), furniture.mug),
    "Pistol": ("03948459", ("barrel", "handle", "trigger"), belongings.pistol),
    "Rocket": ("04099429", ("body", "fin", "nose"), vehicles.rocket),
    "Skateboard": ("04225987", ("wheel", "deck", "truck"), vehicles.skateboard),
    "Table": ("04379243", ("top", "leg", "support"), furniture.table),
}
POINTS = {"tiny": (100, 160), "small": (1000, 1300), "full": (2300, 2900)}  # least and most of a shape, by size
TURN, TILT, STRETCH = 0.12, 0.04, 0.08  # standard deviations of the pose, radians, and of the size along each axis
SPLITS = ("sim_train", "sim_val", "sim_test")
README = """Simulated data: no shapes of ShapeNet.

pcperc's part simulator built these shapes in the layout of ShapeNet-Part. The lists of the splits are there by the
names that all readers take and by names that begin with sim_; the names of the shapes begin with sim_ too.
simulation.json holds the settings.
"""


@dataclass(frozen=True)
class Settings(SimulatedSet):
    """What fixes a simulated data set bit for bit.

    Attributes:
        shapes: how many, at least 48: one of each of the 16 categories for each split. Categories take turns.
        size: "tiny", "small" or "full" (``POINTS``). seed: any integer >= 0.
    """

    kind = "shapes with parts in ShapeNet-Part format"
    parts = "shapes"
    generator = 1
    folder = "train_test_split"
    sizes = POINTS
    readme = README
    least, least_is = len(SPLITS) * len(CATEGORIES), "3 a category"

    shapes: int
    size: str
    seed: int

    def write_part(self, root: Path, index: int) -> int:
        """Build and write one shape; returns its number of points."""
        table, path = make_shape(self, index), root / f"{self.token(index)}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = (" ".join(f"{value:.6f}" for value in row) for row in table.tolist())
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return len(table)

    def finish(self, root: Path, results: dict[int, int]) -> None:
        """Write the lists of the splits and the table of categories."""
        lists = root / "train_test_split"
        lists.mkdir()
        for name, tokens in self.splits().items():
            text = json.dumps([f"shape_data/{token}" for token in tokens], indent=0)
            for listed in (name, name.removeprefix("sim_")):
                (lists / f"shuffled_{listed}_file_list.json").write_text(text + "\n", encoding="utf-8")
        rows = "".join(f"{name}\t{synset}\n" for name, (synset, _, _) in CATEGORIES.items())
        (root / "synsetoffset2category.txt").write_text(rows, encoding="utf-8")

    def token(self, index: int) -> str:
        """Return "<synset>/sim_<number>" of a shape."""
        return f"{CATEGORIES[category_of(index)][0]}/sim_{index:06d}"

    def splits(self) -> dict[str, list[str]]:
        """Return the shapes of each split: of each category a tenth, at least one, to validate, and a fifth to test."""
        found: dict[str, list[str]] = {name: [] for name in SPLITS}
        number = len(CATEGORIES)
        for category in range(number):
            own = list(range(category, self.shapes, number))
            val, test = max(len(own) // 10, 1), max(len(own) // 5, 1)
            for name, part in zip(SPLITS, (own[val + test :], own[:val], own[val : val + test]), strict=True):
                found[name] += [self.token(index) for index in part]
        return {name: sorted(tokens, key=lambda token: token.split("_")[1]) for name, tokens in found.items()}


def category_of(index: int) -> str:
    """Return the category of shape ``index``."""
    return tuple(CATEGORIES)[index % len(CATEGORIES)]


def make_shape(settings: Settings, index: int) -> np.ndarray:
    """Build shape ``index``: (N, 7) float64 ``[x, y, z, nx, ny, nz, part]``, y up, in a box of diagonal 1 around the
    origin.

    Depends on nothing but the arguments.
    """
    category = category_of(index)
    rng = np.random.default_rng([settings.seed, index, 7])
    _, names, build = CATEGORIES[category]
    builder = Builder(names, rng)
    build(builder)
    low, high = POINTS[settings.size]
    points, normals, parts = surface_points(builder.solids, int(rng.integers(low, high + 1)), rng)
    points, normals = _pose(points, normals, rng)
    low, high = points.min(0), points.max(0)
    points = (points - (low + high) / 2) / np.linalg.norm(high - low)
    first = sum(len(CATEGORIES[name][1]) for name in list(CATEGORIES)[: index % len(CATEGORIES)])
    return np.concatenate([points, normals, first + parts[:, None]], 1)


def _pose(points: np.ndarray, normals: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Stretch along the axes, then turn about y and tilt a little."""
    scale = np.exp(STRETCH * rng.standard_normal(3))
    turn, (tilt_x, tilt_z) = TURN * rng.standard_normal(), TILT * rng.standard_normal(2)
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt_x), -np.sin(tilt_x)], [0, np.sin(tilt_x), np.cos(tilt_x)]])
    about_z = np.array([[np.cos(tilt_z), -np.sin(tilt_z), 0], [np.sin(tilt_z), np.cos(tilt_z), 0], [0, 0, 1]])
    rotation = about_y @ about_x @ about_z
    normals = normals / scale
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return (points * scale) @ rotation.T, normals @ rotation.T
