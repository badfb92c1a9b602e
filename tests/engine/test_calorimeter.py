# SPDX-License-Identifier: Apache-2.0
"""The tools with a network of calorimeter hits, from a config to scores and files, at toy size."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from pcperc.datasets.calorimeter import read_event
from pcperc.engine.config import ConfigError
from pcperc.engine.exporting import ExportOptions, export_samples
from pcperc.engine.hit_inference import describe_clusters
from pcperc.engine.inference import InferOptions, infer
from pcperc.engine.raw_files import write_raw_sample
from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import TrainOptions, train
from pcperc.engine.visualizing import VisualizeOptions, visualize
from pcperc.evaluation import read_cluster_table
from pcperc.geometry import HitClusters
from pcperc.visualization import event_display, event_legend
from pcperc.visualization.frame import SIMULATED_DATA, TRAINED_ON_SIMULATED
from tests.calorimeter_events import made_event, write_arrays
from tests.engine.helpers import read_losses
from tests.simulated_root import mark_simulated

SMALL = {
    "data_root": "",
    "model.backbone.width": 0.0625,
    "model.data_preprocessor.voxel_size": 4.0,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "test_dataloader.num_workers": 0,
    "test_dataloader.persistent_workers": False,
    "train_dataloader.batch_size": 2,
    "train_cfg.max_epochs": 2,
}
CONFIG = "configs/calo_spvcnn.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root, rng = mark_simulated(tmp_path_factory.mktemp("calo")), np.random.default_rng(0)
    for split, count in (("sim_train", 4), ("sim_test", 2)):
        for index in range(count):
            write_arrays(root / split / f"event_{index}.npz", **made_event(rng, 2 + index))
    nothing = np.zeros(0, np.int64)
    for split in ("sim_train", "sim_test"):
        write_arrays(
            root / split / "event_empty.npz",
            hits=np.zeros((0, 9), np.float32),
            **{"class": nothing, "instance": nothing},
        )
    return root


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """Work dir and checkpoint of a network that was trained for two epochs on a CPU."""
    work_dir = tmp_path_factory.mktemp("trained")
    options = TrainOptions(CONFIG, work_dir=work_dir, device="cpu", overrides={**SMALL, "data_root": str(root)})
    return work_dir, train(options)


def test_training_scores_and_curves(trained, root, tmp_path, capsys):
    work_dir, checkpoint = trained
    losses = list(read_losses(work_dir).values())
    names = {"loss_cross_entropy", "loss_lovasz", "loss_attraction", "loss_repulsion", "loss_beta"}
    assert len(losses) == 4 and all(names <= set(line) for line in losses)
    found = test(TestOptions(None, checkpoint, evaluation="calo", work_dir=tmp_path, device="cpu"))
    printed = capsys.readouterr().out
    assert "(simulated, GFlash)" in printed and "hadronic" in printed
    written = json.loads((tmp_path / "cluster_scores.json").read_text())
    assert written["scores"] == pytest.approx(found) and written["num_events"] == 3
    assert written["scored"]["checkpoint"] == f"{work_dir.name}/{checkpoint.name}"
    rates = f"efficiency {found['efficiency']:.3f}, fake rate {written['scores'].get('fake_rate', np.nan):.3f} of all"
    assert rates in printed and "a match has the same class and an IoU by energy > 0.5" in printed
    table = read_cluster_table(tmp_path / "cluster_table.npz")
    for against, unit in (("energy, 1 to 200", "GeV"), ("distance, 0 to 160", "cm")):
        assert re.search(
            rf"curves against {against} {unit}, leave out \d of 5 showers.* and \d+ of \d+ clusters", printed
        )
    assert len(table.found) == 5 and found["efficiency"] == table.found.mean()
    assert (tmp_path / "cluster_curves.png").stat().st_size > 10_000


def test_files_of_hits(trained, root, tmp_path):
    """Both layouts, and an event without hits; energies and clusters are those of the hits."""
    _, checkpoint = trained
    event = made_event(np.random.default_rng(1), 3)
    mirrored = event["hits"] * np.array([1, -1, 1, 1, 1, 1, 1, -1, 1], np.float32)
    files = [
        write_arrays(tmp_path / "sim.npz", **event),
        write_arrays(tmp_path / "rec.npz", recHitFeatures=mirrored),
        root / "sim_test/event_empty.npz",
    ]
    paths = infer(InferOptions(None, checkpoint, files, out=tmp_path / "out", device="cpu"))
    written = [json.loads(path.read_text())["clusters"] for path in paths]
    for path, rows in zip(paths, written, strict=True):
        with np.load(path.with_name(f"{path.stem}.clusters.npz")) as arrays:
            cluster, label, energies = arrays["cluster"], arrays["class"], arrays["energy"]
        hits = event["hits"] if len(rows) or len(cluster) else np.zeros((0, 9))
        assert len(cluster) == len(label) == len(hits)
        assert ((cluster < 0) == (label == 0)).all()
        assert [row["hits"] for row in rows] == np.bincount(cluster[cluster >= 0], minlength=len(rows)).tolist()
        sums = [hits[cluster == number, 0].sum() for number in range(len(rows))]
        assert energies == pytest.approx(sums, abs=1e-4) and (np.diff(energies) <= 0).all()
    assert written[2] == []
    # The other endcap is this one mirrored.
    flipped = [{**row, "center": [*row["center"][:2], -row["center"][2]]} for row in written[1]]
    assert flipped == written[0]
    drawn = visualize(VisualizeOptions(CONFIG, results=tmp_path / "out", save=tmp_path / "pictures"))
    flat = [path.name for path in drawn if path.name.endswith("_event.png")]
    assert flat == [f"000{k}_{name}.npz_event.png" for k, name in enumerate(("event_empty", "rec", "sim"))]


def test_exported_events_are_read_back_and_predicted(trained, root, tmp_path, capsys):
    """Every array of an event, so that it can be looked at and trained with as well; clusters without classes too."""
    _, checkpoint = trained
    config = tmp_path / "events.py"
    config.write_text(
        "from pcperc.datasets import CalorimeterHits\n"
        f"data_root = {str(root)!r}\n"
        "test_dataloader = dict(dataset=dict(type=CalorimeterHits, root=data_root, split='sim_test'), batch_size=1)\n"
    )
    out = tmp_path / "samples"
    written = export_samples(ExportOptions(config, index=[0, 2], out=out))
    assert [path.name for path in written] == ["0000.npz", "0002.npz"]
    assert f"infer.py {config} CHECKPOINT {out}/*.npz" in capsys.readouterr().out
    for path, source in zip(written, ("event_0", "event_empty"), strict=True):
        found, expected = read_event(path), read_event(root / f"sim_test/{source}.npz")
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            np.testing.assert_array_equal(found[name], values)
    results = infer(InferOptions(None, checkpoint, written, out=tmp_path / "out", device="cpu"))
    assert [path.name for path in results] == ["0000.npz.json", "0002.npz.json"]
    assert visualize(VisualizeOptions(CONFIG, results=tmp_path / "out", save=tmp_path / "pictures"))
    event = made_event(np.random.default_rng(1), 2)
    source = write_arrays(tmp_path / "rec.npz", rechits=event["hits"], recHitTruthClusterIdx=event["instance"])
    (again,) = write_raw_sample({"sample_token": "rec", **read_event(source)}, tmp_path / "again", "0000")
    assert read_event(again).keys() == {"hits", "instance"}
    for name, values in read_event(again).items():
        np.testing.assert_array_equal(values, event[name])


def test_what_is_said_of_each_cluster():
    """Energy and centre weighted by it, in the file's own frame; hits without energy count alike."""
    hits = np.zeros((7, 9), np.float32)
    hits[:, 0] = [1.0, 3.0, 2.0, 9.0, 0.0, 0.0, 5.0]
    hits[:, 5:8] = [[0, 0, -330], [4, 8, -334], [50, 60, 400], [9, 9, 350], [10, 0, 330], [20, 4, 340], [70, 70, 500]]
    found = HitClusters(
        *(torch.tensor(v) for v in ([2, 2, 1, 0, 1, 1, 1], [1, 1, 0, -1, 2, 2, 0], [0.5, 0.7, 0.9, 1.0, 0.2, 0.4, 0.3]))
    )
    rows = [tuple(row.values()) for row in describe_clusters(found, hits)]
    assert rows == [
        (0, "electromagnetic", 7.0, 2, [64.286, 67.143, 471.429], 0.6),
        (1, "hadronic", 4.0, 2, [3.0, 6.0, -333.0], 0.6),
        (2, "electromagnetic", 0.0, 2, [15.0, 2.0, 335.0], 0.3),
    ]


