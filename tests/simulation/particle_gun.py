# SPDX-License-Identifier: Apache-2.0
"""Equal particles for the calorimeter simulator."""

import numpy as np

from pcperc.simulation.calorimeter.showers import (
    Particles,
)

SHOWERS = 200


def gun(pdg, energy, count=SHOWERS, eta=2.0):
    """Equal particles side by side in azimuth, so that each is its own shower."""
    return Particles(np.full(count, pdg), np.full(count, float(energy)), np.full(count, eta), np.zeros(count))
