# SPDX-License-Identifier: Apache-2.0
"""Reads the map expansion of nuScenes (maps/expansion/<location>.json), without the devkit and without Shapely."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path

import numpy as np

from pcperc.geometry import VectorMap

# The classes of BEV map segmentation and the layers that each is made of, in the published order.
MAP_LAYERS = {
    "drivable_area": ("drivable_area",),
    "ped_crossing": ("ped_crossing",),
    "walkway": ("walkway",),
    "stop_line": ("stop_line",),
    "carpark_area": ("carpark_area",),
    "divider": ("road_divider", "lane_divider"),
}
MAP_CLASSES = tuple(MAP_LAYERS)
_LINE_LAYERS = ("road_divider", "lane_divider")


def expansion_path(root: str | Path, location: str) -> Path:
    """Return where the map of a location lies."""
    return Path(root) / "maps" / "expansion" / f"{location}.json"


@lru_cache(maxsize=8)
def read_vector_map(root: str | Path, location: str) -> VectorMap:
    """Return the map of a location by the classes of `MAP_LAYERS`; each process reads a file once.

    Raises:
        FileNotFoundError: there is no map expansion in the data set, or none of this location.
        ValueError: the file is no map expansion, or lacks a layer, a node is at no finite place, or a record names
            nodes that it lacks.
    """
    path = expansion_path(root, location)
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.json"))
        there = f"maps there: {', '.join(known)}" if known else "unpack the map expansion of the data set into maps/"
        raise FileNotFoundError(f"nuScenes: the map of location '{location}' is missing, {path}; {there}")
    try:
        content = json.loads(path.read_bytes())
        tables = {name: {row["token"]: row for row in content[name]} for name in ("node", "line", "polygon")}
        nodes = {token: (float(row["x"]), float(row["y"])) for token, row in tables["node"].items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"nuScenes: {path} must be a map expansion, but is not: {error!r}") from error
    for token, place in nodes.items():
        if not all(map(math.isfinite, place)):
            raise ValueError(f"nuScenes: node {token} of {path} must have finite x and y, got {place}")
    layers = [layer for names in MAP_LAYERS.values() for layer in names]
    missing = [layer for layer in layers if layer not in content]
    if missing:
        raise ValueError(f"nuScenes: map '{location}' must have the layer '{missing[0]}', {path} has none")
    areas, lines = {}, {}
    for name, layers in MAP_LAYERS.items():
        areas[name], lines[name] = [], []
        for layer in layers:
            for row in content[layer]:
                try:
                    if layer in _LINE_LAYERS:
                        lines[name] += _lines(row, tables["line"], nodes)
                    else:
                        areas[name] += _areas(row, tables["polygon"], nodes)
                except (KeyError, TypeError) as error:
                    where = f"row {row.get('token')} of layer '{layer}' in {path}"
                    raise ValueError(f"nuScenes: {where} must name what is in the file, {error!r} is not") from error
    return VectorMap(location, areas, lines)


def _areas(row: dict, polygons: dict, nodes: dict) -> list[list[np.ndarray]]:
    """Return the areas of one record, as rings; a ring of fewer than three corners encloses nothing."""
    tokens = row["polygon_tokens"] if "polygon_tokens" in row else [row["polygon_token"]]
    areas = []
    for polygon in (polygons[token] for token in tokens):
        around, *holes = (
            np.array([nodes[token] for token in corners])
            for corners in (polygon["exterior_node_tokens"], *(hole["node_tokens"] for hole in polygon["holes"]))
        )
        if len(around) >= 3:
            areas.append([around, *(hole for hole in holes if len(hole) >= 3)])
    return areas


def _lines(row: dict, lines: dict, nodes: dict) -> list[np.ndarray]:
    """Return the line of one record; one of no or one node is none."""
    points = [nodes[token] for token in lines[row["line_token"]]["node_tokens"]]
    return [np.array(points)] if len(points) >= 2 else []
