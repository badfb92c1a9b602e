# SPDX-License-Identifier: Apache-2.0
"""Physics of the calorimeter simulator: what is measured of its showers is what the formulas and the field say."""

import math

import numpy as np
import pytest

from pcperc.simulation.calorimeter import gflash, hadrons
from pcperc.simulation.calorimeter.comparison import compare, draw, real_events, simulated_events
from pcperc.simulation.calorimeter.event import SIZES, record, simulate_event
from pcperc.simulation.calorimeter.geometry import (
    COMPARTMENT,
    DEPTH_LAMBDA,
    DEPTH_X0,
    LAYER_Z,
    LAYERS,
    MIP_GEV,
    SIDES,
    cell_centres,
    cell_of,
    cells_by_ring,
)
from pcperc.simulation.calorimeter.particles import Generated, draw_pile_up, draw_signal
from pcperc.simulation.calorimeter.showers import (
    ELECTRON,
    PHOTON,
    PION,
    Deposits,
    Particles,
    axes,
    energy_by_layer,
    simulate_showers,
)

SHOWERS = 200


def gun(pdg, energy, count=SHOWERS, eta=2.0):
    """Equal particles side by side in azimuth, so that each is its own shower."""
    return Particles(np.full(count, pdg), np.full(count, float(energy)), np.full(count, eta), np.zeros(count))


def sums(particles, seed=0):
    deposits = simulate_showers(particles, np.random.default_rng(seed))
    return deposits, np.bincount(deposits.particle, weights=deposits.energy, minlength=len(particles.pdg))


def test_layers_and_depth_are_those_of_the_table():
    assert len(LAYER_Z) == LAYERS == 52 and (np.diff(LAYER_Z) > 0).all()
    assert np.bincount(COMPARTMENT).tolist() == [28, 12, 12]
    assert LAYER_Z[[0, 27, 28, 39, 40, 51]] == pytest.approx([320.75, 350.4, 356.33, 407.81, 425.1, 520.8])
    assert DEPTH_X0[[0, 28, -1]] == pytest.approx([0.0, 27.7, 97.7])
    assert DEPTH_LAMBDA[-1] == pytest.approx(10.0)


