# SPDX-License-Identifier: Apache-2.0
"""Showers of charged pions: a track of minimum ionisation, a first interaction, an electromagnetic core and a halo.

Profile: Bock, Hansl-Kozanecka & Shah, Nucl. Instr. Meth. 186 (1981) 533, two gamma distributions from the interaction
on, ``w (t in X0: a, b) + (1 - w) (l in interaction lengths: a, d)`` with ``a = 0.6165 + 0.3183 ln E``, ``b = 0.2198``,
``d = 0.9099 - 0.0237 ln E``, E in GeV. The electromagnetic part w is drawn around ``1 - E^(0.82 - 1)`` (Gabriel
et al., Nucl. Instr. Meth. A338 (1994) 336) instead of their constant 0.4634, which it passes at 32 GeV.
The constants are those that the literature commonly quotes; they were not checked against the papers themselves.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammainc

from pcperc.simulation.calorimeter.geometry import DEPTH_LAMBDA, DEPTH_X0, MIP_GEV

STOCHASTIC = 0.75  # sigma(E)/E at 1 GeV (HGCAL-FastShower): sampling and fluctuations of nuclear processes
EM_SPREAD = 0.15  # standard deviation of w
# Radii R of 2 r R^2 / (r^2 + R^2)^2 in cm; 9/10 of such a part is within 3 R. With these some 9/10 of a shower is
# within one interaction length (about 20 cm here), the usual containment; the halo grows with depth. Our choice.
CORE_CM, HALO_CM, HALO_GROWTH = 1.5, 4.0, 1.0
SPOTS_PER_GEV = 25.0


def first_interactions(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw depths of the first inelastic interaction in interaction lengths: exponential of mean 1."""
    return rng.exponential(1.0, count)


def mean_em_part(energy: np.ndarray) -> np.ndarray:
    """Return the mean electromagnetic part of a hadronic shower, ``1 - E^-0.18``, at least 0.1."""
    return np.maximum(1.0 - np.asarray(energy, np.float64) ** (0.82 - 1.0), 0.1)


def draw_em_part(energy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the electromagnetic part: a beta distribution of that mean and of deviation `EM_SPREAD`."""
    mean = np.clip(mean_em_part(energy), 0.1, 0.9)
    spread = np.minimum(EM_SPREAD, 0.5 * np.sqrt(mean * (1 - mean)))
    total = mean * (1 - mean) / spread**2 - 1
    return rng.beta(mean * total, (1 - mean) * total)


def track_deposits(energy: np.ndarray, start: np.ndarray, slant: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw what the pion leaves in each layer before it interacts, until its energy is used up.

    A layer takes ``MIP_GEV / slant`` at the mean and fluctuates by a Moyal-like tail: ``0.8 + 0.2 Gamma(1)`` times it.

    Args:
        energy, start, slant: (P,) GeV, interaction lengths along the path, cosine of the angle to the beam.
    Returns:
        (P, 52) GeV.
    """
    path = (np.minimum(start[:, None], DEPTH_LAMBDA[1:] / slant[:, None]) - DEPTH_LAMBDA[:-1] / slant[:, None]).clip(0)
    crossed = path / np.diff(DEPTH_LAMBDA)
    loss = crossed * MIP_GEV * (0.8 + 0.2 * rng.exponential(1.0, crossed.shape))
    before = np.cumsum(loss, axis=1) - loss
    return np.minimum(loss, (energy[:, None] - before).clip(0))


def shower_shares(
    energy: np.ndarray, start: np.ndarray, slant: np.ndarray, em_part: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the electromagnetic and the hadronic part leave in each layer, as parts of the energy, (P, 52) each.

    What is left over leaves the calorimeter behind its last layer.
    """
    log_e = np.log(np.maximum(energy, 1.0))[:, None]
    shape, hadronic_scale = 0.6165 + 0.3183 * log_e, 0.9099 - 0.0237 * log_e
    start_x0 = np.interp(start * slant, DEPTH_LAMBDA, DEPTH_X0) / slant
    t = (DEPTH_X0 / slant[:, None] - start_x0[:, None]).clip(0)
    depth = (DEPTH_LAMBDA / slant[:, None] - start[:, None]).clip(0)
    electromagnetic = np.diff(gammainc(shape, 0.2198 * t), axis=1) * em_part[:, None]
    hadronic = np.diff(gammainc(shape, hadronic_scale * depth), axis=1) * (1 - em_part[:, None])
    return electromagnetic, hadronic


def halo_radius(start: np.ndarray, slant: np.ndarray) -> np.ndarray:
    """Return the radius of the halo in each layer, (P, 52) cm: `HALO_CM` at first, `HALO_GROWTH` more a length."""
    depth = DEPTH_LAMBDA[1:] / slant[:, None] - start[:, None]
    return HALO_CM + HALO_GROWTH * depth.clip(0)
