# SPDX-License-Identifier: Apache-2.0
"""Small ShapeNet-Part roots for tests, written by plain file operations."""

import json
from pathlib import Path

import numpy as np

# folder of the category, its part numbers, and how many shapes
CATEGORIES = {"02954340": ((6, 7), 3), "03797390": ((36, 37), 2), "02691156": ((0, 1, 2, 3), 1)}


def shape_of(seed: int, parts, count: int = 40) -> np.ndarray:
    """(N, 7) rows of a file: coordinates and normals of 5 digits, a part."""
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    table = np.concatenate([rng.uniform(-0.5, 0.5, (count, 3)), normals, rng.choice(parts, (count, 1))], 1)
    return table.round(5)


def write_shape(path: Path, table: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(" ".join(f"{value:f}" for value in row) + "\n" for row in table))


def write_list(root: Path, split: str, tokens: list[str]) -> None:
    path = root / "train_test_split" / f"shuffled_{split}_file_list.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([f"shape_data/{token}" for token in tokens]))


def write_root(root: Path) -> Path:
    """Shape number k of all, counted from 0, has seed k; the last one of each category is of the split val."""
    tokens, seed = {"train": [], "val": [], "test": []}, 0
    for synset, (parts, count) in CATEGORIES.items():
        for index in range(count):
            write_shape(root / synset / f"shape{index}.txt", shape_of(seed, parts))
            tokens["val" if index == count - 1 else "train"].append(f"{synset}/shape{index}")
            seed += 1
    for split, listed in tokens.items():
        write_list(root, split, listed)
    return root


def write_caps(root: Path, realdata: Path) -> Path:
    """The five real caps as files of the published layout, in the splits train and val alike."""
    caps, tokens = np.load(realdata / "shapenet_part" / "cap_val.npz"), []
    for index in range(5):
        table = np.concatenate([caps[f"pos_{index}"], caps[f"x_{index}"], caps[f"y_{index}"][:, None]], 1)
        tokens.append(f"02954340/cap{index}")
        write_shape(root / f"{tokens[-1]}.txt", table)
    for split in ("train", "val"):
        write_list(root, split, tokens)
    return root
