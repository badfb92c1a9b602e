# SPDX-License-Identifier: Apache-2.0
"""The driving simulator: worlds with traffic, a spinning LiDAR, six cameras, written as a nuScenes root."""

from pcperc.simulation.driving.generate import Settings

__all__ = ["Settings"]
