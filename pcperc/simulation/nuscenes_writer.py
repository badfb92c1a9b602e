# SPDX-License-Identifier: Apache-2.0
"""Writes a data set in the published nuScenes format: tables, sensor files, maps and custom splits.

The devkit and every reader of real nuScenes load the result unchanged. The version folder with the tables appears by
one rename at the very end, so a root whose writing was cut short does not look complete.

    with NuScenesWriter(root, "v1.0-sim") as writer:
        scene = writer.new_scene("sim-0000", split="sim_train", location="boston-seaport")
        scene.add_sensor("LIDAR_TOP", lidar2ego)
        sample = scene.add_sample(timestamp)
        scene.add_lidar("LIDAR_TOP", timestamp, ego2global, points, sample=sample)
        scene.add_annotation(sample, "actor 7", "vehicle.car", box, num_lidar_pts=12)
        writer.add_scene(scene)

A ``SceneWriter`` touches only its own files and its own lists: it may be filled in another process, sent back and
added. Tokens are hashes of names, so the same calls give the same bytes, in any order of scenes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from pcperc.simulation.nuscenes_map import LOCATIONS, MapLayers
from pcperc.simulation.nuscenes_scene import (
    ATTRIBUTES,
    CATEGORIES,
    VISIBILITY_LEVELS,
    SceneWriter,
    make_token,
    write_file,
)

TABLES = (
    "category",
    "attribute",
    "visibility",
    "instance",
    "sensor",
    "calibrated_sensor",
    "ego_pose",
    "log",
    "scene",
    "sample",
    "sample_data",
    "sample_annotation",
    "map",
)


class NuScenesWriter:
    """Writes a nuScenes root; see the module for an example.

    Args:
        root: folder of the data set, made where missing.
        version: name of the table folder, for example "v1.0-sim".
        overwrite: replace tables of that version. They are removed at once, so that an interrupted run leaves none.
    Raises:
        FileExistsError: the version is there and ``overwrite`` is False.
    """

    def __init__(self, root: str | Path, version: str, *, overwrite: bool = False) -> None:
        self.root, self.version = Path(root), version
        self.scenes: dict[str, SceneWriter] = {}
        self.maps: dict[str, tuple[np.ndarray, MapLayers | None]] = {}
        tables = self.root / version
        if tables.exists():
            if not overwrite:
                raise FileExistsError(f"NuScenesWriter: {tables} is already there; ask for overwriting or another root")
            shutil.rmtree(tables)
        self.root.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> NuScenesWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self.finish()

    def new_scene(
        self, name: str, *, split: str, location: str = LOCATIONS[0], log: str | None = None, description: str = ""
    ) -> SceneWriter:
        """Return an empty scene of a split; hand it to ``add_scene`` once it is filled.

        Args:
            name: unique; the file names begin with it.
            split: a custom split; splits.json lists the scenes of each.
            location: where the scene plays; NuScenesMap knows only ``LOCATIONS``.
            log: name of the drive that the scene was cut from; the scene's own name by default.
        """
        return SceneWriter(self.root, name, split=split, location=location, log=log or name, description=description)

    def add_scene(self, scene: SceneWriter) -> None:
        """Take the rows of a filled scene into the data set. Raises ValueError for a name met before or no sample."""
        if scene.name in self.scenes:
            raise ValueError(f"add_scene: {scene.name} was added before")
        if not scene.samples:
            raise ValueError(f"add_scene: {scene.name} has no sample")
        self.scenes[scene.name] = scene

    def set_map(self, location: str, mask: np.ndarray, layers: MapLayers | None = None) -> None:
        """Give a location its map.

        Args:
            location: as in ``new_scene``.
            mask: (H, W) uint8, 255 on drivable ground and 0 elsewhere, 0.1 m a pixel, the first row northernmost: the
                world point (x, y) is in column 10 x and row H - 10 y.
            layers: content of the expansion JSON; empty layers where None.
        """
        if mask.ndim != 2 or mask.dtype != np.uint8:
            raise ValueError(f"set_map: mask must be (H, W) uint8, got {mask.shape} {mask.dtype}")
        self.maps[location] = (mask, layers)

    def finish(self) -> Path:
        """Write maps, tables and splits.json; returns the version folder."""
        if not self.scenes:
            raise ValueError("NuScenesWriter: no scene was added")
        tables = {name: [] for name in TABLES}
        self._add_fixed_rows(tables)
        for name in sorted(self.scenes):
            _add_scene_rows(tables, self.scenes[name])
        self._write_maps(tables)
        partial = self.root / f".{self.version}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        splits: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self.scenes):
            splits[self.scenes[name].split].append(name)
        for name, content in {**tables, "splits": splits}.items():
            text = json.dumps(content, indent=0, allow_nan=False)
            (partial / f"{name}.json").write_text(text, encoding="utf-8")
        os.rename(partial, self.root / self.version)
        return self.root / self.version

    def _add_fixed_rows(self, tables: dict[str, list]) -> None:
        """Fill the tables that are the same for every data set, and those of sensors and logs."""
        tables["category"] = [_named("category", name) for name in CATEGORIES]
        tables["attribute"] = [_named("attribute", name) for name in ATTRIBUTES]
        tables["visibility"] = [
            {"token": str(key), "level": level, "description": ""} for key, level in VISIBILITY_LEVELS.items()
        ]
        scenes = self.scenes.values()
        channels = sorted({(channel, row["modality"]) for s in scenes for channel, row in s.sensors.items()})
        for channel, modality in channels:
            tables["sensor"].append({"token": make_token("sensor", channel), "channel": channel, "modality": modality})
        for log, location in sorted({(s.log, s.location) for s in scenes}):
            row = {"token": make_token("log", log, location), "logfile": log, "vehicle": "sim", "location": location}
            tables["log"].append({**row, "date_captured": "2000-01-01"})

    def _write_maps(self, tables: dict[str, list]) -> None:
        """Write the PNG and the expansion JSON of every location in use; a location without a map gets empty ones."""
        for location in sorted({s.location for s in self.scenes.values()}):
            mask, layers = self.maps.get(location, (np.zeros((8, 8), np.uint8), None))
            edge = (mask.shape[1] / 10, mask.shape[0] / 10)
            layers = layers or MapLayers(canvas_edge=edge)
            token = make_token("map", self.version, location)
            ok, png = cv2.imencode(".png", mask)
            if not ok:
                raise ValueError(f"set_map: the mask of {location} cannot be encoded as PNG")
            write_file(self.root / "maps" / f"{token}.png", png.tobytes())
            expansion = json.dumps(layers.to_json(), allow_nan=False).encode()
            write_file(self.root / "maps" / "expansion" / f"{location}.json", expansion)
            logs = [row["token"] for row in tables["log"] if row["location"] == location]
            row = {"token": token, "log_tokens": logs, "category": "semantic_prior", "filename": f"maps/{token}.png"}
            tables["map"].append(row)


def _add_scene_rows(tables: dict[str, list], scene: SceneWriter) -> None:
    """Append the rows of a scene, linking each chain by prev and next."""
    samples = scene.samples
    tables["scene"].append(
        {
            "token": scene.token,
            "name": scene.name,
            "description": scene.description,
            "log_token": make_token("log", scene.log, scene.location),
            "nbr_samples": len(samples),
            "first_sample_token": samples[0]["token"],
            "last_sample_token": samples[-1]["token"],
        }
    )
    tables["sample"] += _linked(samples)
    for row in scene.sensors.values():
        tables["calibrated_sensor"].append({key: value for key, value in row.items() if key != "modality"})
    tables["ego_pose"] += scene.ego_poses
    times = [row["timestamp"] for row in samples]
    for rows in scene.sample_data.values():
        for row in rows:
            if row["sample_token"] is None:  # in between: nuScenes books it under the sample that follows
                index = min(int(np.searchsorted(times, row["timestamp"])), len(samples) - 1)
                row.update(sample_token=samples[index]["token"])
        tables["sample_data"] += _linked(rows)
    order = {row["token"]: index for index, row in enumerate(samples)}
    for instance, rows in scene.annotations.items():
        rows = sorted(rows, key=lambda row: order[row["sample_token"]])
        tables["sample_annotation"] += _linked(rows)
        tables["instance"].append(
            {
                "token": make_token("instance", scene.name, instance),
                "category_token": make_token("category", scene.categories[instance]),
                "nbr_annotations": len(rows),
                "first_annotation_token": rows[0]["token"],
                "last_annotation_token": rows[-1]["token"],
            }
        )


def _linked(rows: list[dict]) -> list[dict]:
    """Return the rows with prev and next naming their neighbours."""
    tokens = ["", *(row["token"] for row in rows), ""]
    return [{**row, "prev": tokens[i], "next": tokens[i + 2]} for i, row in enumerate(rows)]


def _named(table: str, name: str) -> dict:
    return {"token": make_token(table, name), "name": name, "description": ""}
