# SPDX-License-Identifier: Apache-2.0
"""Where showers of the calorimeter simulator leave their energy: around the axis, by parts of a pion, by sensors."""

import math

import numpy as np
import pytest

from pcperc.simulation.calorimeter import gflash, hadrons, showers
from pcperc.simulation.calorimeter.geometry import DEPTH_LAMBDA, LAYERS, MIP_GEV, cell_centres
from pcperc.simulation.calorimeter.showers import ELECTRON, PION, pion_deposits, simulate_showers
from tests.simulation.particle_gun import gun


def beside_the_axis(particles, deposits):
    """Places relative to the axis in the layer's plane, (D,) cm each: away from the beam, and around it."""
    _, places = cell_centres(deposits.cell)
    phi, eta = particles.phi[deposits.particle], particles.eta[deposits.particle]
    outwards = places[:, 0] * np.cos(phi) + places[:, 1] * np.sin(phi) - places[:, 2] / np.sinh(eta)
    return outwards, places[:, 1] * np.cos(phi) - places[:, 0] * np.sin(phi)


@pytest.mark.parametrize("pdg", [ELECTRON, PION])
@pytest.mark.parametrize("phi", [0.0, 0.8, -2.2])
def test_showers_are_round_about_their_axis_whatever_its_direction(pdg, phi):
    """Seen along the axis; a layer cuts it at an angle, which stretches it away from the beam by 1 / tanh(eta)."""
    rng = np.random.default_rng(0)
    around = rng.uniform(-0.1, 0.1, (2, 400))  # some 10 cm, so that the cells' own places average out
    particles = gun(pdg, 50.0, 400)._replace(phi=phi + around[0], eta=1.7 + around[1])
    deposits = simulate_showers(particles, rng)
    out, aside = beside_the_axis(particles, deposits)
    out = out * np.tanh(particles.eta[deposits.particle])
    near = np.hypot(out, aside) < 8  # so that the rim of the endcap takes nothing away
    out, aside, energy = out[near], aside[near], deposits.energy[near]
    width = [np.average(np.abs(values), weights=energy) for values in (out, aside)]
    for values, scale in zip((out, aside), width, strict=True):
        assert abs(np.average(values, weights=energy)) < 0.06 * scale
        assert np.average(values > 0, weights=energy) == pytest.approx(0.5, abs=0.04)
    assert width[0] == pytest.approx(width[1], rel=0.03)
    assert abs(np.corrcoef(out, aside)[0, 1]) < 0.05


def test_spots_end_at_22_radii():
    """One layer, a radius of 1 cm: a circle of r cm holds r^2 / (r^2 + 1) / 0.998; cells are some 1 cm wide."""
    count, layer = 200_000, 5
    particles = gun(ELECTRON, 1.0, 1)
    energy, ones = np.zeros((1, LAYERS)), np.ones((1, LAYERS))
    energy[0, layer] = 1.0
    spots = (count * energy).astype(np.int64)
    found = showers.scatter_spots(energy, spots, ones, ones, ones, showers.axes(particles), np.random.default_rng(0))
    deposits = showers.Deposits(*found)
    assert len(deposits.cell) == count and deposits.energy.sum() == pytest.approx(1.0)
    out, aside = beside_the_axis(particles, deposits)
    distance = np.hypot(out * np.tanh(2.0), aside)
    for radius in (5.0, 10.0, 15.0):
        beyond = 1 - radius**2 / (radius**2 + 1) / 0.998
        assert (distance > radius).mean() == pytest.approx(beyond, rel=0.1)
    assert 21 < distance.max() < math.sqrt(0.998 / 0.002) + 0.7


@pytest.mark.parametrize("eta, stochastic", [(2.7, 0.243), (2.0, 0.214), (1.65, 0.199)])
def test_resolution_is_that_of_the_sensors_that_the_shower_meets(eta, stochastic):
    """100 um close to the beam, 200 um, 300 um outside; 3 standard errors of 3000 showers are 4 %."""
    assert np.searchsorted([75.0, 120.0], 320.75 / math.sinh(eta)) == [0.243, 0.214, 0.199].index(stochastic)
    deposits = simulate_showers(gun(ELECTRON, 20.0, 3000, eta), np.random.default_rng(1))
    seen = np.bincount(deposits.particle, weights=deposits.energy)
    assert seen.std() / seen.mean() * math.sqrt(20.0) == pytest.approx(stochastic, rel=0.06)


