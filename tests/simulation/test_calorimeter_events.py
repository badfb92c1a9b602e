# SPDX-License-Identifier: Apache-2.0
"""Events of the calorimeter simulator: their truth, noise, pile-up and taus, and how they look beside real ones."""

import math

import numpy as np
import pytest

from pcperc.geometry.calorimeter import hit_table
from pcperc.simulation.calorimeter.comparison import (
    compare,
    describe,
    draw,
    format_table,
    layer_numbers,
    real_events,
    simulated_events,
)
from pcperc.simulation.calorimeter.event import SIZES, record, simulate_event
from pcperc.simulation.calorimeter.geometry import MIP_GEV, cell_of, cells_by_ring
from pcperc.simulation.calorimeter.particles import Generated, draw_pile_up, draw_signal
from pcperc.simulation.calorimeter.showers import ELECTRON, PHOTON, PION, Deposits, Particles
from tests.simulation.particle_gun import gun


def one_particle(pdg=ELECTRON, energy=50.0):
    return Generated(gun(pdg, energy, 1), np.zeros(1, np.int64), np.array([pdg]))


def nothing():
    return Deposits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def test_truth_is_the_particle_with_the_most_energy_and_fractions_are_kept():
    cells = np.array([cell_of(3, 60.0 + 2 * i, 0.0) for i in range(4)])
    two = Generated(Particles(*(np.concatenate([c, c]) for c in gun(PION, 9.0, 1))), np.arange(2), np.array([PION] * 2))
    rows = [(c, p, e) for c in cells[:3] for p, e in ((0, 1.0), (1, 3.0), (-1, 0.5), (1, 1.0))] + [(cells[3], -1, 2.0)]
    deposits = Deposits(*(np.array(column) for column in zip(*rows, strict=True)))
    event = record(deposits, two, np.random.default_rng(0))
    owned = event["instance"] == 1
    assert owned.sum() == 3 and (event["class"][owned] == 2).all() and not (event["instance"] == 0).any()
    assert (event["contributors"][owned, :3] == [1, 0, -1]).all()
    assert event["fractions"][owned, :2] == pytest.approx(np.tile([4 / 5.5, 1 / 5.5], (3, 1)), abs=0.002)
    assert event["fractions"].sum(1) == pytest.approx(np.ones(len(owned)), abs=1e-5)
    assert (event["class"][~owned] == 0).all() and (event["instance"][~owned] == -1).all()


def test_a_particle_with_too_few_hits_is_no_object():
    cells = np.array([cell_of(3, 60.0, 0.0), cell_of(4, 60.0, 0.0)])
    event = record(Deposits(cells, np.zeros(2, np.int64), np.ones(2)), one_particle(), np.random.default_rng(0))
    assert (event["instance"] == -1).all() and (event["contributors"][:, 0] == 0).sum() == 2


