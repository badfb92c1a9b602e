# SPDX-License-Identifier: Apache-2.0
"""Calorimeter events from files: both layouts, events with little in them, and what is wrong with others."""

import zipfile

import numpy as np
import pytest

from pcperc.datasets import CalorimeterHits, collate
from pcperc.datasets.calorimeter import read_event
from pcperc.geometry.calorimeter import HIT_COLUMNS, hit_table
from pcperc.simulation.calorimeter import Settings
from pcperc.simulation.data_set import simulate


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "calorimeter"
    simulate(out, Settings(events=3, size="tiny", seed=0))
    return out


def event(count=4, **changes):
    """A valid event of ``count`` hits: half of them noise, half of one hadron."""
    rng = np.random.default_rng(0)
    xyz = np.column_stack([rng.uniform(50, 100, (count, 2)), np.full(count, 330.0)])
    noise = np.arange(count) < count // 2
    arrays = {
        "hits": hit_table(rng.uniform(0.01, 1, count), xyz, np.full(count, -1.0)),
        "layer": np.full(count, 7, np.uint8),
        "class": np.where(noise, 0, 2),
        "instance": np.where(noise, -1, 0),
        "contributors": np.column_stack([np.where(noise, -1, 0), np.full((count, 3), -1)]),
        "fractions": np.tile(np.eye(1, 4, dtype=np.float32), (count, 1)),
        "particles": np.ones((1, 3), np.float32),
    }
    return {**arrays, **changes}


def written(path, arrays):
    np.savez(path, **arrays)
    return path


def test_simulated_samples_have_the_keys_of_the_conventions(root):
    data = CalorimeterHits(root=root, split="sim_train")
    sample = data[0]
    assert sample["sample_token"].startswith("sim_train/event_") and sample["scene_name"] == "sim_train"
    assert data.metainfo["classes"] == ("noise", "electromagnetic", "hadronic")
    hits = sample["hits"].astype(np.float64)
    columns = dict(zip(HIT_COLUMNS, hits.T, strict=True))
    assert columns["R"] == pytest.approx(np.linalg.norm(hits[:, 5:8], axis=1), rel=1e-5)
    assert columns["eta"] == pytest.approx(-np.log(np.tan(columns["theta"] / 2)), rel=1e-4)
    for key, dtype in (("layer", np.int64), ("class", np.int64), ("instance", np.int64), ("fractions", np.float32)):
        assert sample[key].dtype == dtype and len(sample[key]) == len(hits)
    assert len(collate([sample, data[0]])["samples"]) == 2


def test_real_geometry_events_are_read(realdata):
    data = CalorimeterHits(root=realdata / "hgcal")
    assert [len(data.read_sample(index)["hits"]) for index in range(3)] == [51177, 47253, 44477]
    assert "instance" not in data.read_sample(0) and data.tokens[0] == "event0_rechits"
    hits = data.read_sample(1)["hits"].astype(np.float64)
    assert hits[:, :5] == pytest.approx(hit_table(hits[:, 0], hits[:, 5:8], hits[:, 8])[:, :5], rel=1e-5)


def test_clusters_of_the_rechit_layout_are_instances(tmp_path):
    arrays = {"recHitFeatures": event()["hits"], "recHitTruthClusterIdx": np.array([[-1], [3], [-99], [0]])}
    assert read_event(written(tmp_path / "a.npz", arrays))["instance"].tolist() == [-1, 3, -1, 0]
    for clusters, message in (
        (np.zeros((2, 2), np.int64), r"recHitTruthClusterIdx must be \(4,\), one a hit, got \(2, 2\)"),
        (np.array([0, 1, 1e300, -1]), r"recHitTruthClusterIdx must be in \[-9.*\], got 1e\+300 at hit 2"),
        (np.full(4, 2**64 - 1, np.uint64), r"must be in .*, got 18446744073709551615 at hit 0"),
    ):
        path = written(tmp_path / "a.npz", {**arrays, "recHitTruthClusterIdx": clusters})
        with pytest.raises(ValueError, match=f"a.npz: .*{message}"):
            read_event(path)


