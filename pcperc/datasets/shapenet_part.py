# SPDX-License-Identifier: Apache-2.0
"""ShapeNet-Part, real or simulated: shapes of 16 categories with a part and a normal for each point."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.cloud_files import check_normals, read_table
from pcperc.datasets.shapenet_part_labels import CATEGORIES, CLASSES, PARTS, SYNSETS
from pcperc.datasets.transformed import TransformedDataset, read_file
from pcperc.registry import DATASETS

LISTS = "train_test_split/shuffled_{}_file_list.json"
ALL = "all"


@DATASETS.register_module()
class ShapeNetPart(TransformedDataset):
    """Shapes of one split in the published text layout, as docs/conventions.md lays samples out; never augments.

    ``<root>/<synset>/<shape>.txt`` has rows ``x y z nx ny nz part``; the lists of the splits are
    ``<root>/train_test_split/shuffled_<split>_file_list.json``, of names ``shape_data/<synset>/<shape>``. Coordinates
    and normals stay as recorded, as published readers leave them: some normals of the published files are shorter than
    1, or 0. Longer ones are an error. A shape whose points are all equal, or of one point, is a sample like any other.

    Args:
        root: folder of the data set.
        split: train, val, test or another list of that name; trainval is train and val; all takes every file there is.
        categories: names of `CATEGORIES` to keep; None keeps all. Their numbers do not change.
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    Attributes:
        tokens: "<synset>/<shape>" of each sample.
    Raises:
        FileNotFoundError: the list of the split is missing.
        ValueError: an unknown category, a malformed list, or a split without shapes.
    """

    classes = CLASSES

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        categories: Sequence[str] | None = None,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        test_mode: bool = False,
    ) -> None:
        super().__init__(split=split, transforms=transforms, test_mode=test_mode)
        self.root = Path(root)
        self.categories = tuple(CATEGORIES if categories is None else categories)
        unknown = [name for name in self.categories if name not in CATEGORIES]
        if unknown:
            raise ValueError(f"ShapeNetPart: categories must be of {', '.join(CATEGORIES)}, got {unknown[0]!r}")
        wanted = {SYNSETS[name] for name in self.categories}
        self.tokens = [token for token in list_shapes(self.root, split) if token.split("/")[0] in wanted]
        if not self.tokens:
            raise ValueError(f"ShapeNetPart: split {split} of {root} must have shapes of {self.categories}, has none")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def metainfo(self) -> dict:
        """What an evaluator needs to know of this data set."""
        return {
            "classes": self.classes,
            "categories": CATEGORIES,
            "parts": PARTS,
            "root": str(self.root),
            "split": self.split,
        }

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms.

        Raises:
            IndexError: no such sample.
            FileNotFoundError, ValueError: a file is missing, empty or holds something else; the message names it.
        """
        index = self.check_index(index)
        token = self.tokens[index]
        category = _CATEGORY_OF[token.split("/")[0]]
        points, parts = read_shape(self.root / f"{token}.txt", category=category)
        return {
            "sample_token": token,
            "scene_name": category,
            "sample_index": index,
            "num_recorded_points": len(points),
            "points": points,
            "point_labels": parts,
            "category": CATEGORIES.index(category),
        }


_CATEGORY_OF = {synset: category for category, synset in SYNSETS.items()}


def list_shapes(root: Path, split: str) -> list[str]:
    """Return "<synset>/<shape>" of each shape of a split, as `ShapeNetPart` takes them.

    Raises:
        FileNotFoundError: no list of that name. ValueError: a malformed list, or an unknown category in it.
    """
    if split == ALL:
        found = sorted(path for synset in _CATEGORY_OF for path in (root / synset).glob("*.txt"))
        return [f"{path.parent.name}/{path.stem}" for path in found]
    tokens = []
    for name in ("train", "val") if split == "trainval" else (split,):
        path = root / LISTS.format(name)
        if not path.is_file():
            known = [
                p.name.removeprefix("shuffled_").removesuffix("_file_list.json") for p in path.parent.glob("*.json")
            ]
            listed = ", ".join([*sorted(known), ALL])
            raise FileNotFoundError(f"ShapeNetPart: {path} of split {split!r} is missing (known: {listed})")
        try:
            names = json.loads(read_file(path, "list"))
        except ValueError as error:
            raise ValueError(f"ShapeNetPart: {path} must be JSON, but cannot be read: {error}") from error
        if not isinstance(names, list) or not all(isinstance(name, str) and name.count("/") >= 1 for name in names):
            raise ValueError(f"ShapeNetPart: {path} must be a list of names shape_data/<synset>/<shape>")
        for name in names:
            synset, shape = name.split("/")[-2:]
            if synset not in _CATEGORY_OF:
                raise ValueError(f"ShapeNetPart: {path} names an unknown category {synset} in {name!r}")
            tokens.append(f"{synset}/{shape}")
    return tokens


def read_shape(path: str | Path, *, category: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a shape: points (N, 6) float32 ``[x, y, z, nx, ny, nz]`` and parts (N,) int64, N >= 1.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no point, other than 7 finite numbers in a row, a normal that is longer than 1, or a part that the
            category does not have.
    """
    table = read_table(path, "shape", columns=7, names=("x", "y", "z", "nx", "ny", "nz", "part"))
    if len(table) == 0:
        raise ValueError(f"shape {path} must have at least one point, but is empty")
    check_normals(path, "shape", table[:, 3:6])
    parts = table[:, 6]
    wrong = parts[~np.isin(parts, PARTS[category])]
    if len(wrong):
        low, high = PARTS[category][0], PARTS[category][-1]
        raise ValueError(f"shape {path}: parts of a {category} must be {low} to {high}, got {wrong[0]:g}")
    return table[:, :6].astype(np.float32), parts.astype(np.int64)
