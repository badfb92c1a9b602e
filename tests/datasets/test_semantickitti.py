# SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI: what is read, both label conventions, and what is said of broken files."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pcperc.datasets import EpochSampler, SampleKey, SemanticKITTI, collate
from pcperc.datasets.label_map import LabelMap
from pcperc.datasets.semantickitti import SPLITS
from pcperc.datasets.semantickitti_labels import CLASSES, LABEL_MAPS, RECORDED_NAMES
from pcperc.transforms import LaserMix, PolarMix
from tests import semantickitti_root as tiny

# By name of the recorded class what each convention makes of it, from the published tables; moving ones follow.
EXPECTED = {
    "official": {"bus": "other-vehicle", "on-rails": "other-vehicle", "lane-marking": "road"},
    "spvnas": {"bus": None, "on-rails": None, "lane-marking": None},
}
NEVER_SCORED = ("unlabeled", "outlier", "other-structure", "other-object")
# The official convention number by number, as config/semantic-kitti.yaml of semantic-kitti-api has it (there from 1).
OFFICIAL = {
    **{0: 255, 1: 255, 10: 0, 11: 1, 13: 4, 15: 2, 16: 4, 18: 3, 20: 4, 30: 5, 31: 6, 32: 7, 40: 8, 44: 9, 48: 10},
    **{49: 11, 50: 12, 51: 13, 52: 255, 60: 8, 70: 14, 71: 15, 72: 16, 80: 17, 81: 18, 99: 255},
    **{252: 0, 253: 6, 254: 5, 255: 7, 256: 4, 257: 4, 258: 3, 259: 4},
}


@pytest.fixture
def root(tmp_path):
    return tiny.write_root(tmp_path / "kitti")


def expected_train_id(name: str, number: int) -> int:
    recorded = RECORDED_NAMES[number].replace("moving-", "")
    recorded = EXPECTED[name].get(recorded, recorded)
    return 255 if recorded is None or recorded in NEVER_SCORED else CLASSES.index(recorded)


def test_a_sample_has_what_the_files_have(root):
    data = SemanticKITTI(root=root, split="sim_train")
    assert len(data) == 4
    assert data.metainfo == {
        "classes": CLASSES,
        "root": str(root),
        "split": "sim_train",
        "label_map": "official",
    }
    sample = data[3]  # sequence 01, scan 1
    assert (sample["sample_token"], sample["scene_name"]) == ("01/000001", "01")
    assert sample["points"].dtype == np.float32
    np.testing.assert_array_equal(sample["points"][:, :4], tiny.scan_of(11))
    np.testing.assert_array_equal(sample["points"][:, 4], 0)
    classes, instances = tiny.labels_of(11)
    np.testing.assert_array_equal(sample["point_labels"], [expected_train_id("official", n) for n in classes])
    np.testing.assert_array_equal(sample["point_instances"], instances)
    assert sample["timestamp"] == pytest.approx(0.1)
    # The vehicle went 1.5 m forward, which is x of the LiDAR.
    expected = np.eye(4)
    expected[0, 3] = 1.5
    np.testing.assert_allclose(sample["ego2global"], expected, atol=1e-12)


def test_each_number_has_its_published_class():
    numbers = np.array(list(OFFICIAL))
    assert LABEL_MAPS["official"].to_train(numbers).tolist() == list(OFFICIAL.values())
    ignored = (13, 16, 60, 256, 257)  # by SPVNAS, whose classes have the same numbers
    expected = [255 if n in ignored else OFFICIAL[n] for n in OFFICIAL]
    assert LABEL_MAPS["spvnas"].to_train(numbers).tolist() == expected
    recorded = [10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]
    for label_map in LABEL_MAPS.values():
        assert label_map.to_recorded(np.arange(19)).tolist() == recorded


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_both_conventions(root, name):
    label_map = LABEL_MAPS[name]
    numbers = np.array(sorted(RECORDED_NAMES))
    assert len(numbers) == 34
    assert label_map.to_train(numbers).tolist() == [expected_train_id(name, n) for n in numbers]
    assert [RECORDED_NAMES[n] for n in label_map.to_recorded(np.arange(19))] == list(CLASSES)
    np.testing.assert_array_equal(label_map.to_train(label_map.to_recorded(np.arange(19))), np.arange(19))
    np.testing.assert_array_equal(label_map.to_recorded(np.array([255, 0])), [0, 10])
    data = SemanticKITTI(root=root, split="sim_val", label_map=name)
    np.testing.assert_array_equal(
        data.read_point_labels(0), [expected_train_id(name, n) for n in tiny.labels_of(20)[0]]
    )
    np.testing.assert_array_equal(data.read_point_labels(0), data[0]["point_labels"])


