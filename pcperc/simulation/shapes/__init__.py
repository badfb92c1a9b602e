# SPDX-License-Identifier: Apache-2.0
"""Shapes with parts, simulated in the layout of ShapeNet-Part."""

from pcperc.simulation.shapes.generate import Settings

__all__ = ["Settings"]
