# SPDX-License-Identifier: Apache-2.0
"""The map expansion as our reader sees it: against the devkit, moved with the points, and what is wrong with a file."""

import json
import math

import numpy as np
import pytest

from pcperc.datasets import MAP_CLASSES, NuScenesDataset, collate
from pcperc.datasets.nuscenes_map import expansion_path, read_vector_map
from pcperc.geometry import BEVGrid, VectorMap, rotation_z, transform_points
from pcperc.simulation.nuscenes_map import MapLayers
from pcperc.transforms import DrawMapMasks, GlobalScaleRotateTranslate, RandomFlip3D
from tests import oracles_map as oracle
from tests.datasets.nuscenes_helpers import prepare
from tests.nuscenes_root import VERSION, write_tiny_root

LOCATION = "boston-seaport"


def layers() -> MapLayers:
    """Overlapping areas, a hole, a car park with three corners, lines that leave a patch and come back."""
    made = MapLayers(canvas_edge=(300, 300))
    made.add_polygon(
        "drivable_area", [(70, 190), (140, 190), (140, 214), (70, 214)], [[(90, 195), (96, 195), (93, 205)]]
    )
    made.add_polygon("drivable_area", [(100, 150), (110, 150), (110, 230), (100, 230)])
    made.add_polygon("ped_crossing", [(100.3, 190.1), (104.2, 190.1), (104.2, 214.1), (100.3, 214.1)])
    made.add_polygon("walkway", [(70, 214), (140, 214), (140, 218), (70, 218)])
    made.add_polygon("stop_line", [(98.1, 190.2), (99.4, 190.2), (99.4, 202.1), (98.1, 202.1)])
    made.add_polygon("carpark_area", [(110, 170), (118, 160), (126, 184)])
    made.add_line("lane_divider", [(70, 196.3), (140, 196.3)])
    made.add_line("road_divider", [(60, 202), (100, 203), (170, 202), (170, 220), (60, 221)])
    return made


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = write_tiny_root(tmp_path_factory.mktemp("root"))
    content = layers().to_json()
    first, second = content["drivable_area"]
    first["polygon_tokens"] += second["polygon_tokens"]  # as published, one record has many areas
    expansion_path(out, LOCATION).write_text(json.dumps({**content, "drivable_area": [first]}))
    prepare(out)
    return out


def dataset(root, **options):
    options = {"num_sweeps": 0, "modalities": ("lidar",), "with_map": True, "split": "sim_val", **options}
    return NuScenesDataset(root=root, version=VERSION, **options)


def test_a_sample_has_masks_of_the_six_classes(root):
    data = dataset(root, transforms=[DrawMapMasks()])
    assert data.metainfo["map_classes"] == MAP_CLASSES
    sample = data[1]
    masks = sample["map_masks"]
    assert masks.shape == (6, 200, 200) and masks.dtype == bool and masks.any(axis=(1, 2)).all()
    batch = collate([sample, sample])
    assert batch["samples"][1]["map_masks"].shape == (6, 200, 200) and "vector_map" not in batch["samples"][0]
    assert "map_classes" not in dataset(root, with_map=False).metainfo


def test_masks_are_the_maps_seen_from_the_lidar(root):
    """By the oracle: holes stay open in their own area alone, dividers are 1.5 m wide."""
    grid = dict(x_bound=(-30.0, 30.0, 1.5), y_bound=(-20.0, 30.0, 1.25))
    sample = dataset(root, transforms=[DrawMapMasks(**grid)])[2]
    lidar2global = sample["ego2global"] @ sample["lidar2ego"]
    heading = math.atan2(lidar2global[1, 0], lidar2global[0, 0])
    content = layers().to_json()
    nodes = {row["token"]: (row["x"], row["y"]) for row in content["node"]}
    place = dict(x=lidar2global[0, 3], y=lidar2global[1, 3], heading=heading)

    def seen(tokens):
        return [oracle.seen_from(nodes[token], **place) for token in tokens]

    shapes = {row["token"]: row for kind in ("polygon", "line") for row in content[kind]}
    for mask, name in zip(sample["map_masks"], MAP_CLASSES, strict=True):
        areas, lines = [], []
        for layer in ("road_divider", "lane_divider") if name == "divider" else (name,):
            for row in content[layer]:
                if "line_token" in row:
                    lines.append(seen(shapes[row["line_token"]]["node_tokens"]))
                for token in row.get("polygon_tokens", [row.get("polygon_token")] * ("polygon_token" in row)):
                    holes = [seen(hole["node_tokens"]) for hole in shapes[token]["holes"]]
                    areas.append((seen(shapes[token]["exterior_node_tokens"]), holes))
        expected = oracle.mask(areas, lines, *grid.values(), width=1.5, margin=1e-6)
        assert any(expected.values())
        assert all(value is None or mask[cell] == value for cell, value in expected.items()), name


