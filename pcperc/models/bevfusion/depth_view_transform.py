# SPDX-License-Identifier: Apache-2.0
"""The view transform of camera + LiDAR: depth is predicted from the features and an image of the LiDAR's depths.

Source: Liu et al., BEVFusion, ICRA 2023, section III-B.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcperc.geometry import project_points
from pcperc.models.bevfusion.view_transform import MATRICES, LSSTransform
from pcperc.models.blocks import ConvNormReLU
from pcperc.registry import MODELS

# Points nearer to the image plane than this are not drawn, metres.
_MIN_DRAWN_DEPTH = 1e-3


def render_depth(
    points: Sequence[Tensor],
    *,
    lidar2camera: Tensor,
    camera2image: Tensor,
    image_aug: Tensor,
    lidar_aug: Tensor,
    image_size: tuple[int, int],
) -> Tensor:
    """Draw the LiDAR points into every camera's image as depths.

    Where several points share a pixel the nearest one stays. (The published code lets the last one written win, which
    depends on the order of the points and, on a GPU, on chance; and it rounds pixels down, where ours are rounded to
    the nearest, since pixel centres lie at whole numbers.) All products of matrices and points are in float64.

    Args:
        points: B tensors (N_i, 3 or more), x, y, z in metres in the frame that ``lidar_aug`` leads to. N_i may be 0;
            points with a NaN are left out.
        lidar2camera: (B, V, 4, 4).
        camera2image: (B, V, 3, 3).
        image_aug: (B, V, 3, 3), recorded pixel to pixel of the image as it now is.
        lidar_aug: (B, 4, 4).
        image_size: height and width of the images in pixels.

    Returns:
        (B, V, 1, H, W) float32: metres along the camera's axis, 0 where no point falls. Without gradient.

    Raises:
        ValueError: not one tensor of points for each of the B samples.

    Deterministic: yes, and independent of the order of the points.
    """
    batch, views = lidar2camera.shape[:2]
    height, width = image_size
    if len(points) != batch:
        raise ValueError(f"render_depth: points must be a list of {batch} tensors, got {len(points)}")
    images = []
    with torch.no_grad(), torch.autocast(lidar2camera.device.type, enabled=False):
        matrices = [matrix.double() for matrix in (lidar2camera, camera2image, image_aug, lidar_aug)]
        first_pixel = torch.arange(views, device=lidar2camera.device)[:, None] * (height * width)
        for b, cloud in enumerate(points):
            pixels, depth = project_points(cloud[:, :3].double(), *(matrix[b] for matrix in matrices))
            pixels = (pixels + 0.5).floor()  # pixel (0, 0) covers [-0.5, 0.5)
            u, v = pixels.unbind(-1)  # (V, N)
            seen = (depth > _MIN_DRAWN_DEPTH) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
            # What no camera sees goes past the images: no data-dependent shapes, so the GPU need not wait. A cell for
            # each point, since a GPU takes one after the other what is written to the same one.
            spare = views * height * width + torch.arange(cloud.shape[0], device=depth.device)
            target = torch.where(seen, first_pixel + v * width + u, spare).long()
            image = torch.full((views * height * width + cloud.shape[0],), torch.inf, device=depth.device)
            image.scatter_reduce_(0, target.flatten(), depth.float().flatten(), "amin")
            images.append(image[: views * height * width].view(views, 1, height, width))
        depth_images = torch.stack(images)
        return torch.where(depth_images.isinf(), 0.0, depth_images)


@MODELS.register_module()
class DepthLSSTransform(LSSTransform):
    """``LSSTransform`` whose depth prediction also sees an image of the LiDAR's depths; 1.61M parameters.

    Arguments, attributes and errors are those of ``LSSTransform``.
    """

    def _add_depth_layers(self) -> None:
        channels = self.in_channels
        self.dtransform = nn.Sequential(
            ConvNormReLU(1, 8, 1, bias=True),
            ConvNormReLU(8, 32, 5, stride=4, bias=True),
            ConvNormReLU(32, 64, 5, stride=self.feature_stride // 4, bias=True),
        )
        self.depthnet = nn.Sequential(
            ConvNormReLU(channels + 64, channels, 3, bias=True),
            ConvNormReLU(channels, channels, 3, bias=True),
            nn.Conv2d(channels, self.num_depths + self.context_channels, 1),
        )

    def drawn(self, inputs: dict) -> tuple[Tensor]:
        """The depth images of ``render_depth``."""
        image_size, _ = self._sizes(inputs)
        return (render_depth(inputs["points"], **{key: inputs[key] for key in MATRICES}, image_size=image_size),)

    def lift(self, image_feats: Tensor, depth_images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict what each cell of the camera features holds, and how it is spread over depth.

        Args:
            image_feats: (B, V, in_channels, h, w).
            depth_images: (B, V, 1, H, W) float32 metres, 0 for none.

        Returns:
            context (B * V * h * w, out_channels) and weight (B * V * D * h * w,), both at least float32; the weights of
            a cell sum to 1 over D.
        """
        depth_feats = self.dtransform(depth_images.flatten(0, 1).to(self.depthnet[-1].weight.dtype))
        return self._split(self.depthnet(torch.cat([depth_feats, image_feats.flatten(0, 1)], dim=1)))
