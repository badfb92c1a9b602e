# SPDX-License-Identifier: Apache-2.0
"""From a list of samples to the batch that a model takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

MATRIX_KEYS = ("lidar2camera", "camera2image", "image_aug", "lidar_aug")
BOX_KEYS = ("boxes", "labels", "num_lidar_pts", "box")
POINT_KEYS = ("point_labels", "point_instances", "point_index", "recorded_labels")
HIT_KEYS = ("class", "instance")
MAP_KEYS = ("map_masks",)
TRANSIENT_KEYS = ("rng", "draw_other", "vector_map")  # of use to the transforms alone


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make the batch of docs/conventions.md; points are not padded, and nothing is normalised or moved to a device.

    Args:
        samples: B >= 1 samples of one data set; all with images or all without.
    Returns:
        ``{"inputs": ..., "samples": ...}``. Images stay uint8, (B, V, 3, H, W); matrices become float32; boxes, labels,
        num_lidar_pts, map masks and what is told of each point or hit become tensors inside ``samples``, the rest stays
        as it was.
    Raises:
        ValueError: no sample, keys that only some samples have, or images of different sizes.
    """
    if len(samples) == 0:
        raise ValueError("collate: samples must have at least one entry, got none")
    inputs: dict[str, Any] = {}
    for key in ("points", "hits", "images", *MATRIX_KEYS):
        present = [key in sample for sample in samples]
        if all(present):
            inputs[key] = _COLLATE[key]([sample[key] for sample in samples])
        elif any(present):
            without = samples[present.index(False)].get("sample_token", present.index(False))
            raise ValueError(f"collate: samples must all have '{key}' or none, got sample {without} without it")
    left_out = {*inputs, *TRANSIENT_KEYS}
    rest = [{key: value for key, value in sample.items() if key not in left_out} for sample in samples]
    for sample in rest:
        present = [key for key in (*BOX_KEYS, *POINT_KEYS, *HIT_KEYS, *MAP_KEYS) if key in sample]
        sample.update({key: torch.from_numpy(np.ascontiguousarray(sample[key])) for key in present})
    return {"inputs": inputs, "samples": rest}


def _points(clouds: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(cloud, dtype=np.float32)) for cloud in clouds]


def _images(views: list[list[np.ndarray]]) -> torch.Tensor:
    shapes = {tuple(image.shape) for images in views for image in images}
    counts = {len(images) for images in views}
    if len(shapes) != 1 or len(counts) != 1:
        raise ValueError(
            f"collate: images must have one size and number in a batch, got sizes {sorted(shapes)} and numbers "
            f"{sorted(counts)}; a ResizeCrop transform gives them one"
        )
    stacked = torch.from_numpy(np.stack([np.stack(images) for images in views]))  # (B, V, H, W, 3)
    return stacked.permute(0, 1, 4, 2, 3).contiguous()


def _matrices(matrices: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(matrices).astype(np.float32))


_COLLATE = {"points": _points, "hits": _points, "images": _images, **dict.fromkeys(MATRIX_KEYS, _matrices)}
