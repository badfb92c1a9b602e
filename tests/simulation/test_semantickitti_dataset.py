# SPDX-License-Identifier: Apache-2.0
"""A simulated SemanticKITTI root: the published layout, every class in every split, and the same bytes for a seed."""

import hashlib
import json
import struct
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pcperc.datasets import SemanticKITTI
from pcperc.simulation.data_set import simulate
from pcperc.simulation.semantickitti_generate import Settings

TINY = Settings(scenes=4, size="tiny", seed=5)
REPOSITORY = Path(__file__).parents[2]


def fingerprint(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "semantickitti"
    calls = []
    assert simulate(out, TINY, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 4) for done in range(5)]
    return out


def test_layout_is_that_of_the_published_data_set(root):
    assert sorted(p.name for p in (root / "sequences").iterdir()) == ["00", "01", "08", "11"]
    for folder in (root / "sequences").iterdir():
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["SIMULATED", "calib.txt", "labels", "poses.txt", "times.txt", "velodyne"]
        scans, files = sorted((folder / "velodyne").iterdir()), sorted((folder / "labels").iterdir())
        assert [path.name for path in scans] == ["000000.bin", "000001.bin"]
        assert [path.name for path in files] == ["000000.label", "000001.label"]
        for scan, file in zip(scans, files, strict=True):
            rows, numbers = list(struct.iter_unpack("<4f", scan.read_bytes())), file.read_bytes()
            assert len(rows) == len(list(struct.iter_unpack("<HH", numbers))) > 5_000
            assert all(1.9 < (x * x + y * y + z * z) ** 0.5 < 81 and 0 <= remission < 1 for x, y, z, remission in rows)
        assert [len(line.split()) for line in (folder / "poses.txt").read_text().splitlines()] == [12, 12]
        lines = [line.split() for line in (folder / "calib.txt").read_text().splitlines()]
        assert [key for key, *_ in lines] == ["P0:", "P1:", "P2:", "P3:", "Tr:"]
        # As of KITTI's sequence 00: the right camera half a metre to the right of the left one.
        assert [float(line[4]) for line in lines[:4]] == pytest.approx([0, -386.1, 45.4, -337.3], abs=3)
        assert [float(line) for line in (folder / "times.txt").read_text().splitlines()] == [0.0, 0.1]


@pytest.mark.parametrize("split, names", [("sim_train", "00 01"), ("sim_val", "08"), ("sim_test", "11")])
def test_every_split_shows_all_classes(root, split, names):
    dataset = SemanticKITTI(root=root, split=split, label_map="official", test_mode=True)
    assert sorted({token.partition("/")[0] for token in dataset.tokens}) == names.split()
    counts = np.zeros(256, np.int64)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample["points"].shape[1] == 5 and sample["ego2global"].shape == (4, 4)
        counts += np.bincount(sample["point_labels"], minlength=256)
    assert (counts[:19] > 0).all(), dict(zip(dataset.classes, counts, strict=False))
    assert counts[255] < 0.1 * counts.sum()


def test_seed_fixes_every_byte_whatever_the_number_of_workers(root, tmp_path):
    command = [sys.executable, "tools/simulate.py", "semantickitti", "--out", str(tmp_path / "again"), "--scenes", "4"]
    command += ["--size", "tiny", "--seed", "5", "--workers", "2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 simulated scenes" in done.stdout
    assert fingerprint(tmp_path / "again") == fingerprint(root)
    scans = [np.fromfile(root / f"sequences/{name}/velodyne/000000.bin", "<f4") for name in ("00", "01", "08", "11")]
    cells = [set(map(tuple, np.floor(scan.reshape(-1, 4)[:, :3]).tolist())) for scan in scans]
    for one, other in combinations(cells, 2):
        assert len(one & other) < 0.5 * len(one | other), "sequences differ by more than the noise"


def test_a_set_is_kept_marked_and_never_mistaken(root):
    before = fingerprint(root)
    assert simulate(root, TINY) is False and fingerprint(root) == before
    stamp = json.loads((root / "simulation.json").read_text())
    assert stamp["simulated"] == "driving scenes in SemanticKITTI format" and stamp["seed"] == 5
    assert "no recording of KITTI" in (root / "README.md").read_text()
    with pytest.raises(FileExistsError, match="other settings"):
        simulate(root, Settings(scenes=3, size="tiny", seed=5))


def test_splits_follow_the_published_numbers():
    whole = Settings(scenes=22, size="full", seed=0).splits()
    assert [len(whole[name]) for name in ("sim_train", "sim_val", "sim_test")] == [10, 1, 11]
    assert whole["sim_val"] == ["08"] and "08" not in whole["sim_train"] and whole["sim_test"][0] == "11"
    assert Settings(scenes=3, size="tiny", seed=0).splits() == {
        "sim_train": ["00"],
        "sim_val": ["08"],
        "sim_test": ["11"],
    }


@pytest.mark.parametrize(
    "settings, message",
    [((2, "small", 0), "scenes must be"), ((4, "huge", 0), "size must be one of"), ((4, "small", -1), "seed must be")],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(*settings)
