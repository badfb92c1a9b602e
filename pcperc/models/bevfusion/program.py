# SPDX-License-Identifier: Apache-2.0
"""BEVFusion as a program over plain tensors, which torch.export takes whole: recorded points and images to results."""

import torch
from torch import Tensor, nn

from pcperc.models.bevfusion.detector import BEVFusion

IMAGE_INPUTS = ("images", "lidar2camera", "camera2image", "image_aug")


class DetectorProgram(nn.Module):
    """One sample in, its boxes, its map or both out; for inference.

    Voxelization, normalisation of images and the head's suppression are parts of it.

    Args:
        model: with a head "object", a head "map" or both; other heads are left out, and so are ``votes``. It is put
            into eval mode.
        dtype: float32, or float16 or bfloat16 for the layers that torch's autocast computes in half precision;
            geometry, voxelization and the decoding of boxes stay in float32 or wider.
    Raises:
        ValueError: a model without those heads, or another dtype.
    """

    def __init__(self, model: BEVFusion, *, dtype: torch.dtype = torch.float32):
        super().__init__()
        if not {"object", "map"} & set(model.heads):
            raise ValueError(f"DetectorProgram: model must have a head 'object' or 'map', got {sorted(model.heads)}")
        if dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"DetectorProgram: dtype must be float32, float16 or bfloat16, got {dtype}")
        self.preprocessor = model.data_preprocessor
        self.encoders, self.fuser, self.decoder = model.encoders, model.fuser, model.decoder
        self.head = model.heads["object"] if "object" in model.heads else None
        self.map_head = model.heads["map"] if "map" in model.heads else None
        self.dtype = dtype
        self.register_buffer("lidar_aug", torch.eye(4)[None], persistent=False)
        self.eval()

    @property
    def input_names(self) -> tuple[str, ...]:
        """The keys of the dict that ``forward`` takes."""
        points = ("points",) if self.preprocessor.voxelizer is not None else ()
        return points + (IMAGE_INPUTS if "camera" in self.encoders else ())

    def forward(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """Detect the objects of one sample, and draw its map.

        Args:
            sample: ``points`` (N, 5) float32, N >= 2, in the LiDAR frame; ``images`` (V, 3, H, W) uint8 as cropped and
                resized for the network, ``lidar2camera`` (V, 4, 4), ``camera2image`` and ``image_aug`` (V, 3, 3)
                float32; those that ``input_names`` tells. docs/conventions.md has their meaning.
        Returns:
            With the head "object" ``boxes`` (K, 9), ``scores`` (K,) float32, ``labels`` (K,) int64, in the LiDAR frame,
            highest score first. With the head "map" ``map`` (C, X, Y) float32, probabilities on the cells of its grid.
        """
        inputs = {key: value[None] for key, value in sample.items() if key != "points"}
        inputs["lidar_aug"] = self.lidar_aug
        if "points" in sample:
            inputs["points"] = [sample["points"]]
        if "images" in inputs:
            inputs["images"] = self.preprocessor.normalise(inputs["images"])
        if self.preprocessor.voxelizer is not None:
            inputs["voxels"] = self.preprocessor.voxelizer(inputs["points"], training=False)
        with torch.autocast(self.lidar_aug.device.type, self.dtype, enabled=self.dtype != torch.float32):
            features = [encoder(inputs) for encoder in self.encoders.values()]
            bev = self.decoder(features[0] if self.fuser is None else self.fuser(features))
            outputs = [None if head is None else head(bev) for head in (self.head, self.map_head)]
        results = {}
        if self.head is not None:
            found = self.head.predict(outputs[0])[0]
            results = {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}
        if self.map_head is not None:
            results["map"] = self.map_head.predict(outputs[1])[0].probabilities
        return results
