# SPDX-License-Identifier: Apache-2.0
"""Image augmentation: resize, crop, flip and rotate as one affine map, which is also the matrix in ``image_aug``.

Pixels and matrix cannot drift apart: the same 3 x 3 matrix moves the image (one ``cv2.warpAffine``) and is multiplied
onto ``image_aug``. Normalisation is not here; the model's data preprocessor does it on the device.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from pcperc.registry import TRANSFORMS
from pcperc.transforms.compose import Sample, check_probability, check_range, require_keys, rng_of


@TRANSFORMS.register_module()
class ResizeCropFlipRotate:
    """Training augmentation of every camera image, drawn anew for each camera.

    The crop takes a window of the final size at a random horizontal place, its lower edge ``bottom_crop`` of the scaled
    height above the image's lower edge (the sky is cut off, not the road); the rotation is about the window's centre.

    Args:
        final_size: (height, width) of the result in pixels.
        resize_range: factor on the recorded size, uniform.
        bottom_crop_range: part of the scaled height cut off below, uniform.
        flip_probability: of mirroring left and right.
        rotate_range_deg: degrees, counter-clockwise as seen, uniform.
    Raises:
        ValueError: a size that is not positive, a range with low > high, a probability outside [0, 1].
    Source: Liu et al., BEVFusion, ICRA 2023; the values are those of its published recipe.
    """

    def __init__(
        self,
        *,
        final_size: Sequence[int] = (256, 704),
        resize_range: Sequence[float] = (0.38, 0.55),
        bottom_crop_range: Sequence[float] = (0.0, 0.0),
        flip_probability: float = 0.5,
        rotate_range_deg: Sequence[float] = (-5.4, 5.4),
    ) -> None:
        op = type(self).__name__
        self.final_size = _check_size(op, final_size)
        self.resize_range = check_range(op, "resize_range", resize_range)
        _check_resize(op, "resize_range", self.resize_range[0])
        self.bottom_crop_range = check_range(op, "bottom_crop_range", bottom_crop_range)
        self.flip_probability = check_probability(op, "flip_probability", flip_probability)
        self.rotate_range_deg = check_range(op, "rotate_range_deg", rotate_range_deg)

    def __call__(self, sample: Sample) -> Sample:
        rng = rng_of(sample, type(self).__name__)
        draws = []
        for _ in sample.get("images", ()):
            draws.append(
                {
                    "resize": rng.uniform(*self.resize_range),
                    "bottom_crop": rng.uniform(*self.bottom_crop_range),
                    "across": rng.uniform(),
                    "flip": rng.uniform() < self.flip_probability,
                    "rotate_deg": rng.uniform(*self.rotate_range_deg),
                }
            )
        return _augment(sample, type(self).__name__, self.final_size, draws)


@TRANSFORMS.register_module()
class ResizeCrop:
    """The same without chance, for validation and testing: a fixed factor and a window in the horizontal middle.

    Args:
        final_size: (height, width) of the result in pixels.
        resize: factor on the recorded size.
        bottom_crop: part of the scaled height cut off below.
    """

    def __init__(
        self, *, final_size: Sequence[int] = (256, 704), resize: float = 0.48, bottom_crop: float = 0.0
    ) -> None:
        self.final_size = _check_size("ResizeCrop", final_size)
        self.resize = _check_resize("ResizeCrop", "resize", resize)
        self.bottom_crop = float(bottom_crop)

    def __call__(self, sample: Sample) -> Sample:
        draw = {"resize": self.resize, "bottom_crop": self.bottom_crop, "across": 0.5, "flip": False, "rotate_deg": 0.0}
        return _augment(sample, "ResizeCrop", self.final_size, [draw] * len(sample.get("images", ())))


def augmentation_matrix(
    image_size: Sequence[int],
    final_size: Sequence[int],
    *,
    resize: float,
    bottom_crop: float = 0.0,
    across: float = 0.5,
    flip: bool = False,
    rotate_deg: float = 0.0,
) -> np.ndarray:
    """Return the (3, 3) float64 matrix from a pixel [u, v, 1] of the image to one of the augmented image.

    Args:
        image_size, final_size: (height, width) in pixels before and after.
        resize: factor.
        bottom_crop: part of the scaled height left out below the window.
        across: 0 puts the window at the left end, 1 at the right one. The window's corner lies on a whole pixel.
        flip: mirror left and right, after the crop.
        rotate_deg: counter-clockwise as seen, about the window's centre, last of all.
    """
    (height, width), (final_height, final_width) = image_size, final_size
    scaled_height, scaled_width = int(height * resize), int(width * resize)
    top = int((1 - bottom_crop) * scaled_height) - final_height
    left = int(across * max(0, scaled_width - final_width))
    shift = 0.5 * resize - 0.5  # pixel centres are whole numbers: u -> resize * (u + 0.5) - 0.5
    matrix = np.array([[resize, 0, shift - left], [0, resize, shift - top], [0, 0, 1]], dtype=np.float64)
    if flip:
        matrix = np.array([[-1.0, 0, final_width - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    if rotate_deg:
        cos, sin = math.cos(math.radians(rotate_deg)), math.sin(math.radians(rotate_deg))
        cu, cv = (final_width - 1) / 2, (final_height - 1) / 2
        # v grows downwards, so the visible counter-clockwise turn is [[cos, sin], [-sin, cos]].
        turn = [[cos, sin, cu - cos * cu - sin * cv], [-sin, cos, cv + sin * cu - cos * cv], [0, 0, 1]]
        matrix = np.array(turn) @ matrix
    return matrix


def warp_image(image: np.ndarray, matrix: np.ndarray, final_size: Sequence[int]) -> np.ndarray:
    """Move an (H, W, 3) uint8 image by a (3, 3) affine pixel matrix; outside it is black.

    Bilinear interpolation looks at 2 x 2 pixels, so an image to be made much smaller is first averaged over squares of
    2^n pixels (the mean of INTER_AREA; n such that the rest of the scaling lies in about [0.6, 1.2]), and the warp's
    matrix accounts for it exactly. The published pipeline filters against aliasing too (Pillow's resize).
    """
    scale = math.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    square = 2 ** max(0, math.floor(0.25 - math.log2(scale)))
    if square > 1:
        height, width = image.shape[:2]
        pad_below, pad_right = -height % square, -width % square
        if pad_below or pad_right:
            image = cv2.copyMakeBorder(image, 0, pad_below, 0, pad_right, cv2.BORDER_REPLICATE)
        size = (image.shape[1] // square, image.shape[0] // square)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        centre = (square - 1) / 2
        matrix = matrix @ np.array([[square, 0, centre], [0, square, centre], [0, 0, 1]], dtype=np.float64)
    size = (int(final_size[1]), int(final_size[0]))
    return cv2.warpAffine(image, matrix[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _augment(sample: Sample, op: str, final_size: tuple[int, int], draws: list[dict]) -> Sample:
    """Warp every image by its draw and multiply the matrix onto ``image_aug``."""
    require_keys(sample, op, "images", "image_aug")
    image_aug = np.array(sample["image_aug"], dtype=np.float64)
    if image_aug.shape != (len(draws), 3, 3):
        raise ValueError(f"{op}: image_aug must be ({len(draws)}, 3, 3), one for each image, got {image_aug.shape}")
    images = []
    for view, (image, draw) in enumerate(zip(sample["images"], draws, strict=True)):
        matrix = augmentation_matrix(image.shape[:2], final_size, **draw)
        images.append(warp_image(image, matrix, final_size))
        image_aug[view] = matrix @ image_aug[view]
    return {**sample, "images": images, "image_aug": image_aug}


def _check_size(op: str, size: Sequence[int]) -> tuple[int, int]:
    if len(size) != 2 or any(int(v) != v or v < 1 for v in size):
        raise ValueError(f"{op}: final_size must be (height, width) in whole pixels, got {tuple(size)}")
    return int(size[0]), int(size[1])


def _check_resize(op: str, name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{op}: {name} must be positive, got {value}")
    return float(value)
