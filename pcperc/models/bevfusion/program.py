# SPDX-License-Identifier: Apache-2.0
"""A detector as a program over plain tensors, which torch.export takes whole: recorded points and images to boxes."""

import torch
from torch import Tensor, nn

from pcperc.models.bevfusion.detector import BEVFusion

IMAGE_INPUTS = ("images", "lidar2camera", "camera2image", "image_aug")


class DetectorProgram(nn.Module):
    """One sample in, its boxes out; for inference.

    Voxelization, normalisation of images and the head's suppression are parts of it.

    Args:
        model: with a head "object"; other heads are left out, and so are ``votes``. It is put into eval mode.
        dtype: float32, or float16 or bfloat16 for the layers that torch's autocast computes in half precision;
            geometry, voxelization and the decoding of boxes stay in float32 or wider.
    Raises:
        ValueError: a model without that head, or another dtype.
    """

    def __init__(self, model: BEVFusion, *, dtype: torch.dtype = torch.float32):
        super().__init__()
        if "object" not in model.heads:
            raise ValueError(f"DetectorProgram: model must have a head 'object', got {sorted(model.heads)}")
        if dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"DetectorProgram: dtype must be float32, float16 or bfloat16, got {dtype}")
        self.preprocessor = model.data_preprocessor
        self.encoders, self.fuser, self.decoder = model.encoders, model.fuser, model.decoder
        self.head, self.dtype = model.heads["object"], dtype
        self.register_buffer("lidar_aug", torch.eye(4)[None], persistent=False)
        self.eval()

    @property
    def input_names(self) -> tuple[str, ...]:
        """The keys of the dict that ``forward`` takes."""
        points = ("points",) if self.preprocessor.voxelizer is not None else ()
        return points + (IMAGE_INPUTS if "camera" in self.encoders else ())

    def forward(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """Detect objects in one sample.

        Args:
            sample: ``points`` (N, 5) float32, N >= 2, in the LiDAR frame; ``images`` (V, 3, H, W) uint8 as cropped and
                resized for the network, ``lidar2camera`` (V, 4, 4), ``camera2image`` and ``image_aug`` (V, 3, 3)
                float32; those that ``input_names`` tells. docs/conventions.md has their meaning.
        Returns:
            ``boxes`` (K, 9), ``scores`` (K,) float32, ``labels`` (K,) int64, in the LiDAR frame, highest score first.
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
            output = self.head(self.decoder(features[0] if self.fuser is None else self.fuser(features)))
        found = self.head.predict(output)[0]
        return {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}
