# SPDX-License-Identifier: Apache-2.0
"""Simulated rooms: every class where it belongs, nothing outside or inside of things, files that the reader takes."""

import numpy as np
import pytest

from pcperc.datasets import S3DIS
from pcperc.datasets.room_labels import S3DIS_CLASSES
from pcperc.simulation.data_set import simulate
from pcperc.simulation.rooms import Settings
from pcperc.simulation.rooms.generate import CLASSES, room_of
from pcperc.simulation.rooms.plan import RoomPlan, Thing
from pcperc.simulation.rooms.room import _hidden
from pcperc.simulation.shapes.builder import Builder


def test_a_data_set_is_read_by_its_reader_and_repeats(tmp_path):
    assert CLASSES == S3DIS_CLASSES
    settings = Settings(6, "tiny", 2)
    assert simulate(tmp_path / "one", settings) and not simulate(tmp_path / "one", settings)
    data = S3DIS(root=tmp_path / "one", split="sim_val", block=None, test_mode=True)
    assert data.tokens == ["Area_5/sim_room_1"]
    assert len(S3DIS(root=tmp_path / "one", split="sim_train", block=None)) == 5
    sample, room = data[0], room_of(settings, 4)
    labels = np.array([CLASSES.index(name) for name in room.names])[room.thing]
    assert np.bincount(sample["point_labels"], minlength=13).tolist() == np.bincount(labels, minlength=13).tolist()
    recorded = sample["points"][:, :3] + sample["origin"]
    for got, made in ((recorded, room.xyz), (255 * sample["points"][:, 3:6], room.rgb)):
        np.testing.assert_allclose(np.sort(got, axis=0), np.sort(made, axis=0), atol=0.002)
    (tmp_path / "one" / "Area_5_sim_room_1.npy").unlink()  # the text alone says the same
    again = S3DIS(root=tmp_path / "one", split="sim_val", block=None, test_mode=True)[0]
    np.testing.assert_allclose(again["points"], sample["points"], atol=1e-4)
    blocks = S3DIS(root=tmp_path / "one", split="sim_train", test_mode=True)
    assert all(len(blocks[index]["points"]) > 0 for index in range(0, len(blocks), 7))
    assert (room_of(settings, 4).xyz == room.xyz).all() and (room_of(settings, 4).rgb == room.rgb).all()


def test_every_class_occurs_where_it_belongs():
    seen = set()
    for index in range(8):
        room = room_of(Settings(8, "tiny", 1), index)
        names = np.array(room.names)[room.thing]
        seen |= set(names.tolist())
        height, extent = room.xyz[:, 2], np.ptp(room.xyz, axis=0)
        assert (room.xyz.min(0) == 0).all() and (extent[:2] < 8.2).all() and 2.4 < extent[2] < 3.4
        assert height[names == "floor"].max() < 0.06 and height[names == "ceiling"].min() > extent[2] - 0.06
        edge = np.minimum(room.xyz[:, :2], extent[:2] - room.xyz[:, :2]).min(1)
        for name in ("wall", "window", "board", "door"):
            assert (edge[names == name] < 0.12).all(), name
        assert room.rgb.min() >= 0 and room.rgb.max() <= 255
    assert seen == set(CLASSES)


def test_points_inside_another_thing_are_hidden():
    def thing(name, centre, size):
        builder = Builder((name,), np.random.default_rng(0))
        builder.box(name, centre, size, pitch=0.3)
        return Thing(name, (0, 0, 0), builder.solids)

    table, box = thing("table", (0, 0, 0), (1, 1, 1)), thing("clutter", (5, 0, 0), (1, 1, 1))
    points = np.array([[5.0, 0, 0], [5, 0.9, 0], [0, 0, 0]])
    assert _hidden(points, table, [table, box]).tolist() == [True, False, False]


def test_solids_stay_inside_their_bounds():
    rng = np.random.default_rng(0)
    builder = Builder(("a",), rng)
    builder.box("a", (1, 2, 3), (2, 1, 0.5), pitch=0.4)
    builder.plate("a", [(0, 0), (0, 2), (3, 0)], 0.2, normal="x", at=1.0)
    builder.tube("a", (0, 0, 0), (1, 2, -1), 0.5, 0.1)
    builder.ball("a", (0, 1, 0), (1.0, 0.5, 0.25), pitch=1.0)
    builder.ring("a", (0, 0, 0), 1.0, 0.2, axis="y")
    for solid in builder.solids:
        points, _ = solid.draw_in_world(rng, 300)
        assert (np.abs(points - solid.middle) <= solid.reach + 1e-9).all()


def test_places_are_given_once():
    plan = RoomPlan(np.random.default_rng(0))
    assert plan.free(0.0, 0.0, 0.5) and not plan.free(0.6, 0.0, 0.5) and plan.free(1.2, 0.0, 0.5)
    assert not plan.free(plan.length / 2, 0.0, 0.1)


def test_refusals():
    for arguments, message in (
        ((5, "tiny", 0), "rooms must be an integer >= 6"),
        ((6, "huge", 0), "size must be one of tiny, small, full, got 'huge'"),
        ((6, "tiny", -1), "seed must be an integer >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Settings(*arguments)
