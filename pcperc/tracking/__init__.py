# SPDX-License-Identifier: Apache-2.0
"""From boxes of single samples to objects that keep their number through a scene."""

from pcperc.tracking.greedy import GreedyTracker
from pcperc.tracking.kalman import KalmanTracker
from pcperc.tracking.tracker import Tracker

TRACKERS = {"greedy": GreedyTracker, "kalman": KalmanTracker}  # by the names of --tracker

__all__ = ["TRACKERS", "GreedyTracker", "KalmanTracker", "Tracker"]