def test_official_splits():
    assert SPLITS["val"] == ("08",) and SPLITS["test"] == tuple(str(n) for n in range(11, 22))
    assert sorted(SPLITS["train"] + SPLITS["val"] + SPLITS["test"]) == [f"{n:02d}" for n in range(22)]
    assert sorted(SPLITS["train"] + SPLITS["val"]) == sorted(SPLITS["trainval"])


def test_a_sequence_without_labels_poses_or_times(root):
    folder = root / "sequences" / "02"
    for path in (*folder.glob("*.txt"), *folder.glob("labels/*")):
        path.unlink()
    (folder / "labels").rmdir()
    sample = SemanticKITTI(root=root, split="sim_val")[0]
    assert not {"point_labels", "point_instances", "ego2global", "timestamp"} & sample.keys()


def test_an_empty_scan_is_a_sample(root):
    tiny.write_scan(root / "sequences" / "02", 0, 7, count=0)
    data = SemanticKITTI(root=root, split="sim_val")
    batch = collate([data[0], data[1]])
    assert [len(points) for points in batch["inputs"]["points"]] == [0, tiny.NUM_POINTS]
    assert [len(sample["point_labels"]) for sample in batch["samples"]] == [0, tiny.NUM_POINTS]
    assert "draw_other" not in batch["samples"][0]


def test_the_other_sample_of_a_mix_follows_from_the_key_alone(root):
    def note(sample):
        other = sample["draw_other"]()
        return {**sample, "other": other["sample_token"], "then": sample["rng"].random()}

    data = SemanticKITTI(root=root, split="sim_train", transforms=[note])
    keys = [SampleKey(epoch, index, 0, 5) for epoch in range(5) for index in range(4)]
    seen = [(data[key]["other"], data[key]["then"]) for key in keys]
    assert seen == [(data[key]["other"], data[key]["then"]) for key in keys]
    assert len({token for token, _ in seen}) == 4 and len({number for _, number in seen}) == len(keys)


def test_mixed_scans_do_not_depend_on_the_workers(root):
    data = SemanticKITTI(root=root, split="sim_train", transforms=[LaserMix(), PolarMix(paste_labels=range(8))])
    sampler = EpochSampler(data, seed=3, repeats=2)
    runs = [DataLoader(data, 2, sampler=sampler, num_workers=n, collate_fn=collate) for n in (0, 2)]
    alone, shared = ([cloud for batch in loader for cloud in batch["inputs"]["points"]] for loader in runs)
    assert len(alone) == len(shared) == 8
    assert all(map(torch.equal, alone, shared))


def break_label_length(root):
    path = root / "sequences" / "02" / "labels" / "000000.label"
    path.write_bytes(path.read_bytes()[:-4])


def break_label_bytes(root):
    path = root / "sequences" / "02" / "labels" / "000000.label"
    path.write_bytes(path.read_bytes()[:-1])


def break_label_number(root):
    path = root / "sequences" / "02" / "labels" / "000000.label"
    labels = np.frombuffer(path.read_bytes(), "<u4").copy()
    labels[5] = 12 | 3 << 16
    path.write_bytes(labels.tobytes())


def break_scan_bytes(root):
    path = root / "sequences" / "02" / "velodyne" / "000000.bin"
    path.write_bytes(path.read_bytes()[:-3])


def put(row, column, value):
    def apply(root):
        path = root / "sequences" / "02" / "velodyne" / "000000.bin"
        points = np.frombuffer(path.read_bytes(), "<f4").reshape(-1, 4).copy()
        points[row, column] = value
        path.write_bytes(points.tobytes())

    return apply


