# SPDX-License-Identifier: Apache-2.0
"""How far apart two colours look."""

import cv2
import numpy as np


def color_distance(one, other) -> float:
    """Return the distance of two RGB colours of 0 to 255 in CIELAB (CIE 1976), in which 2.3 can just be seen."""
    rgb = np.array([[one, other]], np.float32) / 255
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
    return float(np.linalg.norm(lab[0] - lab[1]))
