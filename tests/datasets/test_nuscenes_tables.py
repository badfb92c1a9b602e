# SPDX-License-Identifier: Apache-2.0
"""Tables that are wrong, missing or cut short: the message names table, row and key. What is told of velocities."""

import json
import math
import shutil

import numpy as np
import pytest

from pcperc.datasets.nuscenes_record import _annotations
from pcperc.datasets.nuscenes_tables import NuScenesTables
from tests import nuscenes_root as tiny
from tests.datasets.nuscenes_helpers import prepare


def edit(root, table, change):
    path = root / tiny.VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        (
            "sample_annotation",
            lambda rows: rows[0].update(size=[0, 1, 1]),
            "annotation.json: 'size' must be 3 numbers > 0",
        ),
        ("sample_annotation", lambda rows: rows[1].update(size="abc"), "'size' must be 3 finite numbers, got abc"),
        ("sample_annotation", lambda rows: rows[1].update(size=[1, "b", 1]), "'size' must be 3 finite numbers"),
        ("sample_annotation", lambda rows: rows[1].update(translation=None), "'translation' must be 3 finite .* None"),
        ("sample_annotation", lambda rows: rows[1].update(translation=[1, math.nan, 2]), "'translation' must be 3 fin"),
        ("sample_annotation", lambda rows: rows[1].update(rotation=[2, 0, 0, 0]), "'rotation' must be a quaternion of"),
        (
            "sample_annotation",
            lambda rows: rows[1].update(num_lidar_pts=None),
            "'num_lidar_pts' must be a whole number",
        ),
        ("sample", lambda rows: rows[1].update(timestamp="noon"), "sample.json: 'timestamp' must be a whole .* 'noon'"),
        (
            "category",
            lambda rows: rows[8].update(name="vehicle.spaceship"),
            "category of annotation .*'vehicle.spaceship'",
        ),
        ("ego_pose", lambda rows: rows.clear(), "table ego_pose.json must have a row with token"),
        (
            "ego_pose",
            lambda rows: rows[0].update(rotation=[0, 0, 0, 0]),
            "row .* of table .*ego_pose.json: 'rotation' must be a quat",
        ),
        ("sample", lambda rows: rows[0].pop("next"), r"sample.json must have the keys \['next'\]"),
        ("sample_data", lambda rows: [r.update(is_key_frame=False) for r in rows], "must have a LIDAR_TOP key frame"),
        ("splits", lambda splits: splits.update(new=["sim-9999"]), "must name scenes of v1.0-tiny, got 'sim-9999'"),
        ("splits", lambda splits: splits.update(val=["sim-0000"]), "must not name a split 'val'"),
        ("splits", lambda splits: splits.clear(), "no scene of v1.0-tiny is in a split"),
    ],
)
def test_wrong_tables(copy, table, change, message):
    shutil.rmtree(copy / "pcperc")
    edit(copy, table, change)
    with pytest.raises(ValueError, match=message):
        prepare(copy)
    assert not list(copy.glob("pcperc/*/*.jsonl"))


@pytest.mark.parametrize("table", ["sample_data", "sample_annotation", "scene", "log"])
def test_missing_and_truncated_tables(copy, table):
    path = copy / tiny.VERSION / f"{table}.json"
    content = path.read_text()
    path.write_text(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"table .*{table}.json must be JSON, but cannot be read \(truncated\?\)"):
        prepare(copy)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"table .*v1.0-tiny/{table}.json is missing"):
        prepare(copy)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1.4, 1.5, 2.0),  # from the place before to the place after: 2.9 of at most 3 s
        (1.5, 1.6, math.nan),
        (1.4, None, 2.0),
        (None, 1.4, 2.0),
        (1.6, None, math.nan),
        (None, 1.6, math.nan),
        (None, None, math.nan),
    ],
)
def test_velocity_is_unknown_where_samples_are_far_apart(before, after, expected):
    """As the devkit: 1.5 s to one neighbour, 3 s between both."""
    times = {"now": 10.0} | ({"was": 10.0 - before} if before else {}) | ({"will": 10.0 + after} if after else {})
    tables = NuScenesTables.__new__(NuScenesTables)
    tables.sample = {name: {"timestamp": round(time * 1e6)} for name, time in times.items()}
    tables.annotation = {
        name: {"sample_token": name, "translation": [2 * time, -time, 0.0], "prev": "", "next": ""}
        for name, time in times.items()
    }
    now = tables.annotation["now"] | {"prev": "was" if before else "", "next": "will" if after else ""}
    np.testing.assert_allclose(tables.velocity(now), [expected, -expected / 2], rtol=1e-6)


@pytest.mark.parametrize(("lidar", "radar", "valid"), [(1, 0, True), (0, 1, True), (0, 0, False)])
def test_a_box_is_valid_that_any_sensor_saw(lidar, radar, valid):
    row = {"instance_token": "i", "num_lidar_pts": lidar, "num_radar_pts": radar}
    row |= {"translation": [1.0, 2, 3], "size": [1.0, 2, 3], "rotation": [1.0, 0, 0, 0]}
    tables = NuScenesTables.__new__(NuScenesTables)
    tables.annotations, tables.category_of = {"s": [row]}, {"i": "vehicle.car"}
    tables.velocity = lambda row: np.zeros(2)
    assert _annotations(tables, "s", np.eye(4))["valid"] == [valid]
