# SPDX-License-Identifier: Apache-2.0
"""The batch layout of docs/conventions.md."""

import numpy as np
import pytest
import torch

from pcperc.datasets.collate import collate


def sample(number: int, *, height: int = 4, images: bool = True) -> dict:
    rng = np.random.default_rng(number)
    out = {
        "sample_token": f"token{number}",
        "timestamp": 1.5 * number,
        "points": rng.normal(size=(3 + number, 5)).astype(np.float32),
        "boxes": rng.normal(size=(number, 9)).astype(np.float32),
        "labels": rng.integers(0, 10, number),
        "num_lidar_pts": rng.integers(0, 10, number),
        "lidar_aug": rng.normal(size=(4, 4)),
        "lidar2ego": rng.normal(size=(4, 4)),
        "rng": rng,
    }
    if images:
        out |= {
            "images": [rng.integers(0, 255, (height, 6, 3), dtype=np.uint8) for _ in range(2)],
            "lidar2camera": rng.normal(size=(2, 4, 4)),
            "camera2image": rng.normal(size=(2, 3, 3)),
            "image_aug": rng.normal(size=(2, 3, 3)),
        }
    return out


def test_layout():
    samples = [sample(0), sample(2)]
    batch = collate(samples)
    inputs = batch["inputs"]
    assert set(batch) == {"inputs", "samples"}
    assert set(inputs) == {"points", "images", "lidar2camera", "camera2image", "image_aug", "lidar_aug"}
    assert [tuple(p.shape) for p in inputs["points"]] == [(3, 5), (5, 5)]
    assert inputs["images"].shape == (2, 2, 3, 4, 6) and inputs["images"].dtype is torch.uint8
    assert inputs["images"][1, 0, 2, 3, 5] == samples[1]["images"][0][3, 5, 2]
    assert inputs["lidar2camera"].shape == (2, 2, 4, 4) and inputs["lidar2camera"].dtype is torch.float32
    np.testing.assert_allclose(inputs["image_aug"][1, 1].numpy(), samples[1]["image_aug"][1], rtol=1e-6)
    assert inputs["lidar_aug"].shape == (2, 4, 4)
    rest = batch["samples"][1]
    assert set(rest) == {"sample_token", "timestamp", "boxes", "labels", "num_lidar_pts", "lidar2ego"}
    assert rest["boxes"].shape == (2, 9) and rest["boxes"].dtype is torch.float32
    assert rest["labels"].dtype is torch.int64
    assert rest["lidar2ego"].dtype == np.float64
    assert batch["samples"][0]["boxes"].shape == (0, 9)


def test_lidar_only():
    inputs = collate([sample(1, images=False)])["inputs"]
    assert set(inputs) == {"points", "lidar_aug"}


def test_points_in_another_order_of_memory():
    one = sample(1, images=False)
    one["points"] = np.asfortranarray(one["points"])
    np.testing.assert_array_equal(collate([one])["inputs"]["points"][0].numpy(), one["points"])


def test_errors():
    with pytest.raises(ValueError, match="collate: samples must have at least one entry, got none"):
        collate([])
    with pytest.raises(ValueError, match=r"images must have one size .* got sizes \[\(4, 6, 3\), \(5, 6, 3\)\]"):
        collate([sample(1), sample(2, height=5)])
    with pytest.raises(ValueError, match="must all have 'images' or none, got sample token2 without it"):
        collate([sample(1), sample(2, images=False)])


def test_hits_are_inputs_and_their_truth_is_tensors():
    samples = [
        {"hits": np.ones((n, 9)), "class": np.zeros(n, np.int64), "instance": -np.ones(n, np.int64)} for n in (3, 0)
    ]
    batch = collate(samples)
    assert [tuple(hits.shape) for hits in batch["inputs"]["hits"]] == [(3, 9), (0, 9)]
    assert all(hits.dtype == torch.float32 for hits in batch["inputs"]["hits"])
    assert batch["samples"][0]["instance"].tolist() == [-1, -1, -1] and "hits" not in batch["samples"][0]
    with pytest.raises(ValueError, match="samples must all have 'hits' or none, got sample 1 without it"):
        collate([samples[0], {"class": np.zeros(0, np.int64)}])
