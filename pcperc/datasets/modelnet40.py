# SPDX-License-Identifier: Apache-2.0
"""ModelNet40 as resampled points with normals: one category for each shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.cloud_files import check_normals, read_table
from pcperc.datasets.transformed import TransformedDataset, read_file
from pcperc.registry import DATASETS

CATEGORIES = (
    *("airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup", "curtain"),
    *("desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp", "laptop", "mantel"),
    *("monitor", "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa", "stairs", "stool"),
    *("table", "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox"),
)


@DATASETS.register_module()
class ModelNet40(TransformedDataset):
    """Shapes of one split, as docs/conventions.md lays samples out; never augments.

    ``<root>/modelnet40_<split>.txt`` lists names such as night_stand_0012, each of which is a file
    ``<root>/night_stand/night_stand_0012.txt`` of rows ``x,y,z,nx,ny,nz``, which stay as recorded; a normal that is
    longer than 1 is an error.

    Args:
        root: folder of the data set.
        split: train, test or another list of that name.
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    Attributes:
        tokens: the name of each sample.
    Raises:
        FileNotFoundError: the list of the split is missing. ValueError: it is empty or names an unknown category.
    """

    categories = CATEGORIES

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        test_mode: bool = False,
    ) -> None:
        super().__init__(split=split, transforms=transforms, test_mode=test_mode)
        self.root = Path(root)
        path = self.root / f"modelnet40_{split}.txt"
        self.tokens = read_file(path, "list").decode("utf-8", "replace").split()
        for token in self.tokens:
            if token.rpartition("_")[0] not in CATEGORIES:
                raise ValueError(f"ModelNet40: {path} names an unknown category in {token!r}")
        if not self.tokens:
            raise ValueError(f"ModelNet40: {path} must list shapes, but is empty")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def metainfo(self) -> dict:
        """What an evaluator needs to know of this data set."""
        return {"classes": CATEGORIES, "root": str(self.root), "split": self.split}

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms.

        Raises:
            IndexError: no such sample.
            FileNotFoundError, ValueError: a file is missing, empty or holds something else; the message names it.
        """
        index = self.check_index(index)
        token = self.tokens[index]
        category = token.rpartition("_")[0]
        path = self.root / category / f"{token}.txt"
        table = read_table(path, "shape", columns=6, delimiter=",", names=("x", "y", "z", "nx", "ny", "nz"))
        if len(table) == 0:
            raise ValueError(f"shape {path} must have at least one point, but is empty")
        check_normals(path, "shape", table[:, 3:6])
        return {
            "sample_token": token,
            "scene_name": category,
            "sample_index": index,
            "num_recorded_points": len(table),
            "points": table.astype(np.float32),
            "category": CATEGORIES.index(category),
        }
