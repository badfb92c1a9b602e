# SPDX-License-Identifier: Apache-2.0
"""Which particles an event has: the ones that are to be found, and the pile-up around them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pcperc.simulation.calorimeter.showers import ELECTRON, PHOTON, PION, Particles

TAU, TAU_MASS = 15, 1.777
# Visible products of the decays without muons, with their rates (Particle Data Group, rounded; pi0 as two photons).
TAU_DECAYS = (
    ((PION,), 0.108),
    ((PION, PHOTON, PHOTON), 0.255),
    ((PION, PION, PION), 0.093),
    ((PION, PHOTON, PHOTON, PHOTON, PHOTON), 0.093),
    ((ELECTRON,), 0.178),
)
ENERGY_RANGE = (10.0, 200.0)  # GeV, flat in the logarithm
ETA_RANGE = (1.65, 2.85)  # so far from the edges that a shower is inside
CLOSE_SHARE, CLOSE_DISTANCE = 0.4, 0.12  # how many are put beside another one, and within what distance in (eta, phi)

# Pile-up: one proton-proton interaction at 14 TeV has some 6 charged particles and 6 photons a unit of rapidity, soft.
CHARGED_PER_ETA, PHOTONS_PER_ETA = 6.0, 6.0
MEAN_PT_CHARGED, MEAN_PT_PHOTON = 0.55, 0.30  # GeV
PILE_UP_ETA = (1.475, 3.0)
LEAST_ENERGY = 0.2  # GeV; what is softer leaves nothing above the thresholds


class Generated(NamedTuple):
    """Particles with their origin.

    Attributes:
        particles: P of them. parent: (P,) index of the primary a particle stems from; the products of a tau share one.
        parent_pdg: (P,) ELECTRON, PHOTON, PION or TAU.
    """

    particles: Particles
    parent: np.ndarray
    parent_pdg: np.ndarray


def draw_signal(count: int, rng: np.random.Generator) -> Generated:
    """Draw ``count`` primaries; the first is an electron or a photon, the second a charged pion: no class lacks.

    The others are electrons, photons, charged pions and taus, 30, 25, 30 and 15 of 100; some are put close to another.
    """
    rows, placed = [], []
    for parent in range(count):
        kinds, rates = ((ELECTRON, PHOTON, PION, TAU), (0.3, 0.25, 0.3, 0.15))
        if parent < 2:
            kinds, rates = ((ELECTRON, PHOTON), (0.5, 0.5)) if parent == 0 else ((PION,), (1.0,))
        pdg = int(rng.choice(kinds, p=rates))
        energy = math.exp(rng.uniform(*np.log(ENERGY_RANGE)))
        eta, phi = _place(placed, rng)
        placed.append((eta, phi))
        products = [(pdg, energy, eta, phi)] if pdg != TAU else decay_tau(energy, eta, phi, rng)
        rows += [(*product, parent, pdg) for product in products]
    table = np.array(rows, np.float64).reshape(-1, 6)
    particles = Particles(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3])
    return Generated(particles, table[:, 4].astype(np.int64), table[:, 5].astype(np.int64))


def _place(placed: list[tuple[float, float]], rng: np.random.Generator) -> tuple[float, float]:
    """Draw a direction, now and then beside one that is there."""
    if placed and rng.random() < CLOSE_SHARE:
        eta, phi = placed[int(rng.integers(len(placed)))]
        distance, turn = CLOSE_DISTANCE * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        eta, phi = eta + distance * math.cos(turn), phi + distance * math.sin(turn)
        return float(np.clip(eta, *ETA_RANGE)), math.remainder(phi, 2 * math.pi)
    return rng.uniform(*ETA_RANGE), rng.uniform(-math.pi, math.pi)


def decay_tau(energy: float, eta: float, phi: float, rng: np.random.Generator) -> list[tuple[int, float, float, float]]:
    """Draw the visible products of a tau: (pdg, energy, eta, phi) of each.

    The energy is shared flatly among the products and one neutrino (a Dirichlet distribution). Each is turned away from
    the tau by a transverse momentum of the order of ``m / (products + 1)``: at 50 GeV products are centimetres apart.
    """
    rates = np.array([rate for _, rate in TAU_DECAYS])
    kinds = TAU_DECAYS[int(rng.choice(len(rates), p=rates / rates.sum()))][0]
    parts = rng.dirichlet(np.ones(len(kinds) + 1))[:-1]
    out = []
    for pdg, part in zip(kinds, parts, strict=True):
        share = max(energy * part, 1.0)  # a softer one is hard to tell from pile-up
        sideways = rng.normal(0.0, TAU_MASS / (len(kinds) + 1), 2) * math.cosh(eta) / share
        shift = np.clip(sideways, -0.15, 0.15)
        out.append((pdg, share, float(np.clip(eta + shift[0], *ETA_RANGE)), phi + float(shift[1])))
    return out


def draw_pile_up(interactions: float, rng: np.random.Generator) -> Particles:
    """Draw the soft particles of a Poisson number of interactions of mean ``interactions``.

    Flat in eta and phi, transverse momenta of an exponential distribution in ``pt^2 / mean`` (a gamma distribution of
    shape 2); charged ones count as pions, energies as ``pt cosh(eta)``.
    """
    collisions = rng.poisson(interactions)
    span = PILE_UP_ETA[1] - PILE_UP_ETA[0]
    charged, photons = rng.poisson(collisions * span * np.array([CHARGED_PER_ETA, PHOTONS_PER_ETA]))
    pdg = np.repeat([PION, PHOTON], [charged, photons])
    eta, phi = rng.uniform(*PILE_UP_ETA, len(pdg)), rng.uniform(-math.pi, math.pi, len(pdg))
    mean = np.where(pdg == PION, MEAN_PT_CHARGED, MEAN_PT_PHOTON)
    energy = rng.gamma(2.0, mean / 2.0) * np.cosh(eta)
    return Particles(pdg, energy, eta, phi).take(energy > LEAST_ENERGY)
