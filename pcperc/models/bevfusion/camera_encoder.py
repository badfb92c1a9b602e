# SPDX-License-Identifier: Apache-2.0
"""The camera branch of BEVFusion: backbone, neck, view transform."""

from torch import Tensor, nn

from pcperc.registry import MODELS


@MODELS.register_module()
class CameraEncoder(nn.Module):
    """Images of all cameras to one bird's-eye-view map.

    Args:
        backbone: (N, 3, H, W) to a list of maps, such as ``SwinTransformer``.
        neck: list of maps to a list of maps, finest first, such as ``GeneralizedLSSFPN``.
        view_transform: (B, V, C, h, w) and the batch to (B, C, X, Y), such as ``DepthLSSTransform``.
    """

    def __init__(self, *, backbone: nn.Module, neck: nn.Module, view_transform: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.view_transform = view_transform

    @property
    def out_channels(self) -> int:
        return self.view_transform.out_channels

    def forward(self, inputs: dict) -> Tensor:
        """Encode a batch.

        Args:
            inputs: ``images`` (B, V, 3, H, W) normalised floats, and what the view transform reads: ``points``,
                ``lidar2camera``, ``camera2image``, ``image_aug``, ``lidar_aug``.

        Returns:
            (B, out_channels, X, Y), in the frame of the augmented points.

        Raises:
            ValueError: images of another shape or not floats.
        """
        return self.view_transform(self.image_feats(inputs["images"]), inputs)

    def image_feats(self, images: Tensor) -> Tensor:
        """Images (B, V, 3, H, W) to the features (B, V, C, h, w) that the view transform takes."""
        if images.ndim != 5 or not images.is_floating_point():
            raise ValueError(
                f"CameraEncoder: images must be (B, V, 3, H, W) normalised floats, "
                f"got {tuple(images.shape)} {images.dtype}"
            )
        return self.neck(self.backbone(images.flatten(0, 1)))[0].unflatten(0, images.shape[:2])