def remove_label(root):
    (root / "sequences" / "02" / "labels" / "000000.label").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_label_length, r"label file .*02/labels/000000.label must have 60 labels, one a point, got 59"),
        (break_label_bytes, r"000000.label must hold uint32 \(4 bytes each\), got 239 bytes"),
        (break_label_number, r"000000.label: labels must be in the map 'official' .* got 12 at point 5 \(1 such"),
        (break_scan_bytes, r"scan .*02/velodyne/000000.bin must hold float32 rows of 4 .* got 957 bytes"),
        (put(7, 1, np.inf), r"000000.bin must have finite values .* got \[.*inf.*\] at point 7"),
        (put(8, 3, np.nan), r"000000.bin must have finite values .* at point 8"),
        (put(9, 0, 1e6), r"coordinates within 3000 m, got \[1000000.0, .* at point 9 \(1 such points\)"),
    ],
    ids=["label-length", "label-bytes", "label-number", "scan-bytes", "infinite", "nan", "huge"],
)
def test_broken_files_are_named(root, damage, message):
    damage(root)
    data = SemanticKITTI(root=root, split="sim_val")
    with pytest.raises(ValueError, match=message):
        data[0]
    data[1]


def test_missing_files_are_named(root):
    remove_label(root)
    with pytest.raises(FileNotFoundError, match="label file .*02/labels/000000.label is missing"):
        SemanticKITTI(root=root, split="sim_val")[0]
    with pytest.raises(FileNotFoundError, match="sequences/08/velodyne of split val is missing"):
        SemanticKITTI(root=root, split="val")
    with pytest.raises(ValueError, match=r"split must be one of .*sim_val.*got 'valid'"):
        SemanticKITTI(root=root, split="valid")
    with pytest.raises(ValueError, match="name must be one of official, spvnas, got 'own'"):
        SemanticKITTI(root=root, split="sim_val", label_map="own")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "splits.json must be JSON, but cannot be read"),
        ('{"sim_val": "02"}', "splits.json must be an object of lists of sequence names"),
        (
            '{"sim_val": ["02"], "val": ["02"]}',
            "splits.json must not name a split 'val', an official one's name",
        ),
        ('{"sim_val": []}', "split sim_val of .* must have scans, but has none"),
    ],
)
def test_broken_splits_are_named(root, text, message):
    (root / "splits.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        SemanticKITTI(root=root, split="sim_val")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("poses.txt", "1 0 0", "poses.txt must have rows of 12 numbers, got 3"),
        ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0", "must have a row for scan 000001, got 1"),
        ("poses.txt", "one", "poses.txt must hold numbers"),
        ("calib.txt", "P0: 1 2", "calib.txt must have a row 'Tr:'"),
        ("times.txt", "nan", "times.txt must hold finite numbers"),
    ],
)
def test_broken_motion_is_named(root, name, text, message):
    (root / "sequences" / "02" / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        SemanticKITTI(root=root, split="sim_val")[1]


def test_label_map_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="train ids must be in"):
        LabelMap("own", ("a",), {0: 1}, (0,))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 19\) or 255, got 19 in official"):
        LABEL_MAPS["official"].to_recorded(np.array([3, 19]))


def test_a_real_scan(realdata, tmp_path):
    (tmp_path / "sequences").mkdir()
    (tmp_path / "sequences" / "08").symlink_to(realdata / "semantickitti" / "seq08")
    sample = SemanticKITTI(root=tmp_path, split="val")[0]
    assert sample["points"].shape == (123_389, 5)
    assert 0 <= sample["points"][:, 3].min() and sample["points"][:, 3].max() <= 1
    counts = np.bincount(sample["point_labels"], minlength=256)
    # Counted in the file by recorded number: 544 cars and 990 moving ones, 20,975 points of road, ...
    assert counts[CLASSES.index("car")] == 544 + 990
    assert counts[CLASSES.index("person")] == 23 + 138
    assert counts[CLASSES.index("road")] == 20_975
    assert counts[255] == 4458 + 5 + 809 + 1652
    assert len(np.unique(sample["point_instances"])) == 12
