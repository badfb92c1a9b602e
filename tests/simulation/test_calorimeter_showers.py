# SPDX-License-Identifier: Apache-2.0
"""Physics of the calorimeter simulator: what is measured of its showers is what the formulas and the field say."""

import math

import numpy as np
import pytest

from pcperc.simulation.calorimeter import gflash, hadrons
from pcperc.simulation.calorimeter.geometry import DEPTH_LAMBDA, DEPTH_X0, MIP_GEV, cell_centres
from pcperc.simulation.calorimeter.showers import ELECTRON, PHOTON, PION, axes, energy_by_layer, simulate_showers
from tests import oracles_showers as oracle
from tests.simulation.particle_gun import gun


def sums(particles, seed=0):
    deposits = simulate_showers(particles, np.random.default_rng(seed))
    return deposits, np.bincount(deposits.particle, weights=deposits.energy, minlength=len(particles.pdg))


def test_moliere_radius_is_that_of_the_detector():
    assert gflash.MOLIERE_CM == pytest.approx(2.8, rel=0.1)
    assert gflash.CRITICAL_MEV == pytest.approx(8.0, rel=0.05)


@pytest.mark.parametrize("energy", [1.0, 20.0, 200.0])
def test_profiles_are_those_of_the_published_formulas(energy):
    peak, shape, *_ = oracle.longitudinal(energy)
    found = gflash.mean_longitudinal(np.array([energy]))
    assert (found.peak[0], found.shape[0]) == pytest.approx((peak, shape))
    taus = [0.2, 0.7, 1.0, 2.5]
    for found, expected in zip(
        gflash.lateral(np.array([energy]), np.array([taus])),
        zip(*(oracle.lateral(energy, tau) for tau in taus), strict=True),
        strict=True,
    ):
        assert found[0] == pytest.approx(expected)


def test_profiles_fluctuate_as_published():
    """Logarithms of depth and shape: means, deviations and correlation; errors of 100,000 draws are below 0.005."""
    peak, shape, *spreads, correlation = oracle.longitudinal(20.0)
    found = gflash.draw_longitudinal(np.full(100_000, 20.0), np.random.default_rng(0))
    logs = np.log(found.peak), np.log(found.shape)
    assert [values.mean() for values in logs] == pytest.approx([math.log(peak), math.log(shape)], abs=0.005)
    assert [values.std() for values in logs] == pytest.approx(spreads, rel=0.02)
    assert np.corrcoef(*logs)[0, 1] == pytest.approx(correlation, abs=0.02)


@pytest.mark.parametrize("start, slant", [(0.0, 1.0), (1.2, 0.96)])
def test_shares_of_a_pion_are_those_of_the_published_profile(start, slant):
    """From the interaction on, along the path; the two parts side by side, in X0 and in interaction lengths."""
    energy, em_part, layers = 50.0, 0.4, (12, 27, 30, 45)
    shape, b, d = oracle.pion(energy)
    found = hadrons.shower_shares(*(np.array([value]) for value in (energy, start, slant, em_part)))
    start_x0 = np.interp(start * slant, DEPTH_LAMBDA, DEPTH_X0) / slant
    for layer in layers:
        for shares, scale, depths, begin, part in (
            (found[0], b, DEPTH_X0, start_x0, em_part),
            (found[1], d, DEPTH_LAMBDA, start, 1 - em_part),
        ):
            ends = (max(depths[i] / slant - begin, 0.0) for i in (layer, layer + 1))
            assert shares[0, layer] == pytest.approx(part * oracle.gamma_part(shape, scale, *ends), abs=1e-5)


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
    """Of 10,000 showers the standard error of the difference is 0.02."""
    centre = {}
    for pdg in (ELECTRON, PHOTON):
        profile = energy_by_layer(sums(gun(pdg, 5.0, 10_000))[0])
        centre[pdg] = np.average((DEPTH_X0[1:] + DEPTH_X0[:-1]) / 2, weights=profile) / math.tanh(2.0)
    assert centre[PHOTON] - centre[ELECTRON] == pytest.approx(9 / 7, abs=0.1)


@pytest.mark.parametrize("pdg, expected", [(ELECTRON, 10.3 / 0.214 * 50**0.959), (PION, 25.0 * 50)])
def test_showers_have_as_many_spots_as_they_should(pdg, expected):
    """Of layers with next to no energy one each, which is 0.4 % more; a pion's track adds one for each layer."""
    deposits = simulate_showers(gun(pdg, 50.0, 300), np.random.default_rng(0))
    assert len(deposits.cell) / 300 == pytest.approx(expected, rel=0.02)


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


def test_wrong_particles_are_named():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="pdg must be 11, 22 or 211, got 13"):
        simulate_showers(gun(13, 1.0, 1), rng)
    with pytest.raises(ValueError, match="energy must be positive and finite"):
        simulate_showers(gun(ELECTRON, math.nan, 1), rng)
    assert len(simulate_showers(gun(PION, 1.0, 0), rng).cell) == 0
