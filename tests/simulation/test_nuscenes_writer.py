# SPDX-License-Identifier: Apache-2.0
"""What the writer writes is what the devkit reads."""

import json

import numpy as np
import pytest

from pcperc.simulation.nuscenes_map import MapLayers
from pcperc.simulation.nuscenes_writer import TABLES, NuScenesWriter
from tests.nuscenes_root import CLASSES, SPLITS, VERSION, actor_box, fill_scene, sweep_points, write_tiny_root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_root(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def nusc(root):
    nuscenes = pytest.importorskip("nuscenes")
    return nuscenes.NuScenes(VERSION, str(root), verbose=False)


def test_devkit_reads_the_scenes(nusc):
    assert [scene["name"] for scene in nusc.scene] == ["sim-0000", "sim-0001"]
    for scene in nusc.scene:
        tokens, token = [], scene["first_sample_token"]
        while token:
            tokens.append(token)
            token = nusc.get("sample", token)["next"]
        assert len(tokens) == scene["nbr_samples"] == 3 and tokens[-1] == scene["last_sample_token"]
        assert all(len(nusc.get("sample", t)["data"]) == 7 for t in tokens)


def test_devkit_reads_points_and_boxes(nusc):
    sample = nusc.get("sample", nusc.scene[0]["first_sample_token"])
    path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
    np.testing.assert_array_equal(np.fromfile(path, np.float32).reshape(-1, 5), sweep_points(0))
    by_name = {box.name: box for box in boxes}
    assert len(boxes) == 12
    # LiDAR at ego (0.9, 0, 1.8) turned by -90 degrees: ego +x is LiDAR +y. The car starts 16 m ahead.
    np.testing.assert_allclose(by_name["vehicle.car"].center, [0, 15.1, 0.8 - 1.8], atol=1e-9)
    np.testing.assert_allclose(by_name["vehicle.car"].wlh, [2.0, 4.5, 1.6])


def test_devkit_chains_sweeps_and_books_them_under_the_next_sample(nusc):
    sample = nusc.get("sample", nusc.scene[0]["last_sample_token"])
    row = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    assert row["is_key_frame"] and row["filename"].startswith("samples/LIDAR_TOP/sim-0000")
    between = []
    while row["prev"]:
        row = nusc.get("sample_data", row["prev"])
        between.append(row)
    assert [r["is_key_frame"] for r in between] == [False] * 4 + [True] + [False] * 4 + [True]
    assert between[0]["sample_token"] == sample["token"]
    assert between[0]["filename"].startswith("sweeps/LIDAR_TOP/")


def test_devkit_derives_the_velocity(nusc):
    sample = nusc.get("sample", nusc.scene[0]["first_sample_token"])
    cars = [t for t in sample["anns"] if nusc.get("sample_annotation", t)["category_name"] == "vehicle.car"]
    np.testing.assert_allclose(nusc.box_velocity(cars[0])[:2], [0, 4], atol=1e-6)


def test_devkit_reads_the_images(nusc):
    import cv2

    sample = nusc.get("sample", nusc.scene[0]["first_sample_token"])
    path, _, intrinsic = nusc.get_sample_data(sample["data"]["CAM_BACK"])
    image = cv2.imread(path)[..., ::-1]
    assert image.shape == (18, 32, 3)
    np.testing.assert_allclose(image[5, 5].astype(int), [120, 100, 200], atol=4)
    assert intrinsic[0, 2] == 15.5


def test_devkit_reads_the_maps(root, nusc):
    pytest.importorskip("descartes")
    from nuscenes.map_expansion.map_api import NuScenesMap

    map_api = NuScenesMap(str(root), "boston-seaport")
    assert map_api.layers_on_point(102, 195)["ped_crossing"] == map_api.ped_crossing[0]["token"]
    assert map_api.layers_on_point(102, 195)["drivable_area"]
    assert not map_api.layers_on_point(10, 10)["drivable_area"]
    mask = nusc.map[0]["mask"]
    assert mask.is_on_mask([100.0, 10.0], [200.0, 10.0]).tolist() == [True, False]


def test_splits_and_tables(root):
    folder = root / VERSION
    assert json.loads((folder / "splits.json").read_text()) == {"sim_train": ["sim-0000"], "sim_val": ["sim-0001"]}
    assert {p.stem for p in folder.iterdir()} == {*TABLES, "splits"}
    for table in TABLES:
        tokens = [row["token"] for row in json.loads((folder / f"{table}.json").read_text())]
        assert len(tokens) == len(set(tokens)) > 0, table


def test_same_calls_give_the_same_bytes(root, tmp_path):
    again = write_tiny_root(tmp_path)
    files = sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for name in files:
        assert (root / name).read_bytes() == (again / name).read_bytes(), name


def test_interrupted_root_has_no_tables(tmp_path):
    with pytest.raises(RuntimeError, match="stopped"), NuScenesWriter(tmp_path, VERSION) as writer:
        scene = writer.new_scene("sim-0000", split="sim_train")
        fill_scene(scene, offset_us=0)
        writer.add_scene(scene)
        raise RuntimeError("stopped")
    assert (tmp_path / "samples/LIDAR_TOP").is_dir()
    assert not (tmp_path / VERSION).exists()


def test_existing_version_is_kept_unless_told_otherwise(tmp_path):
    write_tiny_root(tmp_path)
    with pytest.raises(FileExistsError, match="v1.0-tiny is already there"):
        NuScenesWriter(tmp_path, VERSION)
    NuScenesWriter(tmp_path, VERSION, overwrite=True)
    assert not (tmp_path / VERSION).exists()  # gone at once: a stopped rewrite must not look complete


def test_all_classes_are_in_the_split_that_is_scored(root):
    assert SPLITS[1] == "sim_val"
    categories = {row["token"]: row["name"] for row in json.loads((root / VERSION / "category.json").read_text())}
    instances = json.loads((root / VERSION / "instance.json").read_text())
    written = {categories[row["category_token"]] for row in instances}
    assert {category for category, _, _ in CLASSES.values()} <= written
    assert actor_box(0, "car", 1.0)[1] - actor_box(0, "car", 0.0)[1] == 4.0


BOX = [0, 0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t: s.add_sensor("SONAR_TOP", np.eye(4)), "channel must begin with LIDAR_"),
        (lambda s, t: s.add_sensor("CAM_X", np.eye(4)), "camera2image must be given for cameras"),
        (lambda s, t: s.add_sensor("LIDAR_X", np.diag([2.0, 1, 1, 1])), "sensor2ego must be a rigid"),
        (lambda s, t: s.add_sample(5), "timestamp must be after 10"),
        (lambda s, t: s.add_lidar("LIDAR_X", 20, np.eye(4), np.zeros((1, 5), np.float32)), "LIDAR_X is not declared"),
        (lambda s, t: s.add_lidar("LIDAR_TOP", 10, np.eye(4), np.zeros((1, 5), np.float32)), "must come after 10"),
        (lambda s, t: s.add_lidar("LIDAR_TOP", 20, np.eye(4), np.zeros((1, 4), np.float32)), r"got \(1, 4\) float32"),
        (lambda s, t: s.add_image("CAM_FRONT", 20, np.eye(4), b"no jpeg"), "do not decode"),
        (lambda s, t: s.add_image("CAM_FRONT", 20, np.eye(4), np.zeros((4, 4))), r"must be \(H, W, 3\) uint8"),
        (lambda s, t: s.add_annotation(t, "a", "vehicle.spaceship", BOX, num_lidar_pts=1), "category must be one of"),
        (lambda s, t: s.add_annotation("x", "a", "animal", BOX, num_lidar_pts=1), "sample must be one of"),
        (lambda s, t: s.add_annotation(t, "a", "animal", BOX, num_lidar_pts=1, visibility=0), "visibility must be"),
        (lambda s, t: s.add_annotation(t, "a", "animal", BOX, num_lidar_pts=1, attribute="x"), "attribute must be"),
        (lambda s, t: s.add_annotation(t, "a", "animal", [0, 0, 0, 0, 1, 1, 0], num_lidar_pts=1), "sizes > 0"),
    ],
)
def test_errors(tmp_path, call, message):
    scene = NuScenesWriter(tmp_path, VERSION).new_scene("s", split="sim_val")
    scene.add_sensor("LIDAR_TOP", np.eye(4))
    scene.add_sensor("CAM_FRONT", np.eye(4), np.eye(3))
    sample = scene.add_sample(10)
    scene.add_lidar("LIDAR_TOP", 10, np.eye(4), np.zeros((1, 5), np.float32), sample=sample)
    with pytest.raises(ValueError, match=message):
        call(scene, sample)


def test_errors_of_the_root(tmp_path):
    writer = NuScenesWriter(tmp_path, VERSION)
    with pytest.raises(ValueError, match="no scene was added"):
        writer.finish()
    scene = writer.new_scene("s", split="sim_val")
    with pytest.raises(ValueError, match="s has no sample"):
        writer.add_scene(scene)
    scene.add_sample(1)
    writer.add_scene(scene)
    with pytest.raises(ValueError, match="s was added before"):
        writer.add_scene(scene)
    with pytest.raises(ValueError, match=r"mask must be \(H, W\) uint8"):
        writer.set_map("boston-seaport", np.zeros((4, 4)))


def test_errors_of_map_layers():
    layers = MapLayers(canvas_edge=(10, 10))
    with pytest.raises(ValueError, match="layer must be one of drivable_area"):
        layers.add_polygon("river", [(0, 0), (1, 0), (1, 1)])
    with pytest.raises(ValueError, match="ring of walkway must be"):
        layers.add_polygon("walkway", [(0, 0), (1, 0)])
    with pytest.raises(ValueError, match="layer must be one of road_divider"):
        layers.add_line("walkway", [(0, 0), (1, 0)])