def test_masks_move_with_the_points(root):
    """What lies under a point before the augmentation lies under it after; mirrored, turned, scaled and shifted."""
    draw = DrawMapMasks(x_bound=(-60.0, 60.0, 0.25), y_bound=(-60.0, 60.0, 0.25))
    plain = dataset(root).read_sample(1)
    rng = np.random.default_rng(0)
    places = np.c_[rng.uniform(-35, 35, (4000, 2)), np.zeros((4000, 3))]
    before = draw(plain)["map_masks"]
    augment = [GlobalScaleRotateTranslate(), RandomFlip3D(flip_x_probability=1.0, flip_y_probability=0.0)]
    for seed in range(3):
        moved = {**plain, "rng": np.random.default_rng(seed)}
        for transform in augment:
            moved = transform(moved)
        after = draw(moved)["map_masks"]
        here, there = (
            draw.grid.to_index(points[:, :2]).round().astype(int)
            for points in (places, transform_points(places, moved["lidar_aug"]))
        )
        same = before[:, here[:, 0], here[:, 1]] == after[:, there[:, 0], there[:, 1]]
        assert same.mean() > 0.985, "but for points within a cell of an edge"
        wrong_way = before[:, here[:, 0], here[:, 1]] == before[:, there[:, 0], there[:, 1]]
        assert wrong_way.mean() < 0.9


def test_masks_are_drawn_where_the_whole_augmentation_leads():
    """By the oracle: a LiDAR that is mounted turned and off the axle; then mirrored, turned, scaled and shifted."""
    street = [[(-4.0, -9.0), (22.0, -6.0), (15.0, 16.0), (2.0, 7.0), (-9.0, 12.0)]]
    street += [[(1.0, -3.0), (4.0, -3.0), (2.0, 0.0)], [(6.0, 0.0), (10.0, 1.0), (7.0, 5.0)]]  # two holes
    line = [(-12.0, 3.0), (1.0, 2.0), (13.0, -11.0)]
    world = VectorMap("place", {"street": [[np.array(ring) for ring in street]]}, {"street": [np.array(line)]})
    ego, lidar = dict(x=3.0, y=1.5, heading=0.7), dict(x=0.9, y=0.3, heading=-1.5)
    ego2global, lidar2ego = (rotation_z(place["heading"]) for place in (ego, lidar))
    ego2global[:2, 3], lidar2ego[:2, 3] = (ego["x"], ego["y"]), (lidar["x"], lidar["y"])
    augment = dict(scale=1.2, mirror=True, turn=0.4, shift=(2.5, -1.5))
    lidar_aug = 1.2 * rotation_z(0.4) @ np.diag([-1.0, 1.0, 1.0, 1.0])
    lidar_aug[:, 3] = (2.5, -1.5, 0.3, 1.0)
    sample = {"vector_map": world, "ego2global": ego2global, "lidar2ego": lidar2ego, "lidar_aug": lidar_aug}

    def seen(places):
        return [oracle.seen_from(oracle.seen_from(place, **ego), **lidar, **augment) for place in places]

    bounds = dict(x_bound=(-15.0, 20.0, 0.5), y_bound=(-20.0, 15.0, 0.7))
    around, *holes = map(seen, street)
    expected = oracle.mask([(around, holes)], [seen(line)], *bounds.values(), width=1.2 * 0.8, margin=1e-6)
    mask = DrawMapMasks(**bounds, line_width=0.8)(sample)["map_masks"][0]
    assert 0.1 < mask.mean() < 0.9
    assert all(value is None or mask[cell] == value for cell, value in expected.items())


