# SPDX-License-Identifier: Apache-2.0
"""From particles at the front of the endcap to energies in its cells."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pcperc.simulation.calorimeter import gflash, hadrons
from pcperc.simulation.calorimeter.geometry import DEPTH_X0, LAYER_Z, LAYERS, cell_of, thickness_index
from pcperc.simulation.jit import cached_njit

ELECTRON, PHOTON, PION = 11, 22, 211  # particle numbers of the Particle Data Group, charge apart


class Particles(NamedTuple):
    """What enters the endcap, from the origin and straight: no magnetic field. (P,) each.

    Attributes:
        pdg: ELECTRON, PHOTON or PION. energy: GeV. eta, phi: direction, eta > 0.
    """

    pdg: np.ndarray
    energy: np.ndarray
    eta: np.ndarray
    phi: np.ndarray

    def slant(self) -> np.ndarray:
        """Return the cosine of the angle to the beam, ``tanh(eta)``."""
        return np.tanh(self.eta)

    def take(self, index: np.ndarray) -> Particles:
        """Return the particles of an index or mask."""
        return Particles(*(column[index] for column in self))


class Deposits(NamedTuple):
    """Energy by cell and particle, (D,) each; a pair may occur more than once.

    Attributes:
        cell: id as of `cell_of`. particle: index of the particle. energy: GeV.
    """

    cell: np.ndarray
    particle: np.ndarray
    energy: np.ndarray

    @staticmethod
    def joined(parts: list[Deposits]) -> Deposits:
        """Return all deposits of several lists."""
        return Deposits(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@cached_njit
def scatter_spots(energy, spots, core, tail, weight, axis, rng):
    """Cut the energy of each particle and layer into spots around the particle's axis.

    A spot has an exponentially distributed part of the layer's energy; all parts add up to it. Spots outside the
    endcap are lost.

    Args:
        energy, spots, core, tail, weight: (P, L): GeV, number of spots, radii in cm, probability of the core.
        axis: (P, 3) unit directions from the origin. rng: numpy Generator.
    Returns:
        cell, particle, energy of each spot that hit a cell.
    """
    total = 0
    for count in spots.flat:
        total += count
    cell = np.empty(total, np.int64)
    particle = np.empty(total, np.int64)
    value = np.empty(total)
    kept = 0
    for p in range(energy.shape[0]):
        dx, dy, dz = axis[p, 0], axis[p, 1], axis[p, 2]
        across = math.hypot(dx, dy)
        ux, uy = dx / across, dy / across
        for layer in range(energy.shape[1]):
            count = spots[p, layer]
            first, drawn = kept, 0.0
            for _ in range(count):
                part = -math.log(1.0 - rng.random())
                drawn += part
                radius = core[p, layer] if rng.random() < weight[p, layer] else tail[p, layer]
                u = 0.998 * rng.random()  # farther out than 22 R the formula has no meaning any more
                r, turn = radius * math.sqrt(u / (1.0 - u)), 2.0 * math.pi * rng.random()
                outwards = across / dz * LAYER_Z[layer] + r * math.cos(turn) / dz
                aside = r * math.sin(turn)
                found = cell_of(layer, outwards * ux - aside * uy, outwards * uy + aside * ux)
                if found >= 0:
                    cell[kept], particle[kept], value[kept] = found, p, part
                    kept += 1
            for i in range(first, kept):
                value[i] *= energy[p, layer] / drawn
    return cell[:kept], particle[:kept], value[:kept]


def axes(particles: Particles) -> np.ndarray:
    """Return unit directions, (P, 3) float64."""
    across = 1.0 / np.cosh(particles.eta)
    return np.stack([across * np.cos(particles.phi), across * np.sin(particles.phi), particles.slant()], axis=1)


def _spots(mean: np.ndarray, energy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the number of spots of each layer: at least one wherever there is energy."""
    return np.where(energy > 0, np.maximum(rng.poisson(mean), 1), 0)


def electromagnetic_deposits(particles: Particles, rng: np.random.Generator) -> Deposits:
    """Simulate electrons and photons; a photon begins to shower at a conversion, 9/7 X0 deep at the mean."""
    energy, slant = particles.energy, particles.slant()
    start = np.where(particles.pdg == PHOTON, rng.exponential(9.0 / 7.0, len(energy)), 0.0)
    profile = gflash.draw_longitudinal(energy, rng)
    depths = DEPTH_X0 / slant[:, None] - start[:, None]
    shares = gflash.shares_between(profile, depths)
    radius = LAYER_Z[0] * np.tan(np.arccos(slant))
    stochastic = gflash.STOCHASTIC[thickness_index(radius)]
    seen = gflash.visible(energy[:, None] * shares, stochastic[:, None], rng)
    middle = (depths[:, 1:] + depths[:, :-1]).clip(0) / 2
    core, tail, weight = gflash.lateral(energy, middle / profile.peak[:, None])
    spots = _spots(gflash.mean_spots(energy, stochastic)[:, None] * shares, seen, rng)
    scale = gflash.MOLIERE_CM
    return Deposits(*scatter_spots(seen, spots, core * scale, tail * scale, weight, axes(particles), rng))


def pion_deposits(particles: Particles, rng: np.random.Generator) -> Deposits:
    """Simulate charged pions: the track up to the first interaction, then the shower of what energy is left."""
    energy, slant, direction = particles.energy, particles.slant(), axes(particles)
    start = hadrons.first_interactions(len(energy), rng)
    track = hadrons.track_deposits(energy, start, slant, rng)
    left = (energy - track.sum(1)).clip(0)
    shares = hadrons.shower_shares(left, start, slant, hadrons.draw_em_part(np.maximum(left, 1e-3), rng))
    both = shares[0] + shares[1]
    seen = gflash.visible(left[:, None] * both, np.array(hadrons.STOCHASTIC), rng)
    weight = np.divide(shares[0], both, out=np.zeros_like(both), where=both > 0)
    spots = _spots(hadrons.SPOTS_PER_GEV * left[:, None] * both, seen, rng)
    halo, flat = hadrons.halo_radius(start, slant), np.ones_like(both)
    shower = scatter_spots(seen, spots, hadrons.CORE_CM * flat, halo, weight, direction, rng)
    thin = 0.05 * flat
    line = scatter_spots(track, (track > 0).astype(np.int64), thin, thin, flat, direction, rng)
    return Deposits.joined([Deposits(*shower), Deposits(*line)])


def simulate_showers(particles: Particles, rng: np.random.Generator) -> Deposits:
    """Return what particles leave in the cells of the endcap.

    Raises:
        ValueError: a particle that is not simulated, or an energy that is not positive and finite.
    """
    pion = particles.pdg == PION
    known = pion | (particles.pdg == ELECTRON) | (particles.pdg == PHOTON)
    if not known.all():
        raise ValueError(f"simulate_showers: pdg must be 11, 22 or 211, got {particles.pdg[~known][0]}")
    wrong = ~(np.isfinite(particles.energy) & (particles.energy > 0))
    if wrong.any():
        raise ValueError(f"simulate_showers: energy must be positive and finite, got {particles.energy[wrong][0]}")
    parts = []
    for mask, simulate in ((~pion, electromagnetic_deposits), (pion, pion_deposits)):
        rows = np.flatnonzero(mask)
        deposits = simulate(particles.take(rows), rng)
        parts.append(deposits._replace(particle=rows[deposits.particle]))
    return Deposits.joined(parts)


def energy_by_layer(deposits: Deposits) -> np.ndarray:
    """Return the sum in each layer, (52,) GeV."""
    return np.bincount(deposits.cell >> 42, weights=deposits.energy, minlength=LAYERS)