@pytest.mark.parametrize("count", [0, 1])
def test_no_hits_one_hit_and_noise_alone_are_events(tmp_path, count):
    noise = {"class": np.zeros(count, np.int64), "instance": np.full(count, -1), "particles": np.zeros((0, 3))}
    noise["contributors"] = np.full((count, 4), -1)
    sample = read_event(written(tmp_path / "a.npz", event(count, **noise)))
    assert sample["hits"].shape == (count, 9) and (sample["instance"] == -1).all()


def changed(column, value):
    hits = event()["hits"]
    hits[2, HIT_COLUMNS.index(column)] = value
    return {"hits": hits}


@pytest.mark.parametrize(
    "changes, message",
    [
        (changed("E", -0.5), r"must have an energy >= 0, got \{'E': -0.5.* at hit 2 \(1 such"),
        (changed("E", np.nan), "must be finite"),
        (changed("E", 3e38), r"must have an energy <= 1e\+06 GeV, got .* at hit 2 \(1 such"),
        ({"hits": np.full((4, 9), 1e300)}, r"hits must be finite, got \{'E': inf"),
        (changed("eta", -1e30), r"must have \|eta\| <= 20, got"),
        (changed("x", np.inf), "must be finite"),
        (changed("z", 100.0), "must be in a layer"),
        (changed("x", 900.0), "within 400 cm of the beam"),
        ({"layer": np.array([1, 53, 2, 3])}, r"layer must be in \[1, 52\], got 53 at hit 1"),
        ({"layer": np.array([0, 5, 2, 3])}, r"layer must be in \[1, 52\], got 0"),
        ({"class": np.array([0, 0, 3, 1])}, r"class must be in \[0, 2\], got 3"),
        ({"instance": np.array([-1, -1, 0])}, r"instance must be \(4,\), one a hit, got \(3,\)"),
        ({"instance": np.array([-1, -1, 0, 7])}, r"instance must be in \[-1, 0\], got 7"),
        ({"instance": np.array([-1, -1, 0, 0.5])}, "instance must be whole numbers, got 0.5 at hit 3"),
        ({"instance": np.array([-1, -1, np.inf, 0])}, "instance must be whole numbers, got inf at hit 2"),
        ({"class": np.array(list("0022"))}, "class must be whole numbers, got <U1"),
        ({"layer": np.array([1, 2, 3, np.nan])}, "layer must be whole numbers, got nan at hit 3"),
        (
            {"instance": np.array([-1, 0, 0, 0])},
            "where class is 0 .noise., got class 0 and instance 0 at hit 1",
        ),
        ({"class": np.array([0, 2, 2, 2])}, "where class is 0 .noise., got class 2 and instance -1 at hit 1"),
        ({"instance": np.array([-1, -1, -2, 0])}, r"instance must be in \[-1, 0\], got -2 at hit 2"),
        ({"fractions": np.full((4, 4), np.nan)}, r"fractions must be in \[0, 1\], got nan at hit 0"),
        ({"contributors": np.full((4, 4), 9)}, r"contributors must be in \[-1, 0\], got 9"),
        ({"contributors": np.full((4, 4), -0.5)}, "contributors must be whole numbers, got -0.5 at hit 0"),
        ({"contributors": np.full((4, 4), "a")}, "contributors must be numbers, got <U1"),
        (
            {"contributors": np.full((4, 3), -1)},
            r"as many as contributors, got \(4, 4\) and \(4, 3\)",
        ),
        ({"particle_pdg": np.array(11)}, r"must have one row a particle, got .*'particle_pdg': \(\)"),
        ({"particle_pdg": np.array([11, 22])}, "must have one row a particle"),
        ({"particle_pdg": np.array(["e"])}, "particle_pdg must be finite numbers, got <U1"),
        ({"particles": np.array([[9.0, np.nan, 0.0]])}, "particles must be finite numbers, got NaN or infinity"),
        ({"fractions": np.ones((3, 4))}, r"fractions must be \(4, K\)"),
        ({"fractions": np.full((4, 4), 1.5)}, r"fractions must be in \[0, 1\], got 1.5 at hit 0"),
        ({"fractions": np.full((4, 4), -0.25)}, r"fractions must be in \[0, 1\], got -0.25 at hit 0"),
        ({"hits": np.zeros((4, 8), np.float32)}, r"hits must be \(N, 9\) numbers, got \(4, 8\)"),
        ({"hits": np.full((4, 9), "1")}, r"hits must be \(N, 9\) numbers, got \(4, 9\) <U1"),
        ({"rechits": np.zeros((4, 9))}, "must have one array of hits, got hits and rechits"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path, changes, message):
    path = written(tmp_path / "wrong.npz", event(**changes))
    with pytest.raises(ValueError, match=f"wrong.npz.*{message}"):
        read_event(path)


def shares(instance, contributors, fractions, particles=3, **more):
    """An event of three hits of particle 0 and those that are given, with who gave them which parts."""
    instance = np.array([0, 0, 0, *instance])
    contributors = np.array([[0, -1], [0, -1], [0, -1], *contributors])
    fractions = np.array([[1, 0], [1, 0], [1, 0], *fractions], np.float32)
    truth = {"instance": instance, "class": np.where(instance < 0, 0, 2), "particles": np.ones((particles, 3))}
    return event(len(instance), **truth, contributors=contributors, fractions=fractions, **more)


THIRDS = np.full(3, 1 / 3, np.float32)


@pytest.mark.parametrize(
    "arrays",
    [
        shares([1, -1], [[1, 0], [-1, 0]], [[0.6, 0.4], [0.7, 0.3]]),
        shares([1], [[0, 1]], [[0.4, 0.6]]),  # in any order
        shares([1, 0, -1], [[0, 1], [1, 0], [-1, 0]], [[0.5, 0.5]] * 3),  # halves are either's
        shares([1], [[0, 1]], [[0.500001, 0.499999]]),  # of float32, halves too
        shares([-1], [[1, 0]], [[0.9, 0.1]]),  # particle 1 is no object: no hit is its own
        shares([-1, -1], [[-1, -1], [0, -1]], [[0, 0], [0, 0]]),  # nobody's
        shares([1], [[1, -1]], [[0.3, 0]]),  # the rest is of contributors that are not told
        shares([1], [[1, 0]], [[0.700003, 0.300003]]),  # rounded
        event(3, fractions=np.tile(np.append(THIRDS, 0), (3, 1)), contributors=np.tile([-1, 0, -1, -1], (3, 1))),
        event(3, fractions=np.tile([0.6001, 0.4004, 0, 0], (3, 1)).astype(np.float16)),
        event(4, fractions=np.zeros((4, 0)), contributors=np.zeros((4, 0), int)),
        event(4, fractions=np.array([[True, False]] * 4), contributors=np.array([[-1, 0]] * 2 + [[0, -1]] * 2)),
    ],
)
def test_parts_that_add_up_are_read_as_they_are(tmp_path, arrays):
    found = read_event(written(tmp_path / "a.npz", arrays))
    assert found["fractions"].tolist() == arrays["fractions"].tolist()


@pytest.mark.parametrize(
    "arrays, message",
    [
        (
            shares([1, 1], [[1, 0], [1, 0]], [[0.9, 0.35], [0.7, 0.301]]),
            r"fractions of a hit must add up to at most 1, got 1.25 at hit 3 \(2 such hits\)",
        ),
        (
            shares([1, 0, 2], [[1, 0]] * 3, [[0.6, 0.4], [0.75, 0.25], [0.6, 0.4]]),
            r"instance must be 1, the contributor with the largest of fractions \(0.75\), got 0 at hit 4 \(2 such",
        ),
        (shares([2], [[0, -1]], [[0.6, 0.4]]), r"must be 0, .* \(0.6\), got 2 at hit 3 \(1 such"),  # not told of at all
        (shares([0], [[0, -1]], [[0.4, 0.6]]), r"must be -1, .* \(0.6\), got 0 at hit 3"),
        (shares([-1], [[0, -1]], [[0.6, 0.4]]), r"must be 0, .* \(0.6\), got -1 at hit 3"),  # 0 is an object
        (shares([0], [[0, -1]], [[0, 0]]), r"instance must be -1 where fractions are 0, got 0 at hit 3 \(1 such hits"),
        (event(4, fractions=np.full((4, 2), 0.6), contributors=np.zeros((4, 2), int)), "at most 1, got 1.2 at hit 0"),
    ],
)
def test_parts_that_do_not_fit_are_named(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=f"wrong.npz: .*{message}"):
        read_event(written(tmp_path / "wrong.npz", arrays))


def test_parts_without_names_must_still_add_up(tmp_path):
    arrays = shares([1], [[1, 0]], [[0.9, 0.9]])
    nameless = {key: value for key, value in arrays.items() if key not in ("contributors", "class", "instance")}
    with pytest.raises(ValueError, match="at most 1, got 1.8 at hit 3"):
        read_event(written(tmp_path / "a.npz", nameless))


def test_files_that_are_no_events_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.npz is missing"):
        read_event(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match="text.npz cannot be read as npz: it is another kind of file$"):
        read_event(tmp_path / "text.npz")
    whole = written(tmp_path / "cut.npz", event()).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut.npz cannot be read"):
        read_event(tmp_path / "cut.npz")
    place = whole.index(b"PK\x01\x02") + 6  # of the version of zip that is needed
    (tmp_path / "version.npz").write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
    with pytest.raises(ValueError, match="version.npz cannot be read as npz: zip file version"):
        read_event(tmp_path / "version.npz")
    np.savez(tmp_path / "objects.npz", hits=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="objects.npz cannot be read"):
        read_event(tmp_path / "objects.npz")
    with (tmp_path / "array.npz").open("wb") as stream:
        np.save(stream, event()["hits"])
    with pytest.raises(ValueError, match=r"array.npz cannot be read as npz: it holds one array \(4, 9\)"):
        read_event(tmp_path / "array.npz")
    with zipfile.ZipFile(tmp_path / "member.npz", "w") as file:
        file.writestr("hits", "E eta")
    with pytest.raises(ValueError, match="member.npz cannot be read as npz: its member hits is no array"):
        read_event(tmp_path / "member.npz")
    with pytest.raises(ValueError, match="must have an array hits or rechits"):
        read_event(written(tmp_path / "other.npz", {"points": np.zeros(3)}))
    with pytest.raises(ValueError, match="both class and instance or neither, got instance alone"):
        arrays = event()
        del arrays["class"]
        read_event(written(tmp_path / "half.npz", arrays))


def test_hits_may_be_whole_numbers(tmp_path):
    hits = np.array([[2, 2, 0, 0, 0, 66, 88, 400, 0]])  # of eta 2.0025
    found = read_event(written(tmp_path / "whole.npz", {"rechits": hits}))["hits"]
    assert found.dtype == np.float32 and found.tolist() == hits.tolist()


@pytest.mark.parametrize("name", ["hits", "rechits", "recHitFeatures"])
def test_messages_have_the_name_of_the_array(tmp_path, name):
    path = written(tmp_path / "a.npz", {name: changed("E", -1.0)["hits"]})
    with pytest.raises(ValueError, match=rf"a\.npz: {name} must have an energy >= 0, got .* at hit 2 \(1 such"):
        read_event(path)


@pytest.mark.parametrize("column", ["eta", "x", "z"])
def test_eta_of_another_place_is_refused(tmp_path, column):
    """By a hundredth, of either endcap; both numbers are named."""
    hits = event(6)["hits"]
    hits[3:, [1, 7]] *= -1
    for wrong in (0.012, 0.008):
        there = hits[4].astype(np.float64)
        if column == "eta":
            there[1] += wrong
        elif column == "x":  # farther out by so much that eta is nearer to 0 by as much
            rho = abs(there[7]) / np.sinh(abs(there[1]) - wrong)
            there[5] = np.sqrt(rho**2 - there[6] ** 2)
        else:
            there[7] = -np.hypot(there[5], there[6]) * np.sinh(abs(there[1]) - wrong)
        eta = np.arcsinh(there[7] / np.hypot(there[5], there[6]))
        assert abs(there[1] - eta) == pytest.approx(wrong, rel=1e-6)
        path = written(tmp_path / "a.npz", {"rechits": np.concatenate([hits[:4], there[None], hits[5:]])})
        if wrong < 0.01:
            assert len(read_event(path)["hits"]) == 6
            continue
        numbers = rf"asinh\(z / hypot\(x, y\)\) = {eta:.6g}, got {there[1]:.6g} at hit 4 \(1 such hits\)"
        with pytest.raises(ValueError, match=rf"a\.npz: rechits must have the eta of x, y, z to 0.01, {numbers}"):
            read_event(path)


def test_eta_of_a_hit_on_the_axis(tmp_path):
    """On the beam's axis eta is infinite, and a file may hold any that it can."""
    hits = event()["hits"]
    hits[1, 1:2], hits[1, 5:7] = 5.0, 0.0
    hits[2, 1:2], hits[2, 5:7] = -3.0, 1e-7
    assert read_event(written(tmp_path / "axis.npz", {"hits": hits}))["hits"].tolist() == hits.tolist()
    hits[2, 5:7] = 1e-3  # of eta 13.1
    with pytest.raises(ValueError, match="axis.npz: hits must have the eta .* = 13.0.*, got -3 at hit 2"):
        read_event(written(tmp_path / "axis.npz", {"hits": hits}))


def test_eta_that_was_never_filled_in_is_refused(tmp_path, realdata):
    with np.load(realdata / "hgcal/event0_rechits.npz") as file:
        real = file["rechits"].copy()
    real[:, 1] = 0
    with pytest.raises(ValueError, match=r"real.npz: rechits must .* got 0 at hit 0 \(51177 such hits\)"):
        read_event(written(tmp_path / "real.npz", {"rechits": real}))


def test_clusters_without_classes_get_the_one_that_is_told(tmp_path):
    """Of recHits with truth; without truth, and where a file has classes, nothing changes."""
    hits, clusters = event()["hits"], np.array([[-1], [3], [-99], [0]])
    written(tmp_path / "a_truth.npz", {"recHitFeatures": hits, "recHitTruthClusterIdx": clusters})
    written(tmp_path / "b_none.npz", {"recHitFeatures": hits})
    written(tmp_path / "c_classes.npz", event())
    truth, none, classes = CalorimeterHits(root=tmp_path, class_of_clusters=1)
    assert truth["class"].tolist() == [0, 1, 0, 1] and truth["instance"].tolist() == [-1, 3, -1, 0]
    assert truth["class"].dtype == np.int64
    assert "class" not in none and classes["class"].tolist() == [0, 0, 2, 2]
    assert CalorimeterHits(root=tmp_path, class_of_clusters=2)[0]["class"].tolist() == [0, 2, 0, 2]
    assert "class" not in CalorimeterHits(root=tmp_path)[0]
    for wrong in (0, 3, -1, 1.0, True, "hadronic"):
        message = rf"class_of_clusters must be one of 1 \(electromagnetic\), 2 \(hadronic\), or None, got {wrong!r}"
        with pytest.raises(ValueError, match=message):
            CalorimeterHits(root=tmp_path, class_of_clusters=wrong)


def test_folders_without_events_are_named(tmp_path, root):
    with pytest.raises(FileNotFoundError, match="sim_none is missing .known: sim"):
        CalorimeterHits(root=root, split="sim_none")
    with pytest.raises(ValueError, match="must have npz files"):
        CalorimeterHits(root=tmp_path)