def test_a_point_is_in_the_cell_whose_centre_is_nearest():
    rng = np.random.default_rng(0)
    for layer, low, high in ((0, 35, 70), (5, 80, 140), (45, 145, 190)):
        radius, turn = rng.uniform(low, high, 400), rng.uniform(-math.pi, math.pi, 400)
        places = np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1)
        cells = np.array([cell_of(layer, x, y) for x, y in places])
        layers, centres = cell_centres(cells)
        assert (layers == layer).all() and (centres[:, 2] == LAYER_Z[layer]).all()
        if layer == 45:
            assert np.abs(places - centres[:, :2]).max() < 190 * math.radians(1)
            continue
        side = SIDES[layer // 5]
        offset = np.hypot(*(places - centres[:, :2]).T)
        assert offset.max() <= side + 1e-9
        neighbours = [
            (math.sqrt(3) * math.cos(k * math.pi / 3), math.sqrt(3) * math.sin(k * math.pi / 3)) for k in range(6)
        ]
        for dx, dy in neighbours:
            assert (np.hypot(*(places - centres[:, :2] - np.array([dx, dy]) * side).T) >= offset - 1e-9).all()
    assert cell_of(0, 10.0, 0.0) == -1 and cell_of(0, 300.0, 0.0) == -1


def test_rings_count_the_cells_of_a_layer():
    layer, inner, outer, count = next(ring for ring in cells_by_ring() if ring[0] == 0)
    grid = np.arange(-outer, outer, 0.25)
    seen = {cell_of(0, x, y) for x in grid for y in grid if inner <= math.hypot(x, y) < outer}
    assert len(seen) == pytest.approx(count, rel=0.06)  # cells on the rim are seen by halves


def test_moliere_radius_is_that_of_the_detector():
    assert gflash.MOLIERE_CM == pytest.approx(2.8, rel=0.1)
    assert gflash.CRITICAL_MEV == pytest.approx(8.0, rel=0.05)


def test_depth_of_the_shower_maximum_grows_with_the_logarithm_of_the_energy():
    energies = np.array([5.0, 10.0, 20.0, 50.0, 100.0, 200.0])
    found = []
    for energy in energies:
        profile = energy_by_layer(sums(gun(ELECTRON, energy))[0])
        top = int(profile.argmax())
        a, b, _ = np.polyfit(np.arange(-2, 3), profile[top - 2 : top + 3], 2)
        middle = (DEPTH_X0[top] + DEPTH_X0[top + 1]) / 2
        found.append((middle - b / (2 * a) * 27.7 / 28) / math.tanh(2.0))
    slope, level = np.polyfit(np.log(energies), found, 1)
    assert slope == pytest.approx(1.0, abs=0.15)
    mean = gflash.mean_longitudinal(np.array([20.0])).peak[0]
    # The mean over fluctuating profiles peaks near the peak of the mean profile.
    assert slope * math.log(20.0) + level == pytest.approx(mean, abs=0.5)


def test_photons_shower_deeper_than_electrons_by_the_conversion_length():
    centre = {}
    for pdg in (ELECTRON, PHOTON):
        profile = energy_by_layer(sums(gun(pdg, 50.0, 600))[0])
        centre[pdg] = np.average((DEPTH_X0[1:] + DEPTH_X0[:-1]) / 2, weights=profile) / math.tanh(2.0)
    assert centre[PHOTON] - centre[ELECTRON] == pytest.approx(9 / 7, abs=0.35)


def test_energy_is_contained_in_moliere_radii():
    particles = gun(ELECTRON, 50.0)
    deposits, _ = sums(particles)
    _, centres = cell_centres(deposits.cell)
    axis = axes(particles)[0]
    distance = np.linalg.norm(centres - (centres @ axis)[:, None] * axis, axis=1)
    contained = [deposits.energy[distance < n * gflash.MOLIERE_CM].sum() / deposits.energy.sum() for n in (1, 2, 3.5)]
    assert contained[0] == pytest.approx(0.90, abs=0.05)  # by the definition of the radius
    assert contained[1] == pytest.approx(0.95, abs=0.03)
    assert contained[2] > 0.96


@pytest.mark.parametrize("pdg, stochastic", [(ELECTRON, 0.214), (PHOTON, 0.214), (PION, 0.75)])
def test_response_is_linear_and_resolution_falls_with_the_root_of_the_energy(pdg, stochastic):
    count = 600
    for energy in (10.0, 40.0, 160.0):
        _, seen = sums(gun(pdg, energy, count))
        resolution = seen.std() / seen.mean()
        # 4 standard errors of mean and deviation; some energy leaves through the back or the side.
        assert seen.mean() / energy == pytest.approx(1.0, abs=0.02 + 4 * stochastic / math.sqrt(energy * count))
        assert resolution * math.sqrt(energy) == pytest.approx(stochastic, rel=0.17)


def test_spots_and_visible_energies_have_their_moments():
    rng = np.random.default_rng(0)
    seen = gflash.visible(np.full(40_000, 2.0), np.array(0.2), rng)
    assert seen.mean() == pytest.approx(2.0, rel=0.01) and seen.std() == pytest.approx(0.2 * math.sqrt(2), rel=0.03)
    assert gflash.visible(np.zeros(3), np.array(0.2), rng).tolist() == [0, 0, 0]
    assert gflash.mean_spots(np.array([1.0]), np.array([0.206])) == pytest.approx(50.0)


def test_shares_add_up_and_are_nothing_in_front_of_the_start():
    profile = gflash.Longitudinal(np.array([3.0, 4.0]), np.array([5.0, 7.0]))
    shares = gflash.shares_between(profile, np.stack([np.linspace(-3, 60, 64)] * 2))
    assert shares.sum(1) == pytest.approx([1, 1], abs=1e-6) and (shares[:, :3] == 0).all()
    assert shares[0, 3:].argmax() == pytest.approx(4.5, abs=0.6)  # the bin from 4 or from 5 X0


def test_pions_interact_after_a_length_and_leave_a_track_before():
    rng = np.random.default_rng(0)
    start = hadrons.first_interactions(20_000, rng)
    assert start.mean() == pytest.approx(1.0, abs=0.03) and (start > 1).mean() == pytest.approx(math.exp(-1), abs=0.01)
    track = hadrons.track_deposits(np.full(500, 50.0), np.full(500, 3.0), np.ones(500), rng)
    crossed = DEPTH_LAMBDA[1:] <= 3.0
    assert track[:, crossed].mean(0) == pytest.approx(MIP_GEV[crossed], rel=0.06)
    assert (track[:, DEPTH_LAMBDA[:-1] >= 3.0] == 0).all()
    assert hadrons.track_deposits(np.array([0.05]), np.array([9.0]), np.ones(1), rng).sum() == pytest.approx(0.05)
    assert hadrons.draw_em_part(np.full(5000, 100.0), rng).mean() == pytest.approx(1 - 100**-0.18, abs=0.01)


def test_hadrons_are_wider_and_deeper_than_electrons():
    width, depth = {}, {}
    for pdg in (ELECTRON, PION):
        deposits, _ = sums(gun(pdg, 50.0))
        _, centres = cell_centres(deposits.cell)
        axis = axes(gun(pdg, 50.0, 1))[0]
        distance = np.linalg.norm(centres - (centres @ axis)[:, None] * axis, axis=1)
        order = np.argsort(distance)
        inside = np.cumsum(deposits.energy[order]) / deposits.energy.sum()
        width[pdg] = distance[order][np.searchsorted(inside, 0.9)]
        depth[pdg] = np.average(centres[:, 2], weights=deposits.energy)
    assert width[PION] > 2 * width[ELECTRON] and 8 < width[PION] < 25  # one interaction length is about 20 cm
    assert depth[PION] > depth[ELECTRON] + 15


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


def test_wrong_particles_are_named():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="pdg must be 11, 22 or 211, got 13"):
        simulate_showers(gun(13, 1.0, 1), rng)
    with pytest.raises(ValueError, match="energy must be positive and finite"):
        simulate_showers(gun(ELECTRON, math.nan, 1), rng)
    assert len(simulate_showers(gun(PION, 1.0, 0), rng).cell) == 0


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