def test_events_with_next_to_nothing_in_them(trained, tmp_path):
    """One hit of a shower, one of noise, noise alone, hits without energy: no clusters, and scores of what there is."""
    _, checkpoint = trained
    event = made_event(np.random.default_rng(2), 2)
    silent = event["hits"].copy()
    silent[:, 0] = 0
    noise = event["instance"] < 0
    root = tmp_path / "data/sim_test"
    files = [
        write_arrays(root / "noise.npz", **{key: values[noise] for key, values in event.items()}),
        write_arrays(root / "one_of_noise.npz", **{key: values[:1] for key, values in event.items()}),
        write_arrays(root / "one.npz", **{key: values[-1:] for key, values in event.items()}),
        write_arrays(root / "silent.npz", **{**event, "hits": silent}),
    ]
    paths = infer(InferOptions(None, checkpoint, files, out=tmp_path / "out", device="cpu"))
    sizes = [20, 1, 1, 60]
    for path, size in zip(paths, sizes, strict=True):
        clusters = json.loads(path.read_text())["clusters"]
        assert sum(row["hits"] for row in clusters) <= size and (size > 1 or clusters == [])
        assert all(np.isfinite([row["energy"], row["mean_score"], *row["center"]]).all() for row in clusters)
        with np.load(path.with_name(f"{path.stem}.clusters.npz")) as arrays:
            assert arrays["cluster"].shape == (size,) and np.isfinite(arrays["score"]).all()
    scored = {"evaluation": "calo", "device": "cpu", "data_root": str(tmp_path / "data")}
    found = test(TestOptions(None, checkpoint, work_dir=tmp_path / "all", **scored))
    assert all(0 <= value <= 1 for name, value in found.items() if name.endswith(("SQ", "RQ", "PQ")))
    for path in files[2:]:
        path.unlink()
    found = test(TestOptions(None, checkpoint, work_dir=tmp_path / "noise", **scored))
    assert "efficiency" not in found  # no showers


