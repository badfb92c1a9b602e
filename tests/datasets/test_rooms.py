# SPDX-License-Identifier: Apache-2.0
"""Rooms of S3DIS and ScanNet: files of every layout, blocks, and what is said of broken ones."""

import os
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.datasets import S3DIS, S3DISBlocks, ScanNet, collate, prepare_s3dis
from pcperc.datasets.room_labels import S3DIS_CLASSES, SCANNET_CLASSES, SCANNET_NUMBERS
from pcperc.datasets.rooms import Room, RoomBlocks


def room_of(seed: int, count: int = 200) -> np.ndarray:
    """(N, 7) rows: a room of 4 x 3 x 2.5 m somewhere, colours, classes."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([10, -5, 1], [14, -2, 3.5], (count, 3)).round(3)
    return np.concatenate([xyz, rng.integers(0, 256, (count, 3)), rng.integers(0, 13, (count, 1))], 1)


def write_text(root, name: str, table: np.ndarray, *, other: str | None = None) -> None:
    folder = root / name / "Annotations"
    folder.mkdir(parents=True)
    for number in np.unique(table[:, 6]).astype(int):
        rows = table[table[:, 6] == number, :6]
        kind = other if other and number == 12 else S3DIS_CLASSES[number]
        text = "".join(f"{x:.3f} {y:.3f} {z:.3f} {r:.0f} {g:.0f} {b:.0f}\n" for x, y, z, r, g, b in rows)
        (folder / f"{kind}_1.txt").write_text(text)


@pytest.fixture
def root(tmp_path):
    """Text in areas 1 and 5, an array in area 2."""
    write_text(tmp_path, "Area_1/office_1", room_of(1))
    np.save(tmp_path / "Area_2_hallway_3.npy", room_of(2).astype(np.float32))
    write_text(tmp_path, "Area_5/WC_1", room_of(5), other="stairs")
    return tmp_path


def test_rooms_of_either_layout(root):
    train = S3DIS(root=root, split="train", block=None, test_mode=True)
    val = S3DIS(root=root, split="val", block=None, test_mode=True)
    assert train.tokens == ["Area_1/office_1", "Area_2/hallway_3"] and val.tokens == ["Area_5/WC_1"]
    assert S3DIS(root=root, split="sim_val", test_area=2, block=None).tokens == ["Area_2/hallway_3"]
    for data, index, seed in ((train, 0, 1), (train, 1, 2), (val, 0, 5)):
        sample, table = data[index], room_of(seed)
        recorded = sample["points"][:, :3] + sample["origin"]
        order, wanted = np.lexsort(recorded.round(3).T), np.lexsort(table[:, :3].T)
        np.testing.assert_allclose(recorded[order], table[wanted, :3], atol=2e-6)
        np.testing.assert_allclose(255 * sample["points"][order, 3:6], table[wanted, 3:6], atol=1e-4)
        np.testing.assert_array_equal(sample["point_labels"][order], table[wanted, 6])
        assert sample["points"].dtype == np.float32 and sample["points"][:, 6:].min() == 0
        assert sample["points"][:, 6:].max() == 1 and sample["points"][:, 2].min() == 0
        assert abs(sample["points"][:, :2].max(0) + sample["points"][:, :2].min(0)).max() < 1e-5
    assert collate([train[0], train[1]])["inputs"]["points"][1].shape == (200, 9)


class OneRoom(RoomBlocks):
    classes = S3DIS_CLASSES

    def __init__(self, xyz, block):
        super().__init__(split="val", test_mode=True)
        self.root, self.rooms, self.xyz = "memory", ["room"], xyz
        self.lay_blocks(block)

    def read_room(self, name):
        return Room(self.xyz, np.zeros_like(self.xyz), np.zeros(len(self.xyz), np.int64))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from([0.3, 1.0, 1.5, 100.0]))
def test_every_point_is_in_two_blocks(seed, count, block):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-3, 3, (count, 3)) if seed % 3 else np.repeat(rng.uniform(-3, 3, (1, 3)), count, 0)
    data = OneRoom(xyz, block)
    times = np.zeros(count, int)
    for index in range(len(data)):
        sample = data[index]
        assert len(sample["points"]) > 0 and np.isfinite(sample["points"]).all()
        assert abs(sample["points"][:, :2]).max() <= block / 2 + 1e-6
        np.testing.assert_allclose(sample["points"][:, :3] + sample["origin"], xyz[sample["room_index"]], atol=1e-5)
        assert sample["num_room_points"] == count
        times[sample["room_index"]] += 1
    assert (times == 2).all()


def test_a_block_by_hand():
    xyz = np.array([[0.0, 0, 0], [0.9, 0.9, 1], [1.1, 0.1, 2]])
    data = OneRoom(xyz, 1.0)
    assert data.tokens == ["room:0_0_0", "room:0_1_0", "room:1_0_0", "room:1_1_0", "room:1_1_1"]
    assert [data[index]["room_index"].tolist() for index in range(5)] == [[0, 1], [2], [0], [2], [1]]
    np.testing.assert_allclose(data[1]["points"][0], [-0.4, -0.4, 2, 0, 0, 0, 1, 0.1 / 0.9, 1], atol=1e-6)
    np.testing.assert_allclose(data[4]["origin"], [1.0, 1.0, 0])


def test_prepared_rooms_are_the_same(root):
    before = {t: S3DIS(root=root, split="train", block=None)[i] for i, t in enumerate(("office_1", "hallway_3"))}
    assert [path.name for path in prepare_s3dis(root)] == ["Area_1_office_1.npy", "Area_5_WC_1.npy"]
    assert prepare_s3dis(root) == []
    after = S3DIS(root=root, split="train", block=None)[0]
    np.testing.assert_allclose(after["points"], before["office_1"]["points"], atol=1e-5)
    text = min((root / "Area_1/office_1/Annotations").glob("*.txt"))
    text.write_text(text.read_text().partition("\n")[0] + "\n")  # an object mended by hand, to one point
    os.utime(text, ns=(text.stat().st_mtime_ns + 10**10,) * 2)
    assert [path.name for path in prepare_s3dis(root)] == ["Area_1_office_1.npy"]
    assert 0 < len(S3DIS(root=root, split="train", block=None)[0]["points"]) < len(after["points"])
    with pytest.raises(ValueError, match="must have Area_1 to Area_6 with rooms"):
        prepare_s3dis(root / "Area_1")


def test_refusals(root):
    for options, message in (
        ({"split": "test"}, "split must be train, val, sim_train or sim_val, got 'test'"),
        ({"split": "val", "test_area": 7}, "test_area must be 1 to 6, got 7"),
        ({"split": "val", "test_area": 3}, "must have rooms of areas"),
        ({"split": "val", "block": 0.0}, "block must be None or metres > 0, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            S3DIS(root=root, **options)
    table = room_of(3)
    for column, value, message in (
        (0, np.nan, "finite numbers"),
        (4, 256, r"Area_3_lobby_1.npy must have colours of 0 to 255, got \[.*, 256.0, .*\] in row 7"),
        (5, -1, "must have colours of 0 to 255"),
        (6, 13, "classes must be 0 to 12, got 13"),
    ):
        broken = table.copy()
        broken[7, column] = value
        np.save(root / "Area_3_lobby_1.npy", broken)
        with pytest.raises(ValueError, match=message):
            S3DIS(root=root, split="val", test_area=3)
    dark = table.copy()
    dark[:, 3:6] /= 255
    np.save(root / "Area_3_lobby_1.npy", dark)
    with pytest.raises(ValueError, match="1.npy must have colours of 0 to 255, got some of 0 to 1: the largest is 1"):
        S3DIS(root=root, split="val", test_area=3)
    wide = table.copy()
    wide[0, 1] = 1e3
    np.save(root / "Area_3_lobby_1.npy", wide)
    with pytest.raises(ValueError, match="1.npy must be in metres, at most 200 along an axis, got .* x "):
        S3DIS(root=root, split="val", test_area=3)
    np.save(root / "Area_3_lobby_1.npy", table[:0])
    with pytest.raises(ValueError, match="at least one point"):
        S3DIS(root=root, split="val", test_area=3)
    np.save(root / "Area_3_lobby_1.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read as npy"):
        S3DIS(root=root, split="val", test_area=3)
    (root / "Area_5/WC_1/Annotations/boat_1.txt").write_text("0 0 0 0 0 0\n")
    with pytest.raises(ValueError, match="boat_1.txt must be named <class>_<n>.txt"):
        S3DIS(root=root, split="val")
    (root / "Area_5/WC_1/Annotations/boat_1.txt").rename(root / "Area_5/WC_1/Annotations/chair_9.txt")
    (root / "Area_5/WC_1/Annotations/chair_9.txt").write_text("0 0 0 0 0 600\n")
    with pytest.raises(ValueError, match="chair_9.txt must have colours of 0 to 255, got .* in row 0"):
        prepare_s3dis(root)
    (root / "Area_5/WC_1/Annotations/chair_9.txt").write_text("0 0 0 0 0\x100 0\n")
    with pytest.raises(ValueError, match="chair_9.txt must hold rows of 6 numbers"):
        S3DIS(root=root, split="val")


def test_h5_blocks(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    folder = tmp_path / "Area_5" / "office_1"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    data, labels = rng.normal(size=(2, 8, 9)).astype(np.float32), rng.integers(0, 13, (2, 8))
    rows = rng.permutation(16).reshape(2, 8)
    with h5py.File(folder / "zero_0.h5", "w") as file:
        file["data"], file["label_seg"], file["data_num"] = data, labels, np.array([8, 5])
        file["indices_split_to_full"] = rows
    blocks = S3DISBlocks(root=tmp_path, split="val", test_mode=True)
    assert blocks.tokens == ["Area_5/office_1:zero_0_0", "Area_5/office_1:zero_0_1"]
    np.testing.assert_array_equal(blocks[1]["points"], data[1, :5])
    names = "clutter ceiling floor wall beam column door window table chair sofa bookcase board".split()  # as published
    assert [blocks.classes[i] for i in blocks[1]["point_labels"]] == [names[i] for i in labels[1, :5]]
    np.testing.assert_array_equal(blocks[1]["room_index"], rows[1, :5])
    for change, message in (
        ({"data": data[..., :6]}, r"zero_0.h5: data must be \(B, P, 9\), .* got \(2, 8, 6\) and label_seg \(2, 8\)"),
        ({"data": data[0]}, r"zero_0.h5: data must be \(B, P, 9\), .* got \(8, 9\)"),
        ({"label_seg": labels[:, :5]}, r"zero_0.h5: .* label_seg \(2, 5\)"),
        ({"indices_split_to_full": rows[:1]}, r"zero_0.h5: .* indices_split_to_full \(1, 8\)"),
        ({"data_num": np.array([9, 5])}, "zero_0.h5: data_num must be .* of 0 to P"),
        ({"label_seg": labels - 13}, "zero_0.h5: classes must be 0 to 12, got -"),
        ({"indices_split_to_full": rows - 16}, "zero_0.h5: indices_split_to_full must be 0 to 268435455, got -"),
        ({"indices_split_to_full": rows + 2**40}, "zero_0.h5: indices_split_to_full must be 0 to 268435455, got 10995"),
    ):
        arrays = {"data": data, "label_seg": labels, "data_num": np.array([8, 5]), "indices_split_to_full": rows}
        with h5py.File(folder / "zero_0.h5", "w") as file:
            for name, array in (arrays | change).items():
                file[name] = array
        with pytest.raises(ValueError, match=message):
            S3DISBlocks(root=tmp_path, split="val")[0]
    (folder / "half_0.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="half_0.h5 cannot be read as h5"):
        S3DISBlocks(root=tmp_path, split="val")


def test_h5_blocks_without_h5py(tmp_path, monkeypatch):
    (tmp_path / "Area_5" / "office_1").mkdir(parents=True)
    (tmp_path / "Area_5" / "office_1" / "zero_0.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"h5py is not installed; pip install 'pcperc\[s3dis\]'"):
        S3DISBlocks(root=tmp_path, split="val")


def write_ply(path, columns: dict[str, np.ndarray], form: str) -> None:
    types = {"f4": "float", "u1": "uchar", "u2": "ushort"}
    names = "".join(f"property {types[v.dtype.str[1:]]} {name}\n" for name, v in columns.items())
    count = len(next(iter(columns.values())))
    head = f"ply\nformat {form} 1.0\ncomment made by a test\nelement vertex {count}\n{names}"
    head += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    order = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}[form]
    rows = np.zeros(count, [(name, order + v.dtype.str[1:]) for name, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(" ".join(map(str, row.tolist())) + "\n" for row in rows).encode()
    body = text + b"3 0 1 2\n" if form == "ascii" else rows.tobytes() + b"\x03" + bytes(12)
    path.write_bytes(head.encode() + body)


@pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_scannet_ply(tmp_path, form):
    table = room_of(0, 50)
    numbers = np.random.default_rng(0).integers(0, 41, 50)
    xyz = {name: table[:, i].astype("f4") for i, name in enumerate("xyz")}
    rgb = {name: table[:, 3 + i].astype("u1") for i, name in enumerate(("red", "green", "blue"))}
    ply = tmp_path / "scans/scene0000_00/scene0000_00_vh_clean_2.ply"
    write_ply(ply, {**xyz, **rgb}, form)
    data = ScanNet(root=tmp_path, scans=["scene0000_00"], block=None, test_mode=True)
    assert "point_labels" not in data[0]
    write_ply(ply.with_name("scene0000_00_vh_clean_2.labels.ply"), {**xyz, "label": numbers.astype("u2")}, form)
    sample = ScanNet(root=tmp_path, scans=["scene0000_00"], block=None, test_mode=True)[0]
    np.testing.assert_allclose(sample["points"][:, :3] + sample["origin"], table[:, :3], atol=1e-5)
    np.testing.assert_allclose(255 * sample["points"][:, 3:6], table[:, 3:6], atol=1e-4)
    expected = [SCANNET_NUMBERS.index(n) if n in SCANNET_NUMBERS else 255 for n in numbers]
    assert sample["point_labels"].tolist() == expected and len(SCANNET_CLASSES) == 20
    ply.write_bytes(ply.read_bytes()[: -40 if form == "ascii" else -300])
    with pytest.raises(ValueError, match="must hold 50 vertices, as its header says, but is cut off"):
        ScanNet(root=tmp_path, scans=["scene0000_00"])


def test_scannet_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="scan scene0000_00 is missing"):
        ScanNet(root=tmp_path, scans=["scene0000_00"])
    with pytest.raises(ValueError, match="must name at least one scan"):
        ScanNet(root=tmp_path, scans=[])
    np.save(tmp_path / "a_vert.npy", room_of(0)[:, :6])
    np.save(tmp_path / "bright_vert.npy", room_of(0)[:, :6] + 256)
    with pytest.raises(ValueError, match="bright_vert.npy must have colours of 0 to 255, got .* in row 0"):
        ScanNet(root=tmp_path, scans=["bright"])
    np.save(tmp_path / "a_sem_label.npy", np.full(200, 41))
    with pytest.raises(ValueError, match="must be NYU40 numbers, 0 to 40, got 41"):
        ScanNet(root=tmp_path, scans=["a"])
    np.save(tmp_path / "a_sem_label.npy", np.full(199, 1))
    with pytest.raises(ValueError, match=r"must be \(200,\), one a point, got \(199,\)"):
        ScanNet(root=tmp_path, scans=["a"])
    whole = (tmp_path / "a_vert.npy").read_bytes()
    (tmp_path / "a_vert.npy").write_bytes(whole.replace(b"'shape'", b"'shape\""))
    with pytest.raises(ValueError, match="a_vert.npy cannot be read as npy"):
        ScanNet(root=tmp_path, scans=["a"])
    ply = tmp_path / "scans/b/b_vh_clean_2.ply"
    ply.parent.mkdir(parents=True)
    ply.write_bytes(b"solid\n")
    with pytest.raises(ValueError, match="must be a ply file with a header"):
        ScanNet(root=tmp_path, scans=["b"])
    ply.write_bytes(b"ply\nformat ascii 1.0\nelement vertex many\nproperty float x\nend_header\n")
    with pytest.raises(ValueError, match="must have a number of vertices as its first element"):
        ScanNet(root=tmp_path, scans=["b"])
    ply.write_bytes(b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float x\nend_header\n1 2\n")
    with pytest.raises(
        ValueError, match="b_vh_clean_2.ply: properties of ply vertices must be .* each of its own name"
    ):
        ScanNet(root=tmp_path, scans=["b"])


def test_the_real_scans(realdata, tmp_path):
    (tmp_path / "scans.txt").write_text("scene0000_00\nscene0000_01\n")
    data = ScanNet(root=realdata / "scannet", scans=tmp_path / "scans.txt", block=None, test_mode=True)
    assert data.tokens == ["scene0000_00", "scene0000_01"]
    numbers = np.load(realdata / "scannet/scene0000_00_sem_label_all.npy")
    sample = data[0]
    assert sample["points"].shape == (81369, 9)
    assert (sample["point_labels"] == SCANNET_CLASSES.index("wall")).sum() == (numbers == 1).sum() > 0
    assert (sample["point_labels"] == 255).sum() == (~np.isin(numbers, SCANNET_NUMBERS)).sum() > 0
    blocks = ScanNet(root=realdata / "scannet", scans=["scene0000_00"], test_mode=True)
    assert sum(len(blocks[index]["points"]) for index in range(len(blocks))) == 2 * 81369
