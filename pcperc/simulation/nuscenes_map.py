# SPDX-License-Identifier: Apache-2.0
"""The map expansion JSON of nuScenes: polygons and lines by layer, as the devkit's NuScenesMap reads them."""

from __future__ import annotations

import numpy as np

# NuScenesMap accepts these map names and no others.
LOCATIONS = ("singapore-onenorth", "singapore-hollandvillage", "singapore-queenstown", "boston-seaport")

POLYGON_LAYERS = (
    "drivable_area",
    "road_segment",
    "road_block",
    "lane",
    "ped_crossing",
    "walkway",
    "stop_line",
    "carpark_area",
    "lane_connector",
)
LINE_LAYERS = ("road_divider", "lane_divider", "traffic_light")

# What a record of a layer holds beside its token and its geometry; the devkit reads these keys without asking.
_EXTRA = {
    "road_segment": {"is_intersection": False, "drivable_area_token": ""},
    "road_block": {"from_edge_line_token": "", "to_edge_line_token": "", "road_segment_token": ""},
    "lane": {
        "lane_type": "CAR",
        "from_edge_line_token": "",
        "to_edge_line_token": "",
        "left_lane_divider_segments": [],
        "right_lane_divider_segments": [],
    },
    "ped_crossing": {"road_segment_token": ""},
    "stop_line": {
        "stop_line_type": "STOP_SIGN",
        "ped_crossing_tokens": [],
        "traffic_light_tokens": [],
        "road_block_token": "",
    },
    "carpark_area": {"orientation": 0.0, "road_block_token": ""},
    "road_divider": {"road_segment_token": None},
    "lane_divider": {"lane_divider_segments": []},
    "traffic_light": {"traffic_light_type": "VERTICAL", "from_road_block_token": "", "items": []},
}


class MapLayers:
    """Collects the layers of one location.

    Args:
        canvas_edge: width and height of the map in metres; coordinates run from (0, 0), the south-west corner.
    """

    def __init__(self, *, canvas_edge: tuple[float, float]) -> None:
        self.canvas_edge = (float(canvas_edge[0]), float(canvas_edge[1]))
        names = ("node", "line", "polygon", *POLYGON_LAYERS, *LINE_LAYERS)
        self._tables: dict[str, list[dict]] = {name: [] for name in names}

    def add_polygon(self, layer: str, exterior, holes=(), **fields) -> str:
        """Add an area to a layer.

        Args:
            layer: one of ``POLYGON_LAYERS``.
            exterior: (N >= 3, 2) corners in metres, not repeated at the end.
            holes: rings of the same form, cut out of the area.
            fields: further keys of the record, such as ``is_intersection=True`` for a road_segment.
        Returns:
            The token of the record.
        Raises:
            ValueError: unknown layer or malformed ring.
        """
        if layer not in POLYGON_LAYERS:
            raise ValueError(f"add_polygon: layer must be one of {', '.join(POLYGON_LAYERS)}, got {layer!r}")
        rings = [self._add_nodes(ring, at_least=3, what=f"ring of {layer}") for ring in (exterior, *holes)]
        polygon = {"exterior_node_tokens": rings[0], "holes": [{"node_tokens": ring} for ring in rings[1:]]}
        token = self._add("polygon", polygon)
        geometry = {"polygon_tokens": [token]} if layer == "drivable_area" else {"polygon_token": token}
        return self._add(layer, {**geometry, **_copy(_EXTRA.get(layer, {})), **fields})

    def add_line(self, layer: str, points, **fields) -> str:
        """Add a line of (N >= 2, 2) points in metres to one of ``LINE_LAYERS``; returns the token of the record."""
        if layer not in LINE_LAYERS:
            raise ValueError(f"add_line: layer must be one of {', '.join(LINE_LAYERS)}, got {layer!r}")
        nodes = self._add_nodes(points, at_least=2, what=f"line of {layer}")
        token = self._add("line", {"node_tokens": nodes})
        record = {"line_token": token, **_copy(_EXTRA[layer]), **fields}
        if layer == "lane_divider" and not record["lane_divider_segments"]:
            kind = "SINGLE_DASHED_WHITE"
            record["lane_divider_segments"] = [{"node_token": node, "segment_type": kind} for node in nodes]
        return self._add(layer, record)

    def to_json(self) -> dict:
        """Return the content of maps/expansion/<location>.json. Layers without records are empty lists."""
        fixed = {"version": "1.3", "canvas_edge": list(self.canvas_edge), "arcline_path_3": {}, "connectivity": {}}
        return {**fixed, **self._tables}

    def _add(self, table: str, record: dict) -> str:
        token = f"{table}-{len(self._tables[table]):06d}"
        self._tables[table].append({"token": token, **record})
        return token

    def _add_nodes(self, points, *, at_least: int, what: str) -> list[str]:
        points = np.asarray(points, np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < at_least or not np.isfinite(points).all():
            raise ValueError(f"MapLayers: {what} must be (N >= {at_least}, 2) finite, got shape {points.shape}")
        return [self._add("node", {"x": float(x), "y": float(y)}) for x, y in points]


def _copy(fields: dict) -> dict:
    """Copy one level, lists included, so that records never share a list."""
    return {key: list(value) if isinstance(value, list) else value for key, value in fields.items()}
