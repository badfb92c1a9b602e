# SPDX-License-Identifier: Apache-2.0
"""The tools with PVCNN, from simulated shapes and frames to scores, files and pictures, at toy size."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from pcperc.datasets import S3DIS, KITTIFrustums, ShapeNetPart
from pcperc.datasets.shapenet_part_labels import SYNSETS
from pcperc.engine import training
from pcperc.engine.checkpoint import set_aside_earlier_run
from pcperc.engine.cloud_inference import check_category, cloud_sample
from pcperc.engine.config import ConfigError
from pcperc.engine.exporting import ExportOptions, export_samples
from pcperc.engine.inference import InferOptions, infer
from pcperc.engine.score_files import scores_say
from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import TrainOptions, train
from pcperc.engine.visualizing import VisualizeOptions, visualize
from pcperc.files import write_text
from pcperc.simulation import rooms, shapes
from pcperc.simulation.data_set import simulate
from tests import kitti_root
from tests.engine.cloud_configs import COMMON, FRUSTUMS, PARTS, ROOMS, SHAPES
from tests.engine.helpers import read_losses


def trained_on(root, folder, config):
    path = folder / "tiny.py"
    path.write_text(COMMON.format(root=str(root)) + config)
    return path, train(TrainOptions(path, work_dir=folder / "work", device="cpu"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes") / "root"
    simulate(root, shapes.Settings(48, "tiny", 0))
    return root, *trained_on(root, tmp_path_factory.mktemp("parts"), PARTS)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms") / "root"
    simulate(root, rooms.Settings(6, "tiny", 0))
    return root, *trained_on(root, tmp_path_factory.mktemp("blocks"), ROOMS)


@pytest.fixture(scope="module")
def frustums(tmp_path_factory):
    root = kitti_root.write_root(tmp_path_factory.mktemp("frames"))
    return root, *trained_on(root, tmp_path_factory.mktemp("frustums"), FRUSTUMS)


def test_parts_are_trained_and_scored(parts, tmp_path, capsys):
    root, config, checkpoint = parts
    assert len(read_losses(checkpoint.parent)) == 4
    found = test(TestOptions(config, checkpoint, evaluation="shapenet", work_dir=tmp_path, device="cpu", votes=2))
    saved = json.loads((tmp_path / "scores.json").read_text())
    assert saved["scored"] == {
        "checkpoint": f"work/{checkpoint.name}",
        "config": f"{config.parent.name}/tiny.py",
        "data": f"{root.parent.name}/root",
        "split": "sim_test",
        "simulated_data": True,
        "trained_on_simulated_data": True,
        "options": {"votes": 2},
    }
    assert saved["scores"] == pytest.approx(found) and saved["num_samples"] == 16
    assert "Skateboard" in capsys.readouterr().out


def test_scores_of_another_checkpoint_replace_none_of_the_work_dirs_own(parts, tmp_path, monkeypatch):
    root, config, checkpoint = parts
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "work_dirs/tiny"
    shutil.copytree(checkpoint.parent, own)
    mine = tmp_path / "mine" / "other.safetensors"
    mine.parent.mkdir()
    shutil.copy(checkpoint.with_suffix(".safetensors"), mine)
    scored = {}
    for given in (None, own / checkpoint.name, mine):
        test(TestOptions(config, given, evaluation="shapenet", device="cpu"))
        scored = {
            str(path.parent.relative_to(own)): json.loads(path.read_text())["scored"]["checkpoint"]
            for path in own.rglob("scores.json")
        }
    assert scored == {".": f"work_dirs/tiny/{checkpoint.name}", "mine_other": "mine/other.safetensors"}
    set_aside_earlier_run(own)  # as a training does that is not finished yet
    test(TestOptions(config, evaluation="shapenet", device="cpu"))
    now = json.loads((own / "scores.json").read_text())["scored"]["checkpoint"]
    assert re.fullmatch(rf"work_dirs/tiny/earlier_\w+/{checkpoint.name}", now)


def test_old_scores_are_not_said_to_be_of_a_test_that_wrote_none(tmp_path):
    (tmp_path / "scores.json").write_text('{"scores": {}}')
    with scores_say(tmp_path, {"checkpoint": "a.pth"}):
        write_text(tmp_path / "cluster_scores.json", '{"scores": {"PQ": NaN}}')
    assert json.loads((tmp_path / "scores.json").read_text()) == {"scores": {}}
    found = json.loads((tmp_path / "cluster_scores.json").read_text())
    assert found["scored"] == {"checkpoint": "a.pth"} and "PQ" in found["scores"]


def test_an_exported_shape_comes_with_the_command_that_predicts_it(parts, tmp_path, capsys):
    root, config, checkpoint = parts
    written = export_samples(ExportOptions(config, out=tmp_path))
    command = re.search(
        r"predict one: python tools/infer\.py \S+ CHECKPOINT (\S+) --category (\w+)", capsys.readouterr().out
    )
    assert command[1] == str(written[-1]) and command[2] in SYNSETS
    infer(InferOptions(config, checkpoint, written, out=tmp_path / "out", category=command[2], device="cpu"))


def test_votes_change_what_is_scored(parts, tmp_path):
    root, config, checkpoint = parts
    once = test(TestOptions(config, checkpoint, work_dir=tmp_path, device="cpu"))
    assert once == test(TestOptions(config, checkpoint, work_dir=tmp_path, device="cpu"))  # the same clouds are drawn
    assert once != test(TestOptions(config, checkpoint, work_dir=tmp_path, device="cpu", votes=5))


def test_blocks_of_rooms_are_trained_and_whole_rooms_scored(blocks, tmp_path, capsys):
    root, config, checkpoint = blocks
    found = test(TestOptions(config, checkpoint, evaluation="s3dis", work_dir=tmp_path, device="cpu"))
    saved = json.loads((tmp_path / "segmentation_scores.json").read_text())
    assert saved["scores"] == pytest.approx(found) and saved["num_samples"] == 1  # one room of several blocks
    recorded = np.load(root / "Area_5_sim_room_1.npy")[:, 6].astype(int)
    assert np.array(saved["confusion"]).sum(1).tolist() == np.bincount(recorded, minlength=13).tolist()
    printed = capsys.readouterr().out
    assert f"accuracy {found['accuracy']:.3f}: " in printed and f"\nscores: {tmp_path}" in printed.replace("\r", "\n")
    only_files = TestOptions(config, checkpoint, work_dir=tmp_path, device="cpu", format_only=True)
    with pytest.raises(ValueError, match="format_only is for ScanNet"):
        test(only_files)


@pytest.mark.parametrize("count", [5, 20])
def test_a_network_of_another_number_of_classes_is_not_trained(blocks, tmp_path, count):
    """5 failed in the first step, without the key, and 20 were trained without a word."""
    _, config, checkpoint = blocks
    shutil.copy(checkpoint, tmp_path / checkpoint.name)  # of an earlier run, which stays where it is
    message = rf"tiny.py: model.backbone.num_classes must be 13, S3DIS has 13 classes \(ceiling, .*\), got {count}$"
    with pytest.raises(ConfigError, match=message):
        train(TrainOptions(config, work_dir=tmp_path, device="cpu", overrides={"model.backbone.num_classes": count}))
    assert (tmp_path / checkpoint.name).is_file()


@pytest.mark.parametrize("key", ["backbone", "data_preprocessor"])
def test_a_network_told_another_number_of_categories_is_not_trained(parts, tmp_path, key):
    _, config, _ = parts
    named = f"model.{key}.num_categories"
    message = rf"tiny.py: {named} must be 16, ShapeNetPart has 16 categories \(Airplane, .*\), got 8$"
    with pytest.raises(ConfigError, match=message):
        train(TrainOptions(config, work_dir=tmp_path, device="cpu", overrides={named: 8}))


def test_a_network_of_other_parts_is_not_trained(parts, tmp_path):
    _, config, _ = parts
    message = r"tiny.py: model.parts must be \(4, 2, .*\), ShapeNetPart has parts of Airplane 4, .*; got \(4, 2\)$"
    with pytest.raises(ConfigError, match=message):
        train(TrainOptions(config, work_dir=tmp_path, device="cpu", overrides={"model.parts": [4, 2]}))


def test_a_network_of_another_number_of_classes_is_neither_tested_nor_resumed(blocks, tmp_path, monkeypatch):
    """Its checkpoint may be older than the check, or its data another one now."""
    _, config, _ = blocks
    options = TrainOptions(config, work_dir=tmp_path, device="cpu", overrides={"model.backbone.num_classes": 20})
    with monkeypatch.context() as before:
        before.setattr(training, "check_class_counts", lambda *_, **__: None)
        checkpoint = train(options)
    message = r"{}: model.backbone.num_classes must be 13, S3DIS\w* has 13 classes \(ceiling, .*\), got 20$"
    with pytest.raises(ConfigError, match=message.format(checkpoint.name)):
        test(TestOptions(None, checkpoint, work_dir=tmp_path / "scores", device="cpu"))
    unfinished = sorted(path for path in tmp_path.glob("*.pth") if path != checkpoint)
    checkpoint.unlink()
    kept = {path: path.read_bytes() for path in unfinished}
    (tmp_path / "last_checkpoint").write_text(f"{unfinished[-1].name}\n")
    with pytest.raises(ConfigError, match=message.format("tiny.py")):
        train(replace(options, resume=True))
    assert {path: path.read_bytes() for path in tmp_path.glob("*.pth")} == kept


def test_categories_of_shapes_are_trained_and_scored(tmp_path, capsys):
    root, rng, names = tmp_path / "modelnet", np.random.default_rng(0), []
    for number in range(8):
        category, flat = (("chair", (1, 1, 1)), ("night_stand", (1, 1, 0.05)))[number % 2]
        names.append(f"{category}_{number:04d}")
        (root / category).mkdir(parents=True, exist_ok=True)
        rows = np.concatenate([rng.normal(size=(60, 3)) * flat, rng.uniform(-0.5, 0.5, (60, 3))], 1)
        np.savetxt(root / category / f"{names[-1]}.txt", rows, delimiter=",", fmt="%.4f")
    for split in ("train", "test"):
        (root / f"modelnet40_{split}.txt").write_text("\n".join(names) + "\n")
    config, checkpoint = trained_on(root, tmp_path, SHAPES)
    options = dict(work_dir=tmp_path / "scores", device="cpu")
    found = test(TestOptions(config, checkpoint, evaluation="modelnet", **options))
    assert set(found) == {"accuracy", "mean_class_accuracy"}
    assert 8 * found["accuracy"] in range(9) and f"\naccuracy: {found['accuracy']:.4f}" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--eval kitti: .* is evaluated by --eval modelnet"):
        test(TestOptions(config, checkpoint, evaluation="kitti", **options))


def test_parts_of_a_file(parts, tmp_path):
    root, config, checkpoint = parts
    token = ShapeNetPart(root=root, split="sim_test", categories=["Mug"]).tokens[0]
    out = tmp_path / "out"
    (path,) = infer(InferOptions(config, checkpoint, [root / f"{token}.txt"], out=out, category="Mug", device="cpu"))
    result = json.loads(path.read_text())
    labels = np.fromfile(path.with_suffix(".label"), "<u4")
    assert set(labels.tolist()) <= {36, 37} and sum(row["points"] for row in result["classes"]) == len(labels)
    assert all(row["class"].startswith("Mug/") for row in result["classes"]) and result["category"] == "Mug"
    assert len(visualize(VisualizeOptions(config, results=path, save=tmp_path / "pictures"))) == 1
    with pytest.raises(ConfigError, match="--category must say what the files show, one of Airplane, .*; got none"):
        infer(InferOptions(config, checkpoint, [root / f"{token}.txt"], out=out, device="cpu"))


def test_frustums_are_trained_and_scored(frustums, tmp_path):
    root, config, checkpoint = frustums
    losses = read_losses(checkpoint.parent)
    assert {"loss_mask", "loss_corners", "loss_heading"} <= set(next(iter(losses.values())))
    found = test(TestOptions(config, checkpoint, evaluation="kitti", work_dir=tmp_path, device="cpu"))
    assert json.loads((tmp_path / "scores.json").read_text())["scores"] == pytest.approx(found, nan_ok=True)
    frames = {sample.split("/")[0] for sample in KITTIFrustums(root=root, split="sim_val").tokens}
    written = {path.stem for path in (tmp_path / "kitti_results").glob("*.txt") if path.read_text()}
    assert written and written <= frames


def test_frustums_of_a_detectors_boxes_are_scored(frustums, parts, tmp_path):
    """Of a split without labels, too, files alone are written; the checkpoint was trained on labelled boxes."""
    root, config, checkpoint = frustums
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("000001.png 3 0.7 190 40 250 110\n")
    options = dict(detections=boxes, device="cpu")
    test(TestOptions(config, checkpoint, evaluation="kitti", work_dir=tmp_path / "val", **options))
    written = {path.stem: path.read_text() for path in (tmp_path / "val/kitti_results").glob("*.txt")}
    rows = {frame: text.split() for frame, text in written.items() if text}
    assert set(written) == {"000000", "000001", "000002"} and rows["000001"][4:8] == [
        f"{v:.4f}" for v in (190, 40, 250, 110)
    ]
    assert len(rows) == 1 and rows["000001"][0] == "Cyclist"
    shutil.copytree(root / "training", root / "testing")
    shutil.rmtree(root / "testing/label_2")
    with pytest.raises(FileNotFoundError, match=r"testing.label_2 is missing, so there is no score; format_only"):
        test(TestOptions(config, checkpoint, work_dir=tmp_path / "a", split="testing", **options))
    assert test(TestOptions(config, checkpoint, work_dir=tmp_path, split="testing", format_only=True, **options)) == {}
    assert (tmp_path / "kitti_results/000001.txt").read_text() == written["000001"]
    with pytest.raises(ConfigError, match="--detections is for frustums of KITTI, it has ShapeNetPart"):
        test(TestOptions(*parts[1:], work_dir=tmp_path, **options))


def test_a_box_of_a_file_is_in_its_frame(frustums, tmp_path):
    """Turned about the origin the file gives the box turned likewise."""
    root, config, checkpoint = frustums
    points = np.random.default_rng(0).normal((15, 2, -1, 0.5), (1, 0.5, 0.4, 0.1), (200, 4)).astype(np.float32)
    turned = points.copy()
    turned[:, :2] = points[:, [1, 0]] * (-1, 1)  # by a quarter
    np.save(tmp_path / "ahead.npy", points)
    turned.tofile(tmp_path / "aside.bin")
    files = [tmp_path / "ahead.npy", tmp_path / "aside.bin"]
    options = InferOptions(config, checkpoint, files, out=tmp_path, min_score=0.0, category="Car", device="cpu")
    ahead, aside = (json.loads(path.read_text())["detections"][0] for path in infer(options))
    assert len(visualize(VisualizeOptions(config, results=tmp_path, save=tmp_path / "pictures"))) == 2
    x, y, z = ahead["center"]
    assert ahead["class"] == "Car" and aside["center"] == pytest.approx([-y, x, z], abs=1e-2)
    assert aside["size_lwh"] == pytest.approx(ahead["size_lwh"], abs=1e-2)
    assert np.cos(aside["yaw"] - ahead["yaw"] - np.pi / 2) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("end", ["npy", "bin", "txt"])
def test_a_frustum_without_points_has_no_box(frustums, tmp_path, end):
    root, config, checkpoint = frustums
    path = tmp_path / f"empty.{end}"
    if end == "npy":
        np.save(path, np.zeros((0, 4)))
    else:
        path.write_bytes(b"")
    options = InferOptions(config, checkpoint, [path], out=tmp_path / "out", min_score=0.0, category="Car")
    (result,) = infer(replace(options, device="cpu"))
    assert json.loads(result.read_text())["detections"] == []
    assert len(visualize(VisualizeOptions(config, results=result, save=tmp_path / "pictures"))) == 1


@pytest.mark.parametrize(
    ("kind", "columns"), [("ShapeNetPart", "x, y, z, nx, ny, nz"), ("S3DIS", "x, y, z, red, green, blue")]
)
def test_a_shape_or_room_must_have_a_point(tmp_path, kind, columns):
    np.save(tmp_path / "empty.npy", np.zeros((0, 6)))
    (tmp_path / "empty.txt").write_text("")
    for name in ("empty.npy", "empty.txt"):
        with pytest.raises(ValueError, match=f"{name}: must hold a row of {columns} or more, but holds no point$"):
            cloud_sample(tmp_path / name, {"type": kind}, "Mug")


def test_files_of_rooms_become_the_columns_of_rooms(tmp_path):
    rows = np.array([[1.0, 2, 3, 0, 127.5, 255], [3, 6, 5, 255, 255, 255]])
    np.save(tmp_path / "room.npy", rows)
    points = cloud_sample(tmp_path / "room.npy", {"type": "S3DIS"}, None)["points"]
    expected = [[-1, -2, 0, 0, 0.5, 1, 0, 0, 0], [1, 2, 2, 1, 1, 1, 1, 1, 1]]
    np.testing.assert_allclose(points, np.array(expected, np.float32))


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
def test_ply_files_are_the_same_as_others(tmp_path, form):
    rows = np.array([[1.0, 2, 3, 0, 128, 255], [3, 6, 5, 255, 255, 255]])
    np.savetxt(tmp_path / "room.txt", rows)
    names = [("x", "f8"), ("y", "f8"), ("z", "f8"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("alpha", "u1")]
    types = {"f8": "double", "u1": "uchar"}
    lines = ["ply", f"format {form} 1.0", "element vertex 2", *(f"property {types[t]} {name}" for name, t in names)]
    alpha = np.array([tuple([*row, 255]) for row in rows], names)
    body = alpha.tobytes() if form != "ascii" else "\n".join(" ".join(map(str, row)) for row in alpha.tolist()).encode()
    (tmp_path / "room.ply").write_bytes("\n".join([*lines, "end_header", ""]).encode() + body)
    text, ply = (cloud_sample(tmp_path / f"room.{end}", {"type": "S3DIS"}, None)["points"] for end in ("txt", "ply"))
    np.testing.assert_array_equal(ply, text)
    with pytest.raises(ValueError, match=r"room.ply must have a property nx, got \['alpha', 'blue', "):
        cloud_sample(tmp_path / "room.ply", {"type": "ModelNet40"}, None)


def test_an_exported_room_is_read_as_it_was_recorded(blocks, tmp_path):
    """Its colours were written as 0 to 1, and read as nearly black."""
    root, config, _ = blocks
    (path,) = export_samples(ExportOptions(config, out=tmp_path))
    sample = S3DIS(root=root, split="sim_val").read_sample(0)
    recorded = np.load(root / f"{sample['room'].replace('/', '_')}.npy")[sample["room_index"], :6]
    np.testing.assert_allclose(np.load(path), recorded, atol=1e-4)
    assert cloud_sample(path, {"type": "S3DIS"}, None)["points"].shape == sample["points"].shape


def test_a_bad_file_does_not_stop_the_others(blocks, tmp_path, capsys):
    _, config, checkpoint = blocks
    rows = np.random.default_rng(0).uniform(0, 3, (3, 200, 6)) * (1, 1, 1, 80, 80, 80)
    rows[1, 5, 2] = np.nan
    files = [tmp_path / f"{name}.npy" for name in "abc"]
    for file, room in zip(files, rows, strict=True):
        np.save(file, room)
    options = InferOptions(config, checkpoint, files, out=tmp_path / "out", device="cpu")
    with pytest.raises(ValueError, match=rf"^1 of 3 files failed, as said above: {files[1]}$"):
        infer(options)
    printed = capsys.readouterr().out
    assert f"{files[1]} failed: cloud {files[1]} must have finite numbers" in printed
    found = [f"{tmp_path}/out/{name}.npy.json: 200 points" for name in "ac"]  # of each file, not the last one alone
    assert [line for line in printed.splitlines() if line.startswith(f"{tmp_path}/out/")] == found
    written = sorted(path.name for path in (tmp_path / "out").glob("*"))
    assert written == ["a.npy.json", "a.npy.label", "c.npy.json", "c.npy.label"]
    with pytest.raises(ValueError, match="^cloud .*b.npy must have finite numbers"):
        infer(replace(options, files=files[1:2]))


def test_says_what_is_wrong(parts, tmp_path):
    with pytest.raises(ConfigError, match="--category: the checkpoint is told nothing .* got 'Mug'"):
        check_category({"type": "S3DIS"}, "Mug")
    assert check_category({"type": "ShapeNetPart"}, "laptop") == "Laptop"
    with pytest.raises(ConfigError, match="one of Car, Cyclist; got 'Mug'"):
        check_category({"type": "KITTIFrustums", "classes": ("Car", "Cyclist")}, "Mug")
    np.save(tmp_path / "few.npy", np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"few.npy: must hold rows of x, y, z, nx, ny, nz, got \(3, 4\) float64"):
        cloud_sample(tmp_path / "few.npy", {"type": "ShapeNetPart"}, "Mug")
    np.save(tmp_path / "turned.npy", np.zeros((7, 300)))
    np.savetxt(tmp_path / "turned.txt", np.zeros((7, 300)))
    for name in ("turned.npy", "turned.txt"):
        message = rf"{name} must hold rows of x, y, z, nx, ny, nz, one a point, got 7 rows of 300 numbers: rows and col"
        with pytest.raises(ValueError, match=message):
            cloud_sample(tmp_path / name, {"type": "ShapeNetPart"}, "Mug")
    np.save(tmp_path / "colours.npy", np.full((3, 6), 90.0))
    with pytest.raises(ValueError, match=r"colours.npy must have normals .* of length 155.885, in row 0"):
        cloud_sample(tmp_path / "colours.npy", {"type": "ModelNet40"}, None)
    np.save(tmp_path / "nan.npy", np.full((3, 6), np.nan))
    with pytest.raises(ValueError, match="nan.npy must have finite numbers"):
        cloud_sample(tmp_path / "nan.npy", {"type": "ShapeNetPart"}, "Mug")
    np.save(tmp_path / "dark.npy", np.full((3, 6), -1.0))
    with pytest.raises(ValueError, match="dark.npy must have colours of 0 to 255, got .* in row 0"):
        cloud_sample(tmp_path / "dark.npy", {"type": "S3DIS"}, None)
    np.savetxt(tmp_path / "parts.txt", np.linspace(0, 0.9, 18).reshape(3, 6))
    message = "parts.txt must have colours of 0 to 255, got some of 0 to 1: the largest is 0.9"
    with pytest.raises(ValueError, match=message):
        cloud_sample(tmp_path / "parts.txt", {"type": "S3DIS"}, None)
    np.save(tmp_path / "cm.npy", [[0, 0, 0, 9, 9, 9], [420, 300.5, 260, 9, 9, 9]])
    with pytest.raises(ValueError, match="cm.npy must be in metres, at most 200 along an axis, got 420 x 300.5 x 260"):
        cloud_sample(tmp_path / "cm.npy", {"type": "S3DIS"}, None)
    np.save(tmp_path / "black.npy", np.zeros((3, 6)))
    assert not cloud_sample(tmp_path / "black.npy", {"type": "S3DIS"}, None)["points"][:, 3:6].any()
    with pytest.raises(ValueError, match="shape.obj: must be one of .txt, .npy, .ply, rows of x, y"):
        cloud_sample(tmp_path / "shape.obj", {"type": "ModelNet40"}, None)
    for text, message in (
        (
            "1 2 3 0 0 1\n\n1 2 3 0 0\n",
            r"ragged.txt must hold rows of 6 numbers \(x, y, z, nx, ny, nz\), got 5 in row 1$",
        ),
        (
            "1 2 3\n4 5 6\n",
            r"ragged.txt must hold rows of 6 numbers \(x, y, z, nx, ny, nz\), got 3 in a row$",
        ),
        (
            "1,2,3,0,0,1\n",
            r"\(x, y, z, nx, ny, nz\), got 1 in row 0: they are to be separated by spaces, not by commas$",
        ),
        ("1, 2, 3, 0, 0, 1\n", "got '1,' in row 0: they are to be separated by spaces, not by commas$"),
        ("1 2 3 0 0 1 5\n1 2\n", r"rows of 7 numbers \(x, y, z, nx, ny, nz, ...\), got 2 in row 1$"),
        (
            "x y z nx ny nz\n1 2 3 0 0 1\n",
            r"ragged.txt must hold rows of 6 numbers \(x, y, z, nx, ny, nz\), got 'x' in row 0$",
        ),
    ):
        (tmp_path / "ragged.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            cloud_sample(tmp_path / "ragged.txt", {"type": "ModelNet40"}, None)
    (tmp_path / "text.npy").write_text("1 2 3\n")
    with pytest.raises(ValueError, match="text.npy cannot be read as npy: it is another kind of file$"):
        cloud_sample(tmp_path / "text.npy", {"type": "ModelNet40"}, None)
    root, config, checkpoint = parts
    options = InferOptions(config, checkpoint, [tmp_path / "nan.npy"], category="mug", device="cpu")
    for name, value, message in (
        ("columns", 5, "--columns: is for sweeps of a LiDAR, and files are of shapes, rooms or frustums"),
        ("intensity_scale", 255.0, "--intensity-scale: is for sweeps of a LiDAR"),
        ("min_score", 0.5, "--min-score: is for boxes, and .* finds none"),
    ):
        with pytest.raises(ConfigError, match=message):
            infer(replace(options, **{name: value}))
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}: is a folder, name its files$"):
        infer(replace(options, files=[tmp_path]))
    with pytest.raises(ConfigError, match="--format-only is for segmentation.*ShapeNetPartMetric"):
        test(TestOptions(config, checkpoint, work_dir=tmp_path, device="cpu", format_only=True))
