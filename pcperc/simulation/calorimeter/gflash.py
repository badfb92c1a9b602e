# SPDX-License-Identifier: Apache-2.0
"""Electromagnetic showers by the GFlash parametrisation for sampling calorimeters.

Source: Grindhammer & Peters, hep-ex/0001020; constants as in Geant4's GFlashHomoShowerParameterisation and
GFlashSamplingShowerParameterisation. Depths t in radiation lengths from the start of the shower, radii r in Moliere
radii, energies in GeV unless a name says otherwise; p and a stand for the passive and the active material.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import gammainc

# Tungsten, thinned to the mean density of the front compartment (27.7 X0 of 6.76 g/cm2 in 30.5 cm); silicon between.
Z_PASSIVE, A_PASSIVE, X0_G_CM2, DENSITY_G_CM3 = 74.0, 183.84, 6.76, 27.7 * 6.76 / 30.5
Z_ACTIVE = 14.0
CRITICAL_MEV = 2.66 * (X0_G_CM2 * Z_PASSIVE / A_PASSIVE) ** 1.1
MOLIERE_CM = X0_G_CM2 * 21.2 / CRITICAL_MEV / DENSITY_G_CM3
SAMPLINGS = 28 / 27.7  # Fs: layers a radiation length
E_HAT = 1.0 / (1.0 + 0.007 * (Z_PASSIVE - Z_ACTIVE))  # response to electrons over that to MIPs
STOCHASTIC = np.array([0.243, 0.214, 0.199])  # sigma(E)/E at 1 GeV for sensors of 100, 200, 300 um (HGCAL-FastShower)


class Longitudinal(NamedTuple):
    """Profiles ``f(t) = (b t)^(a-1) b exp(-b t) / Gamma(a)``.

    Attributes:
        shape: a, (P,). peak: T = (a - 1) / b, (P,), the depth of the maximum in X0.
    """

    shape: np.ndarray
    peak: np.ndarray


def mean_longitudinal(energy: np.ndarray) -> Longitudinal:
    """Return the profile of an average shower, ``y = E / Ec``:

    ``T = ln y - 0.812 - 0.55 / Fs - 0.69 (1 - ehat)``, ``a = 0.81 + (0.458 + 2.26 / Z) ln y - 0.476 / Fs``.
    Below some 0.1 GeV, where these leave their range, T stays at 0.3 and a at 1.1.
    """
    log_y = np.log(np.asarray(energy, np.float64) * 1e3 / CRITICAL_MEV)
    peak = log_y - 0.812 - 0.55 / SAMPLINGS - 0.69 * (1 - E_HAT)
    shape = 0.81 + (0.458 + 2.26 / Z_PASSIVE) * log_y - 0.476 / SAMPLINGS
    return Longitudinal(np.maximum(shape, 1.1), np.maximum(peak, 0.3))


def draw_longitudinal(energy: np.ndarray, rng: np.random.Generator) -> Longitudinal:
    """Draw the profile of each shower: (ln T, ln a) are normal and correlated.

    ``sigma(ln T) = 1 / (-2.5 + 1.25 ln y)``, ``sigma(ln a) = 1 / (-0.82 + 0.79 ln y)``, ``rho = 0.784 - 0.023 ln y``;
    ln y counts as 3.5 at the least (0.27 GeV), towards 2 the first formula has a pole.
    """
    mean = mean_longitudinal(energy)
    log_y = np.maximum(np.log(np.asarray(energy) * 1e3 / CRITICAL_MEV), 3.5)
    rho = 0.784 - 0.023 * log_y
    same, opposite = np.sqrt((1 + rho) / 2), np.sqrt((1 - rho) / 2)
    z1, z2 = rng.standard_normal((2, len(log_y)))
    peak = mean.peak * np.exp((same * z1 + opposite * z2) / (-2.5 + 1.25 * log_y))
    shape = mean.shape * np.exp((same * z1 - opposite * z2) / (-0.82 + 0.79 * log_y))
    return Longitudinal(np.maximum(shape, 1.05), peak)


def shares_between(profile: Longitudinal, depths: np.ndarray) -> np.ndarray:
    """Return the part of the energy that a shower leaves between successive depths.

    Args:
        profile: of P showers. depths: (P, L + 1) X0 behind the start of the shower; in front of it they are negative.
    Returns:
        (P, L): differences of the regularised incomplete gamma function P(a, b t).
    """
    scale = ((profile.shape - 1) / profile.peak)[:, None]
    return np.diff(gammainc(profile.shape[:, None], scale * np.maximum(depths, 0.0)), axis=1)


def lateral(energy: np.ndarray, relative_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return radius of the core, radius of the tail and weight of the core at depths ``tau = t / T``.

    ``f(r) = p 2 r Rc^2 / (r^2 + Rc^2)^2 + (1 - p) 2 r Rt^2 / (r^2 + Rt^2)^2``, so that a spot of either part is at
    ``r = R sqrt(u / (1 - u))`` for a uniform u, and a circle of radius r holds ``r^2 / (r^2 + R^2)`` of it.

    Args:
        energy: (P,). relative_depth: (P, L).
    Returns:
        Rc, Rt in Moliere radii and p in [0, 1], each (P, L).
    """
    log_e, tau, z = np.log(np.asarray(energy, np.float64))[:, None], relative_depth, Z_PASSIVE
    core = 0.0251 + 0.00319 * log_e + (0.1162 - 0.000381 * z) * tau
    growth = np.exp(-2.59 * (tau - 0.645)) + np.exp((0.3585 + 0.0412 * log_e) * np.minimum(tau - 0.645, 4.0))
    tail = (0.659 - 0.00309 * z) * growth
    rise = (0.401 + 0.00187 * z - tau) / (1.313 - 0.0686 * log_e)
    weight = (2.632 - 0.00094 * z) * np.exp(rise - np.exp(rise))
    core = core - 0.0203 * (1 - E_HAT) + 0.0397 / SAMPLINGS * np.exp(-tau)
    tail = tail - 0.14 * (1 - E_HAT) - 0.495 / SAMPLINGS * np.exp(-tau)
    weight = weight + (1 - E_HAT) * (0.348 - 0.642 / SAMPLINGS * np.exp(-((tau - 1) ** 2)))
    return np.maximum(core, 0.01), np.maximum(tail, 0.05), np.clip(weight, 0.0, 1.0)


def mean_spots(energy: np.ndarray, stochastic: np.ndarray) -> np.ndarray:
    """Return how many spots stand for a shower: ``10.3 / sigma * E^0.959``.

    They are spread as the energy is and differ in it; GFlash's have a profile of their own,
    ``T_spot = T (0.698 + 0.00212 Z)``, ``a_spot = a (0.639 + 0.00334 Z)``, and equal energies at one depth.
    """
    return 10.3 / stochastic * np.asarray(energy) ** 0.959


def visible(energy: np.ndarray, stochastic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw what is seen of energies of which sampling leaves ``sigma(E) / E = stochastic / sqrt(E)``.

    A gamma distribution of mean E and variance ``stochastic^2 E``: energies of layers drawn apart add up to a sum that
    is distributed alike.
    """
    square = np.broadcast_to(np.square(stochastic), energy.shape)
    return np.where(energy > 0, rng.gamma(np.maximum(energy / square, 1e-12), square), 0.0)
