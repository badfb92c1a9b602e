# SPDX-License-Identifier: Apache-2.0
"""Pictures one after the other as a GIF, without a display."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from pcperc.files import written_whole


def save_gif(path: str | Path, pictures: Iterable[np.ndarray], *, seconds_each: float = 0.5) -> Path:
    """Write an endless animation; the name appears only when the file is whole.

    Args:
        path: of the .gif file.
        pictures: (H, W, 3) uint8 RGB, all of one size; taken one at a time.
        seconds_each: how long each is shown, in steps of a hundredth.
    Raises:
        ValueError: no picture, pictures of different sizes, or another ending of the name.
        OSError: the file cannot be written; the message names it.
    """
    path = Path(path)
    if path.suffix != ".gif":
        raise ValueError(f"save_gif: path must end in .gif, got {path}")
    frames, size = [], None
    for picture in pictures:
        if size not in (None, picture.shape):
            raise ValueError(f"save_gif: pictures must be of one size, got {size} and {picture.shape}")
        size = picture.shape
        # 256 colours a picture, without dithering: flat backgrounds stay flat and the file small.
        frames.append(Image.fromarray(picture).quantize(256, dither=Image.Dither.NONE))
    if not frames:
        raise ValueError("save_gif: pictures must have at least one entry, got none")
    with written_whole(path) as partial:
        milliseconds = round(1000 * seconds_each)
        frames[0].save(partial, "GIF", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    return path
