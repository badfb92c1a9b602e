# SPDX-License-Identifier: Apache-2.0
"""Images of a data set, whole and of the expected size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pcperc.datasets.transformed import read_file


def read_image(path: str | Path, *, size: Sequence[int] = (0, 0)) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB.

    Args:
        path: a JPEG or any other format that OpenCV decodes.
        size: (height, width) that is expected; 0 accepts any.
    Raises:
        FileNotFoundError: no such file.
        ValueError: it does not decode, a JPEG is cut short, or the size is another.
    """
    content = read_file(path, "image")
    # OpenCV fills what a truncated JPEG lacks with grey and goes on; the end marker tells (padding may follow it).
    cut_short = content.startswith(b"\xff\xd8") and b"\xff\xd9" not in content[-1024:]
    image = None if cut_short or not content else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        what = "is cut short" if cut_short else "does not decode"
        raise ValueError(f"image {path} must be a whole JPEG or PNG, but {what} ({len(content)} bytes)")
    if any(size) and tuple(size) != image.shape[:2]:
        raise ValueError(f"image {path} must be of {size[0]} x {size[1]} (height x width), got {image.shape[:2]}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
