# SPDX-License-Identifier: Apache-2.0
"""nuScenes-lidarseg: labels beside the key sweeps, the devkit's classes, broken files."""

import json

import numpy as np
import pytest

from pcperc.datasets import NuScenesLidarSeg
from pcperc.datasets.nuscenes_index import index_path
from pcperc.datasets.nuscenes_lidarseg import CLASS_OF_CATEGORY, CLASSES
from tests import nuscenes_root as tiny

CATEGORIES = sorted(CLASS_OF_CATEGORY)  # any numbering may stand in the table


def labels_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, len(CATEGORIES), 320).astype(np.uint8)


@pytest.fixture
def root(copy):
    """A prepared root with labels: those of the n-th key sweep have the seed n."""
    tables = copy / tiny.VERSION
    rows = [{"token": f"c{i}", "name": name, "index": i} for i, name in enumerate(CATEGORIES)]
    (tables / "category.json").write_text(json.dumps(rows))
    folder = copy / "lidarseg" / tiny.VERSION
    folder.mkdir(parents=True)
    rows = []
    for row in json.loads((tables / "sample_data.json").read_text()):
        if row["is_key_frame"] and "LIDAR_TOP" in row["filename"]:
            name = f"lidarseg/{tiny.VERSION}/{row['token']}_lidarseg.bin"
            (copy / name).write_bytes(labels_of(len(rows)).tobytes())
            rows.append({"token": row["token"], "sample_data_token": row["token"], "filename": name})
    (tables / "lidarseg.json").write_text(json.dumps(rows))
    info = index_path(copy, tiny.VERSION, "sim_train").with_name("sim_train.info.json")
    content = json.loads(info.read_text())  # the archive replaces the table; preparing again would say so too
    content["tables"]["category"] = [(tables / "category.json").stat().st_size, 0]
    info.write_text(json.dumps(content))
    return copy


def open_root(root, **options):
    return NuScenesLidarSeg(root=root, version=tiny.VERSION, split="sim_train", **options)


def test_labels_belong_to_the_key_sweep(root):
    data = open_root(root)
    for number in range(len(data)):
        sample = data[number]
        assert sample["points"].shape == (320, 5) and sample["num_recorded_points"] == 320
        expected = [CLASS_OF_CATEGORY[CATEGORIES[label]] for label in labels_of(number)]
        expected = [255 if name is None else CLASSES.index(name) for name in expected]
        np.testing.assert_array_equal(sample["point_labels"], expected)
        assert data.label_path(number).name == f"{sample['lidar_token']}_lidarseg.bin"
        assert not {"boxes", "labels", "images"} & sample.keys()
    assert data.metainfo["classes"] == CLASSES


def test_classes_are_the_devkits():
    from nuscenes.eval.lidarseg.utils import LidarsegClassMapper

    devkit = LidarsegClassMapper.__new__(LidarsegClassMapper)
    devkit.ignore_class = devkit.get_ignore_class()
    expected = {k: None if v == "ignore" else v for k, v in devkit.get_fine2coarse().items()}
    assert expected == CLASS_OF_CATEGORY
    assert {name: i for name, i in devkit.get_coarse2idx().items() if i} == {n: i + 1 for i, n in enumerate(CLASSES)}


def test_a_version_without_labels(prepared):
    data = open_root(prepared)
    assert "point_labels" not in data[0] and data.label_path(0) is None and data.read_point_labels(0) is None


def test_broken_files_are_named(root):
    data = open_root(root)
    data.label_path(0).write_bytes(labels_of(0).tobytes()[:-1])
    with pytest.raises(ValueError, match=r"label file .*_lidarseg.bin must have 320 labels, one a point, got 319"):
        data[0]
    data.label_path(0).write_bytes(b"\xc8" * 320)
    with pytest.raises(ValueError, match=r"_lidarseg.bin: labels must be in the map 'lidarseg' .* got 200 at point 0"):
        data[0]
    data.label_path(0).unlink()
    with pytest.raises(FileNotFoundError, match=r"label file .*_lidarseg.bin is missing"):
        data[0]


def test_tables_of_an_older_archive_are_named(root):
    path = root / tiny.VERSION / "lidarseg.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"lidarseg.json must have a row of key sweep"):
        open_root(root)[0]
    table = root / tiny.VERSION / "category.json"
    size = table.stat().st_size
    table.write_text(table.read_text().replace('"index"', '"inedx"'))
    assert table.stat().st_size == size
    with pytest.raises(ValueError, match=r"category.json must have 'index', got .*lidarseg archive brings its own"):
        open_root(root)
    table.write_text(table.read_text().replace('"inedx"', '"index"').replace("animal", "animol"))
    with pytest.raises(ValueError, match="known categories, got 'animol'"):
        open_root(root)


def test_an_index_without_tokens_says_how_to_make_it_anew(root):
    path = index_path(root, tiny.VERSION, "sim_train")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["lidar"]["token"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match=r"prepare_data.py nuscenes --root .* --overwrite"):
        open_root(root)[0]
