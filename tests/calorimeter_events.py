# SPDX-License-Identifier: Apache-2.0
"""Small calorimeter events that need no simulator."""

from pathlib import Path

import numpy as np

from pcperc.geometry.calorimeter import hit_table


def made_event(rng: np.random.Generator, showers: int) -> dict[str, np.ndarray]:
    """Return an event of round clouds of hits, 20 each, and as many of noise."""
    centres = rng.uniform((-100, -100, 330), (100, 100, 500), (showers + 1, 3))
    instance = np.repeat(np.arange(showers + 1), 20) - 1
    spread = np.where(instance < 0, 40.0, 2.0)[:, None]
    xyz = centres[instance] + spread * rng.normal(size=(len(instance), 3))
    xyz[:, 2] = xyz[:, 2].clip(321, 520)
    energy = rng.exponential(1.0, len(instance))
    label = np.where(instance < 0, 0, 1 + instance % 2)
    return {"hits": hit_table(energy, xyz, np.full(len(xyz), -1.0)), "class": label, "instance": instance}


def write_arrays(path: Path, **arrays: np.ndarray) -> Path:
    """Write an npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def write_events(root: Path) -> dict:
    """Write two events for each split; return the options of a training that is over at once."""
    rng = np.random.default_rng(0)
    for split in ("sim_train", "sim_test", "sim_val"):
        for index in range(2):
            write_arrays(root / split / f"{index}.npz", **made_event(rng, 2))
    return {
        "data_root": str(root),
        "train_dataloader.batch_size": 2,
        "model.data_preprocessor.voxel_size": 4.0,
        **{f"{loader}_dataloader.num_workers": 0 for loader in ("train", "test")},
        **{f"{loader}_dataloader.persistent_workers": False for loader in ("train", "test")},
        **{f"{loader}_dataloader.pin_memory": False for loader in ("train", "test")},
    }
