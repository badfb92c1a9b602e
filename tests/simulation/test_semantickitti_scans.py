# SPDX-License-Identifier: Apache-2.0
"""Simulated scans of 64 beams: what a label says is there, where the poses say it is, and as in a real scan."""

import math
from pathlib import Path

import numpy as np
import pytest

from pcperc.datasets.semantickitti import read_labels, read_scan
from pcperc.datasets.semantickitti_labels import RECORDED_NAMES
from pcperc.datasets.semantickitti_poses import read_poses, read_times
from pcperc.simulation import semantickitti_sequence as sequences
from pcperc.simulation.driving import labels
from pcperc.simulation.driving.ground import CURB_HEIGHT, STEEPEST, ground_hit
from pcperc.simulation.driving.road import Road
from pcperc.simulation.semantickitti_calibration import BANDS, compare
from pcperc.simulation.semantickitti_lidar import COLUMNS, ELEVATION_DEG
from pcperc.simulation.semantickitti_world import build_world

SEED, FRAMES = 11, 3


@pytest.fixture(scope="module")
def world():
    return build_world(SEED, 0)


@pytest.fixture(scope="module")
def recorded(world, tmp_path_factory) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each scan points (N, 4) in the world, recorded classes and instances, by way of the files."""
    folder = tmp_path_factory.mktemp("sequence") / "00"
    sequence = sequences.record(world, sequences.Recording(FRAMES, 512), np.random.default_rng(0))
    sequences.write_sequence(folder, sequence)
    poses, scans = read_poses(folder), []
    assert np.allclose(read_times(folder), np.arange(FRAMES) / 10) and np.allclose(poses[0], np.eye(4))
    for frame in range(FRAMES):
        points = read_scan(folder / f"velodyne/{frame:06d}.bin")
        classes, instances = read_labels(folder / f"labels/{frame:06d}.label", num_points=len(points))
        pose = sequence.poses[0] @ poses[frame]
        points = np.c_[points[:, :3].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3], points[:, 3]]
        scans.append((points, classes, instances))
    return scans


def test_points_of_an_instance_lie_in_its_actor_in_every_frame(world, recorded):
    frames_seen: dict[int, int] = {}
    for frame, (points, classes, instances) in enumerate(recorded):
        for instance in np.unique(instances[instances > 0]):
            actor, mine = world.actors[instance - 1], instances == instance
            box = actor.box(0.1 * frame)
            delta = points[mine, :3] - box[:3]
            c, s = math.cos(box[6]), math.sin(box[6])
            local = np.abs(np.c_[c * delta[:, 0] + s * delta[:, 1], c * delta[:, 1] - s * delta[:, 0], delta[:, 2]])
            assert (local <= box[3:6] / 2 + 0.1).all(), (actor.name, local.max(0), box)  # 0.1: five sigma of the range
            (number,) = np.unique(classes[mine])
            moved = np.linalg.norm(actor.box(0.5)[:2] - actor.box(0.0)[:2]) > 0.05
            assert RECORDED_NAMES[number].startswith("moving-") == moved
            frames_seen[instance] = frames_seen.get(instance, 0) + 1
    assert len(frames_seen) > 15 and list(frames_seen.values()).count(FRAMES) > 10
    things = np.isin(recorded[0][1], [*range(10, 33), *range(252, 260)])
    assert (recorded[0][2][things] > 0).all() and (recorded[0][2][~things] == 0).all()


def test_ground_is_labelled_by_what_lies_there(world, recorded):
    points, classes, _ = recorded[0]
    for number, low, high in ((40, -0.1, 0.1), (48, -0.1, 0.25), (44, 0.05, 0.25)):
        heights = points[classes == number, 2]
        assert len(heights) > 100 and heights.min() > low and heights.max() < high, number
    terrain = points[classes == labels.TERRAIN]
    expected = np.array([world.road.height(x, y) for x, y in terrain[:, :2]])
    assert np.abs(terrain[:, 2] - expected).max() < 0.1 and expected.max() > CURB_HEIGHT + 0.05


def test_remission_tells_no_class(recorded):
    remission, classes = recorded[0][0][:, 3], recorded[0][1]
    assert remission.min() >= 0 and remission.max() < 1
    medians = [np.median(remission[classes == n]) for n in np.unique(classes) if (classes == n).sum() > 300]
    assert 0.03 < (remission < 0.1).mean() < 0.15, "some echoes are too dim, whatever they come from"
    assert len(medians) > 6 and 0.2 < min(medians) and max(medians) < 0.45, medians


def test_a_full_scan_has_the_beams_and_the_order_of_an_hdl64(world):
    sequence = sequences.record(world, sequences.Recording(1, COLUMNS), np.random.default_rng(0))
    xyz = sequence.points[0][:, :3].astype(np.float64)
    assert 100_000 < len(xyz) < 64 * COLUMNS
    elevation = np.degrees(np.arcsin(xyz[:, 2] / np.linalg.norm(xyz, axis=1)))
    beam = np.abs(elevation[:, None] - ELEVATION_DEG).argmin(1)
    assert np.abs(elevation - ELEVATION_DEG[beam]).max() < 1e-3 and set(beam) >= set(range(4, 64))
    assert (np.diff(beam) <= 0).all(), "the highest beam comes first"
    assert -24.81 < elevation.min() < -20 and elevation.max() == pytest.approx(2.0, abs=0.01)
    road = ((sequence.labels[0] & 0xFFFF) == 40) & (np.hypot(xyz[:, 0], xyz[:, 1]) < 8)
    assert road.sum() > 1000 and np.median(xyz[road, 2]) == pytest.approx(-1.73, abs=0.1)
    at_roof = xyz * (0.26 / np.maximum(-xyz[:, 2:], 1e-9))  # where each ray comes down to the recording car's roof
    hidden = (xyz[:, 2] < 0) & (np.abs(at_roof[:, 1]) < 0.49) & (at_roof[:, 0] > -0.71) & (at_roof[:, 0] < 0.59)
    assert not hidden.any(), "behind the roof nothing is seen"
    azimuth = np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0])) % 360
    assert (np.diff(azimuth)[np.diff(beam) == 0] > 0).all(), "each counter-clockwise from straight ahead"


def test_rays_meet_the_bank_where_slow_steps_do():
    road = Road(
        0.0, 0.0, 0.3, 0.005, -0.004, 1, 3.0, 2.0, 40.0, 1, 1.0, 1.4, 0.7, np.array([[5.0, 16.0, 8.0, 5.0, 0.3]])
    )
    rng, table, met = np.random.default_rng(0), road.table(), 0
    for _ in range(60):
        azimuth, elevation = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(-9, 2))
        ray = np.array(
            [math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation)]
        )
        t, _, _ = ground_hit(table, road.carparks, 0.0, -1.5, 1.73, *ray)
        for reached in np.arange(0.0, 60.0, 0.02):
            x, y, z = np.array([0.0, -1.5, 1.73]) + reached * ray
            if z < road.height(x, y) - 0.003:
                met += 1
                # Rays that graze the bank may differ by the centimetre at which it counts as met.
                assert abs(t - reached) < 0.05 + 0.012 / max(abs(ray[2]), 0.02), (t, reached)
                break
        else:
            assert t > 55.0
    assert met > 25


def test_the_bank_is_gentle_and_spares_streets_and_car_parks(world):
    road, rng = world.road, np.random.default_rng(0)
    x, y = rng.uniform(-60, 60, (2, 400))
    rise = np.array([road.rise(*p) for p in zip(x, y, strict=True)])
    beside = np.array([road.rise(*p) for p in zip(x + 0.01, y + 0.01, strict=True)])
    assert (rise >= 0).all() and rise.max() > 0.1
    assert np.abs(beside - rise).max() / math.hypot(0.01, 0.01) < STEEPEST * road.relief
    assert road.rise(*(float(v) for v in road.to_world(5.0, road.half_width + 3.0)[:2])) == 0.0
    assert road.rise(*road.carparks[0, :2]) == 0.0


def test_a_sequence_that_never_shows_a_class_is_an_error(monkeypatch):
    monkeypatch.setattr(sequences, "ATTEMPTS", 1)
    with pytest.raises(RuntimeError, match="sequence 0 never shows all classes.*missing"):
        sequences.simulate_sequence(0, 0, sequences.Recording(1, 2))


@pytest.mark.realdata
def test_simulator_is_calibrated_on_the_real_scan(realdata: Path):
    rows = {name: (real, simulated / real) for name, real, simulated in compare(realdata, scenes=8, seed=0)}
    assert rows["points"][0] == 123_389 and 0.75 < rows["points"][1] < 1.25
    assert rows["voxels of 0.05 m"][0] == 94_444 and 0.7 < rows["voxels of 0.05 m"][1] < 1.3
    bands = [rows[f"points at {near} to {far} m"][1] for near, far in zip(BANDS, BANDS[1:], strict=False)]
    assert all(0.33 < ratio < 3 for ratio in bands), bands
    for name, (share, ratio) in rows.items():
        if name.startswith("%") and share > 1:
            assert 0.33 < ratio < 3, name  # common classes: as in the published data set
        elif name.startswith("%"):
            assert 0.5 < ratio < 100, name  # rare ones occur more often, so that short sequences show them