@pytest.mark.parametrize(
    "change, message",
    [
        ({"instance": np.zeros(5, np.int64)}, r"instance must be \(60,\), one a hit, got \(5,\)"),
        ({"layer": np.full(60, 53)}, r"layer must be in \[1, 52\], got 53 at hit 0"),
        ({"class": np.full(60, "a")}, "class must be whole numbers, got <U1"),
    ],
)
def test_damaged_events_of_a_split_are_named(trained, tmp_path, change, message):
    _, checkpoint = trained
    rng = np.random.default_rng(0)
    write_arrays(tmp_path / "data/sim_test/a.npz", **made_event(rng, 2))
    file = write_arrays(tmp_path / "data/sim_test/b.npz", **{**made_event(rng, 2), **change})
    options = TestOptions(None, checkpoint, evaluation="calo", work_dir=tmp_path / "work", device="cpu")
    with pytest.raises(ValueError, match=rf"b\.npz: {message}"):
        test(replace(options, data_root=str(tmp_path / "data")))
    with pytest.raises(ValueError, match=rf"b\.npz: {message}"):
        infer(InferOptions(None, checkpoint, [file], out=tmp_path / "out", device="cpu"))


def test_displays(trained, root, tmp_path, monkeypatch, capsys):
    _, checkpoint = trained
    options = VisualizeOptions(None, checkpoint, save=tmp_path / "model", max_samples=2, device="cpu")
    saved = visualize(options)
    flat = [path for path in saved if path.name.endswith("_event.png")]
    assert f"{len(saved)} pictures of 2 of 3 events in {tmp_path / 'model'}" in capsys.readouterr().out
    # Two of three, spread over the split; the last has no hits.
    assert [path.name for path in flat] == ["0000_sim_test_event_0_event.png", "0002_sim_test_event_empty_event.png"]
    by_class = visualize(replace(options, save=tmp_path / "class", color_by="class", max_samples=1))
    for one, other in zip(by_class, saved, strict=False):  # the first event's pictures, with Open3D two of them
        assert one.name == f"{other.stem}_class.png" and one.read_bytes() != other.read_bytes()
    truth = visualize(VisualizeOptions(CONFIG, save=tmp_path / "truth", max_samples=1, data_root=str(root)))
    assert truth[0].name == flat[0].name and truth[0].read_bytes() != flat[0].read_bytes()
    # Elsewhere: of the same events, not known to be simulated, by a network that saw such; infer.py says so too.
    texts = []
    for module in (event_display, event_legend):
        monkeypatch.setattr(module, "draw_text", lambda image, text, *_, **options: texts.append(text))
    elsewhere = shutil.copytree(root / "sim_test", tmp_path / "events")
    from_elsewhere = dict(data_root=str(elsewhere), split="")
    for more in ({}, from_elsewhere):
        visualize(replace(options, save=tmp_path / "again", max_samples=1, **more))
        assert TRAINED_ON_SIMULATED in texts and (SIMULATED_DATA in texts) == (not more)
        texts.clear()
    visualize(VisualizeOptions(CONFIG, save=tmp_path / "again", max_samples=1, **from_elsewhere))
    assert texts and not {TRAINED_ON_SIMULATED, SIMULATED_DATA} & {*texts}
    texts.clear()
    infer(InferOptions(None, checkpoint, [elsewhere / "event_0.npz"], out=tmp_path / "found", device="cpu"))
    visualize(VisualizeOptions(CONFIG, results=tmp_path / "found", save=tmp_path / "again"))
    assert TRAINED_ON_SIMULATED in texts and SIMULATED_DATA not in texts
    with pytest.raises(ConfigError, match="--color-by: must be one of cluster, class for events, got 'height'"):
        visualize(replace(options, color_by="height"))


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"hits": np.full((3, 9), np.nan, np.float32)}, "must be finite"),
        ({"hits": np.zeros((3, 4), np.float32)}, "must be .N, 9. numbers"),
        ({"hits": np.zeros((0, 9)), "rechits": np.zeros((0, 9))}, "must have one array of hits, got hits and rechits"),
        ({"points": np.zeros((3, 9), np.float32)}, "must have an array hits or rechits"),
    ],
)
def test_files_that_hold_something_else(trained, tmp_path, arrays, message):
    _, checkpoint = trained
    file = write_arrays(tmp_path / "bad.npz", **arrays)
    options = InferOptions(None, checkpoint, [file], out=tmp_path / "out", device="cpu")
    with pytest.raises(ValueError, match=f"bad.npz.*{message}"):
        infer(options)
    with pytest.raises(ConfigError, match="--columns: is for sweeps of a LiDAR, and files are of hits"):
        infer(replace(options, columns=4))
    with pytest.raises(ConfigError, match="--min-score: is for boxes"):
        infer(replace(options, min_score=0.1))
    (tmp_path / "bad.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="bad.bin: must be an .npz file of hits"):
        infer(InferOptions(None, checkpoint, [tmp_path / "bad.bin"], out=tmp_path / "out", device="cpu"))