@pytest.mark.parametrize("index", range(3))
def test_devkit_draws_the_same_map(root, index):
    """As published but for cells at the border, where the devkit cuts shapes, and ties of OpenCV's lines, which depend
    on where a ring begins; exactly but for a cell at edges."""
    map_api = pytest.importorskip("nuscenes.map_expansion.map_api")
    sample = dataset(root).read_sample(index)
    lidar2global = sample["ego2global"] @ sample["lidar2ego"]
    exact, published = (DrawMapMasks(as_published=flag)(sample)["map_masks"] for flag in (False, True))
    # The road divider leaves the patch and comes back: there the devkit fails under Shapely 2.
    names = [*MAP_CLASSES[:5], "lane_divider"]
    turn = math.degrees(math.atan2(lidar2global[1, 0], lidar2global[0, 0]))
    patch = (*lidar2global[:2, 3], 100.0, 100.0)
    theirs = map_api.NuScenesMap(str(root), LOCATION).get_map_mask(patch, turn, names, (200, 200))
    theirs = theirs.transpose(0, 2, 1).astype(bool)
    inside = np.s_[3:-3, 3:-3]
    for name, a, b in zip(MAP_CLASSES[:5], published, theirs, strict=False):
        a, b = a[inside], b[inside]
        assert b.sum() > 20 and (a ^ b).sum() <= 0.05 * b.sum(), name
    for name, a, b in zip(MAP_CLASSES[:5], exact, theirs, strict=False):
        grown = [np.roll(np.pad(b, 2), (i, j), (0, 1))[2:-2, 2:-2] for i in range(-2, 3) for j in range(-2, 3)]
        assert not (a & ~np.any(grown, axis=0)).any(), f"{name}: something the devkit does not draw"
        assert not (np.all(grown, axis=0) & ~a)[inside].any(), f"{name}: inside of what it draws something missing"
    line = theirs[5][inside]
    published, exact = ((mask[5][inside] & line).sum() / line.sum() for mask in (published, exact))
    assert published > 0.99 and exact > 0.8


def test_line_width_is_the_devkits():
    """OpenCV draws 2 pixels some 3 wide: 1.5 m in cells of 0.5 m."""
    import cv2

    widths = []
    for angle in np.linspace(0, math.pi, 50):
        step = 70 * np.array([math.cos(angle), math.sin(angle)])
        mask = np.zeros((200, 200), np.uint8)
        cv2.polylines(mask, [np.array([100 - step, 100 + step]).astype(np.int32)], False, 1, 2)
        widths.append(mask.sum() / 140 * 0.5)
    assert np.mean(widths) == pytest.approx(DrawMapMasks().line_width, abs=0.05)


def changed(root, tmp_path, change):
    content = json.loads(expansion_path(root, LOCATION).read_text())
    change(content)
    path = expansion_path(tmp_path, LOCATION)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.pop("walkway"),
            r"map 'boston-seaport' must have the layer 'walkway', .*boston-seaport\.json has none",
        ),
        (lambda c: c.pop("lane_divider"), "must have the layer 'lane_divider'"),
        (lambda c: c.pop("node"), "must be a map expansion, but is not: KeyError"),
        (
            lambda c: c["node"][1].update(y=float("nan")),
            r"node .* of .*boston-seaport\.json must have finite x and y, got",
        ),
        (lambda c: c["polygon"].clear(), "of layer 'drivable_area' in .* must name what is in the file"),
        (lambda c: c["stop_line"][0].pop("polygon_token"), "row stop_line-000000 of layer 'stop_line'"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(root, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_vector_map(changed(root, tmp_path, change), LOCATION)


def test_missing_files_are_named(root, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"location 'atlantis' is missing, .*atlantis\.json; maps there: boston-"
    ):
        read_vector_map(root, "atlantis")
    with pytest.raises(FileNotFoundError, match="unpack the map expansion of the data set into maps/"):
        read_vector_map(tmp_path, LOCATION)
    path = expansion_path(tmp_path, LOCATION)
    path.parent.mkdir(parents=True)
    path.write_text('{"node": [')
    with pytest.raises(ValueError, match="must be a map expansion, but is not: JSONDecodeError"):
        read_vector_map(tmp_path, LOCATION)


def test_a_data_set_without_maps_says_so_before_training(tmp_path):
    out = write_tiny_root(tmp_path)
    prepare(out)
    expansion_path(out, LOCATION).unlink()
    with pytest.raises(FileNotFoundError, match=f"the map of location '{LOCATION}' is missing"):
        dataset(out)
    assert len(dataset(out, with_map=False)) == 3


def test_wrong_use_is_named():
    with pytest.raises(KeyError, match="DrawMapMasks: sample must have the key 'vector_map'"):
        DrawMapMasks()({"points": None})
    with pytest.raises(ValueError, match="DrawMapMasks: line_width must be > 0, got 0"):
        DrawMapMasks(line_width=0)


def test_empty_layers_are_empty_masks(tmp_path):
    path = expansion_path(tmp_path, LOCATION)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(MapLayers(canvas_edge=(10, 10)).to_json()))
    masks = read_vector_map(tmp_path, LOCATION).masks(np.eye(3), BEVGrid((0, 4, 1), (0, 4, 1)), line_width=1.5)
    assert masks.shape == (6, 4, 4) and not masks.any()
    empty = read_vector_map(tmp_path, LOCATION).masks_as_published(np.eye(3), BEVGrid((0, 4, 1), (0, 4, 1)))
    assert empty.shape == (6, 4, 4) and empty.dtype == bool and not empty.any()