def test_an_event_of_noise_alone_has_the_expected_rate():
    none = Generated(gun(ELECTRON, 1.0, 0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    event = record(nothing(), none, np.random.default_rng(0))
    expected = sum(ring[3] for ring in cells_by_ring()) * 2.326e-4  # beyond 3.5 standard deviations
    assert len(event["hits"]) == pytest.approx(expected, abs=5 * math.sqrt(expected))
    assert (event["class"] == 0).all() and (event["fractions"][:, 0] == 1).all()
    assert (event["hits"][:, 0] > 0).all()


@pytest.mark.parametrize("layer, sigma_mips", [(3, 0.22), (30, 0.13), (45, 0.13)])
def test_cells_are_read_with_their_noise_above_their_threshold(layer, sigma_mips):
    """Half of what is left exactly at 3.5 deviations is kept; what is far above fluctuates by one deviation."""
    sigma = sigma_mips * MIP_GEV[layer]
    places = [(80.0 + 2 * i, 2.0 * j) for i in range(20) for j in range(-10, 10)]
    cells = np.unique([cell_of(layer, *place) for place in places])
    assert len(cells) == 400
    for energy in (3.5 * sigma, 100 * sigma):
        deposits = Deposits(cells, np.zeros(400, np.int64), np.full(400, energy))
        event = record(deposits, one_particle(PION), np.random.default_rng(0))
        read = event["hits"][event["contributors"][:, 0] == 0, 0]
        assert read.min() > 3.5 * sigma * (1 - 1e-6)
        if energy < 4 * sigma:
            assert 150 < len(read) < 250
        else:
            assert len(read) == 400 and read.std() == pytest.approx(sigma, rel=0.15)
            assert read.mean() == pytest.approx(energy, rel=0.005)


def test_products_of_taus_overlap_and_share_a_parent():
    signal = draw_signal(300, np.random.default_rng(3))
    taus = np.flatnonzero(signal.parent_pdg == 15)
    assert len(taus) and {PION, PHOTON, ELECTRON} <= set(signal.particles.pdg[taus].tolist())
    several = [parent for parent in np.unique(signal.parent[taus]) if (signal.parent == parent).sum() > 1]
    for parent in several:
        eta = signal.particles.eta[signal.parent == parent]
        assert np.ptp(eta) < 0.301
    assert several and signal.particles.energy.min() >= 1.0
    assert set(signal.particles.pdg[signal.parent < 2][:2].tolist()) <= {ELECTRON, PHOTON, PION}


def test_pile_up_follows_its_density():
    sizes = [len(draw_pile_up(20.0, np.random.default_rng(seed)).pdg) for seed in range(20)]
    assert np.mean(sizes) == pytest.approx(20 * 1.525 * 12, rel=0.1)
    assert len(draw_pile_up(0.0, np.random.default_rng(0)).pdg) == 0
    crowd = draw_pile_up(2000.0, np.random.default_rng(0))
    pt = crowd.energy / np.cosh(crowd.eta)
    # Of charged particles and of photons; a little above 0.55 and 0.30, since the softest are left out.
    assert [pt[crowd.pdg == pdg].mean() for pdg in (PION, PHOTON)] == pytest.approx([0.56, 0.32], abs=0.015)


def test_figures_of_a_comparison_by_hand():
    """Places within 0.5 cm of each other in |z| are one layer; the electromagnetic part ends at 365 cm."""
    energy, depth = [0.001, 0.002, 0.003, 0.006, 0.008], [330.0, -330.2, 331.0, 366.0, -500.0]
    hits = hit_table(np.array(energy), np.column_stack([[30.0] * 5, [40.0] * 5, depth]), np.full(5, -1.0))
    assert layer_numbers(hits).tolist() == [1, 1, 2, 3, 4]
    found = list(describe([hits[:2], hits[2:]]).values())
    quantiles = [1.4, 3.0, 7.2, 7.92]
    assert found == pytest.approx([2.5, 0.01, 60.0, 30.0, 4 / 3, 50.0, *quantiles], rel=1e-5)
    rows = compare([hits], [hits[:2], hits[2:]])
    assert rows[0] == ("hits an event", 5.0, 2.5)
    assert "| hits an event | 5 | 2.5 | 0.50 |" in format_table(rows) and "simulated (GFlash)" in format_table(rows)


def test_events_of_the_simulator_look_like_those_of_the_real_geometry(realdata, tmp_path):
    events, simulated = real_events(realdata), simulated_events(events=3, seed=0)
    rows = {name: (real, ours) for name, real, ours in compare(events, simulated)}
    for name, factor in (
        ("hits an event", 1.3),
        ("GeV an event", 1.7),
        ("hits in the electromagnetic part, %", 1.1),
        ("energy in the electromagnetic part, %", 1.15),
        ("mean layer of electromagnetic hits (of 28)", 1.15),
        ("distance of hits from the beam, median, cm", 1.2),
        ("energy of a hit, 10 % quantile, MeV", 1.4),
        ("energy of a hit, 50 % quantile, MeV", 1.3),
        ("energy of a hit, 90 % quantile, MeV", 1.6),
        ("energy of a hit, 99 % quantile, MeV", 2.2),
    ):
        real, ours = rows[name]
        assert 1 / factor < ours / real < factor, (name, real, ours)
    pytest.importorskip("matplotlib")
    draw(tmp_path / "beside.png", events, simulated)
    assert (tmp_path / "beside.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_event():
    first, again, other = (simulate_event(SIZES["tiny"], np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert len(first["hits"]) != len(other["hits"])