def test_soft_pions_leave_no_more_than_they_have():
    """The shower has what the track has left: at 2 GeV that is a tenth less, and must not be counted twice."""
    deposits = simulate_showers(gun(PION, 2.0, 4000), np.random.default_rng(0))
    assert deposits.energy.sum() / 8000 == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("em_part, radius", [(1.0, hadrons.CORE_CM), (0.0, None)])
def test_the_electromagnetic_part_of_a_pion_is_its_core(em_part, radius, monkeypatch):
    """Of two-part profiles a circle of radius r holds r^2 / (r^2 + R^2); the halo's R grows with depth."""
    drawn = []

    def em_parts(energy, rng):
        drawn.append(energy)
        return np.full(len(energy), em_part)

    monkeypatch.setattr(showers.hadrons, "draw_em_part", em_parts)
    monkeypatch.setattr(showers.hadrons, "first_interactions", lambda count, rng: np.full(count, 2.0))
    particles = gun(PION, 100.0, 100)
    deposits = pion_deposits(particles, np.random.default_rng(0))
    track = np.interp(2.0 * np.tanh(2.0), DEPTH_LAMBDA, np.append(0, np.cumsum(MIP_GEV))) / np.tanh(2.0)
    assert drawn[0].mean() == pytest.approx(100 - track, abs=0.1)
    out, aside = beside_the_axis(particles, deposits)
    layers = cell_centres(deposits.cell)[0]
    distance = np.hypot(out * np.tanh(2.0), aside)
    for layer in (32, 36):
        own = layers == layer
        depth = DEPTH_LAMBDA[layer + 1] / np.tanh(2.0) - 2.0
        expected = radius or 4.0 + depth
        r = 2 * expected
        held = deposits.energy[own & (distance < r)].sum() / deposits.energy[own].sum()
        assert held == pytest.approx(0.8, abs=0.05)


def test_parts_of_a_pion_by_numbers():
    """Path lengths along a slanted track, the spread of the electromagnetic part, the radius of the halo."""
    rng = np.random.default_rng(0)
    slant = 0.8
    track = hadrons.track_deposits(np.full(800, 50.0), np.full(800, 3.0), np.full(800, slant), rng)
    crossed = DEPTH_LAMBDA[1:] / slant <= 3.0
    assert crossed.sum() > 28
    assert track[:, crossed].mean(0) == pytest.approx(MIP_GEV[crossed] / slant, rel=0.05)
    assert (track[:, DEPTH_LAMBDA[:-1] / slant >= 3.0] == 0).all()
    assert track[:, 3].std() == pytest.approx(0.2 * MIP_GEV[3] / slant, rel=0.15)
    part = hadrons.draw_em_part(np.full(20_000, 100.0), rng)
    assert part.std() == pytest.approx(0.15, rel=0.03) and 0 < part.min() < part.max() < 1
    halo = hadrons.halo_radius(np.array([2.0]), np.array([slant]))[0]
    depth = DEPTH_LAMBDA[1:] / slant
    assert halo == pytest.approx([4.0 + max(0.0, value - 2.0) for value in depth])
    # Steel of 35 and 68 mm at 11.4 MeV/cm behind 10.5 MeV of lead, tungsten and copper.
    assert MIP_GEV[[0, 27, 28, 39, 40, 51]] == pytest.approx([0.0105] * 2 + [0.0399] * 2 + [0.0775] * 2, rel=0.01)
    for energy, stochastic in ((0.5, 0.243), (50.0, 0.199)):
        expected = 10.3 / stochastic * math.exp(0.959 * math.log(energy))
        assert gflash.mean_spots(np.array([energy]), np.array([stochastic])) == pytest.approx(expected)
