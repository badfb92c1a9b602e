# SPDX-License-Identifier: Apache-2.0
"""Simulated shapes: surfaces by their formulas, every part where it belongs, files that the reader takes."""

import hashlib
import math

import numpy as np
import pytest

from pcperc.datasets import ShapeNetPart, shapenet_part_labels
from pcperc.simulation.data_set import simulate
from pcperc.simulation.shapes import Settings
from pcperc.simulation.shapes.builder import Builder
from pcperc.simulation.shapes.generate import CATEGORIES, POINTS, _pose, category_of, make_shape
from pcperc.simulation.shapes.solids import surface_points


def solids(kind: str):
    builder = Builder(("a", "b"), np.random.default_rng(0))
    if kind == "box":
        builder.box("a", (1, 2, 3), (2, 1, 0.5), pitch=0.4)
    elif kind == "plate":
        builder.plate("a", [(0, 0), (0, 2), (3, 0)], 0.2, normal="x", at=1.0)  # clockwise too
    elif kind == "cone":
        builder.tube("a", (0, 0, 0), (1, 2, -1), 0.5, 0.1)
    elif kind == "ball":
        builder.ball("a", (0, 1, 0), (1.0, 0.5, 0.25))
    elif kind == "dome":
        builder.ball("a", (0, 0, 0), (1.0, 1.0, 1.0), above=0.0)
    else:
        builder.ring("a", (0, 0, 0), 1.0, 0.2, axis="y", start=0.0, end=math.pi)
    return builder.solids


AREAS = {
    "box": 2 * (2 * 1 + 2 * 0.5 + 1 * 0.5),
    "plate": 2 * 3 + 0.2 * (2 + 3 + math.hypot(2, 3)),
    "cone": math.pi * (0.5**2 + 0.1**2 + 0.6 * math.hypot(math.sqrt(6), 0.4)),
    "dome": 2 * math.pi,
    "ring": math.pi * 2 * math.pi * 0.2,
}


@pytest.mark.parametrize("kind", ["box", "plate", "cone", "ball", "dome", "ring"])
def test_surfaces(kind):
    """Areas are those of the formulas; a step along the normal leaves the solid, a step against it enters."""
    (solid,) = solids(kind)
    if kind in AREAS:
        assert solid.area == pytest.approx(AREAS[kind], rel=1e-3)
    points, normals, parts = surface_points([solid], 500, np.random.default_rng(1))
    assert points.shape == normals.shape == (500, 3) and (parts == 0).all()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-9)
    if kind != "dome":  # open shells have no inside
        steps = [solid.hides(points + sign * 1e-3 * normals) for sign in (-1, 1)]
        assert steps[0].mean() > 0.97 and not steps[1].any()
    else:
        assert points[:, 1].min() >= 0 and not solid.hides(points * 0.5).any()


def test_points_are_spread_evenly():
    """Of a cone with ends, each part of the surface gets its share; on a ring the outer half gets more."""
    points, _, _ = surface_points(solids("box"), 20000, np.random.default_rng(0))
    local = (points - [1, 2, 3]) @ np.array(
        [[math.cos(0.4), -math.sin(0.4), 0], [math.sin(0.4), math.cos(0.4), 0], [0, 0, 1]]
    )
    big = np.isclose(abs(local[:, 2]), 0.25)
    assert big.mean() == pytest.approx(4 / AREAS["box"], abs=0.015)
    ring = surface_points(solids("ring"), 20000, np.random.default_rng(0))[0]
    outer = np.hypot(ring[:, 0], ring[:, 2]) > 1
    assert outer.mean() == pytest.approx(0.5 + 0.2 / math.pi, abs=0.015)
    (cone,) = solids("cone")
    points, _ = cone.draw(np.random.default_rng(0), 20000)
    on_side = (points[:, 1] > 0) & (points[:, 1] < cone.length)
    # Along the side the density goes as the radius 0.5 - 0.4 h: the mean of h is (1/4 - 2/15) / (3/10).
    assert (points[on_side, 1] / cone.length).mean() == pytest.approx(0.3889, abs=0.006)
    assert on_side.mean() == pytest.approx(0.6 * cone.slant / (0.6 * cone.slant + 0.26), abs=0.015)
    (ball,) = solids("ball")  # of a flat ellipsoid the poles along its shortest axis have more than a sphere's
    assert (np.abs(ball.draw(np.random.default_rng(0), 20000)[0][:, 2]) > 0.125).mean() == pytest.approx(
        0.631, abs=0.02
    )


