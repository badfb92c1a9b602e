# SPDX-License-Identifier: Apache-2.0
"""Coloured rooms with a class for each point, simulated in the layout of S3DIS."""

from pcperc.simulation.rooms.generate import Settings

__all__ = ["Settings"]
