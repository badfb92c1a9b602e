# SPDX-License-Identifier: Apache-2.0
"""Formulas of showers as they are published, one number at a time; never imports pcperc.

Electromagnetic: Grindhammer & Peters, hep-ex/0001020, sampling calorimeters, with the constants of Geant4's
GFlashSamplingShowerParameterisation; absorber tungsten, silicon between. Energies in GeV, depths in X0, radii in
Moliere radii. Hadronic: Bock, Hansl-Kozanecka & Shah, Nucl. Instr. Meth. 186 (1981) 533.
"""

import math

Z, A, X0 = 74.0, 183.84, 6.76  # of tungsten; g/cm2
CRITICAL_MEV = 2.66 * (X0 * Z / A) ** 1.1
FS = 28 / 27.7  # layers a radiation length
MISSING = 1 - 1 / (1 + 0.007 * (Z - 14.0))  # 1 - ehat


def longitudinal(energy):
    """T, a, sigma(ln T), sigma(ln a) and their correlation."""
    log_y = math.log(1000 * energy / CRITICAL_MEV)
    peak = math.exp(math.log(log_y - 0.812)) - 0.55 / FS - 0.69 * MISSING
    shape = 0.81 + (0.458 + 2.26 / Z) * log_y - 0.476 / FS
    return peak, shape, 1 / (-2.5 + 1.25 * log_y), 1 / (-0.82 + 0.79 * log_y), 0.784 - 0.023 * log_y


def lateral(energy, tau):
    """Rc, Rt and p at t = tau T, of a sampling calorimeter."""
    log_e = math.log(energy)
    core = (0.0251 + 0.00319 * log_e) + (0.1162 - 0.000381 * Z) * tau
    core += -0.0203 * MISSING + 0.0397 / FS * math.exp(-tau)
    k1, k2, k3, k4 = 0.659 - 0.00309 * Z, 0.645, -2.59, 0.3585 + 0.0412 * log_e
    tail = k1 * (math.exp(k3 * (tau - k2)) + math.exp(k4 * (tau - k2)))
    tail += -0.14 * MISSING - 0.495 / FS * math.exp(-tau)
    p1, p2, p3 = 2.632 - 0.00094 * Z, 0.401 + 0.00187 * Z, 1.313 - 0.0686 * log_e
    weight = p1 * math.exp((p2 - tau) / p3 - math.exp((p2 - tau) / p3))
    weight += MISSING * (0.348 - 0.642 / FS * math.exp(-((tau - 1) ** 2)))
    return core, tail, weight


def gamma_part(shape, scale, start, end, steps=4000):
    """Integral of the gamma distribution from start to end >= 0 by the midpoint rule."""
    width = (end - start) / steps
    places = (start + (i + 0.5) * width for i in range(steps))
    return sum(width * scale**shape * x ** (shape - 1) * math.exp(-scale * x) / math.gamma(shape) for x in places)


def pion(energy):
    """a, b (a unit of X0) and d (a unit of interaction length)."""
    log_e = math.log(energy)
    return 0.6165 + 0.3183 * log_e, 0.2198, 0.9099 - 0.0237 * log_e