def test_what_is_inside_another_solid_is_not_seen():
    builder = Builder(("outer", "inner"), np.random.default_rng(0))
    builder.box("outer", (0, 0, 0), (2, 2, 2))
    builder.ball("inner", (1, 0, 0), (0.5, 0.5, 0.5))
    points, _, parts = surface_points(builder.solids, 2000, np.random.default_rng(0))
    assert points[parts == 1, 0].min() >= 1 - 1e-5  # half of the ball
    on_face = np.isclose(points[:, 0], 1) & (parts == 0)
    assert np.hypot(points[on_face, 1], points[on_face, 2]).min() > 0.5 - 1e-5  # the face where the ball stands out


def test_the_simulator_knows_the_published_numbers():
    assert list(CATEGORIES) == list(shapenet_part_labels.CATEGORIES)
    for name, (synset, parts, _) in CATEGORIES.items():
        assert synset == shapenet_part_labels.SYNSETS[name] and parts == shapenet_part_labels.PART_NAMES[name]


def test_every_part_of_every_category_occurs():
    settings, seen = Settings(160, "tiny", 0), {name: set() for name in CATEGORIES}
    for index in range(160):
        table = make_shape(settings, index)
        low, high = POINTS["tiny"]
        assert low <= len(table) <= high and np.isfinite(table).all()
        extent = table[:, :3].max(0) - table[:, :3].min(0)
        assert (
            np.linalg.norm(extent) == pytest.approx(1) and abs(table[:, :3].max(0) + table[:, :3].min(0)).max() < 1e-9
        )
        np.testing.assert_allclose(np.linalg.norm(table[:, 3:6], axis=1), 1, atol=1e-9)
        seen[category_of(index)] |= set(table[:, 6].astype(int))
    assert {name: tuple(sorted(parts)) for name, parts in seen.items()} == shapenet_part_labels.PARTS


def test_normals_stay_normal_under_the_pose():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(30, 3))
    normal = np.array([2.0, -1.0, 0.5]) / np.linalg.norm([2.0, -1.0, 0.5])
    flat -= (flat @ normal)[:, None] * normal
    points, normals = _pose(flat, np.tile(normal, (30, 1)), rng)
    np.testing.assert_allclose((points - points[0]) @ normals[0], 0, atol=1e-9)
    assert not np.allclose(normals[0], normal, atol=1e-3)


def test_a_data_set_is_read_by_its_reader_and_repeats(tmp_path):
    settings = Settings(48, "tiny", 3)
    assert simulate(tmp_path / "one", settings, workers=1)
    assert not simulate(tmp_path / "one", settings)  # kept
    with pytest.raises(FileExistsError, match="other settings"):
        simulate(tmp_path / "one", Settings(48, "tiny", 4))
    sizes = {}
    for split in ("sim_train", "sim_val", "sim_test", "train", "val", "test", "all"):
        data = ShapeNetPart(root=tmp_path / "one", split=split, test_mode=True)
        sizes[split] = len(data)
        assert len({data[index]["category"] for index in range(len(data))}) == 16
    assert sizes == dict.fromkeys(("sim_train", "sim_val", "sim_test", "train", "val", "test"), 16) | {"all": 48}
    data = ShapeNetPart(root=tmp_path / "one", split="all")
    index = data.tokens.index(settings.token(20))
    np.testing.assert_allclose(data[index]["points"], make_shape(settings, 20)[:, :6], atol=1e-6)
    simulate(tmp_path / "two", settings)
    digests = []
    for root in (tmp_path / "one", tmp_path / "two"):
        files = sorted(path for path in root.rglob("*") if path.is_file())
        digests.append([(path.relative_to(root), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert digests[0] == digests[1]


def test_refusals():
    for arguments, message in (
        ((47, "tiny", 0), "shapes must be an integer >= 48"),
        ((48, "huge", 0), "size must be one of tiny, small, full, got 'huge'"),
        ((48, "tiny", -1), "seed must be an integer >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Settings(*arguments)
