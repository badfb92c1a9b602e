# SPDX-License-Identifier: Apache-2.0
"""The calorimeter simulator: an endcap of 52 layers, GFlash showers, pile-up and noise, written as npz events."""

from pcperc.simulation.calorimeter.generate import Settings

__all__ = ["Settings"]
