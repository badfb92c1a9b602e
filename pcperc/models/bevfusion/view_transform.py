# SPDX-License-Identifier: Apache-2.0
"""From camera images to the bird's-eye view: a depth distribution per cell of the image, summed up in the BEV grid.

Source: Philion and Fidler, Lift, Splat, Shoot, ECCV 2020; Liu et al., BEVFusion, ICRA 2023, section III-B.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcperc.geometry import inverse
from pcperc.models.blocks import ConvNormReLU
from pcperc.ops.bev_pool import BevPoolPlan, bev_pool, make_bev_pool_plan
from pcperc.registry import MODELS

MATRICES = ("lidar2camera", "camera2image", "image_aug", "lidar_aug")


def frustum_points(
    depths: Tensor,
    *,
    feature_size: tuple[int, int],
    image_size: tuple[int, int],
    lidar2camera: Tensor,
    camera2image: Tensor,
    image_aug: Tensor,
    lidar_aug: Tensor,
) -> Tensor:
    """Place every cell of the cameras' feature maps at every depth in the LiDAR frame in which the points now are.

    As published, the cells' centres are spread evenly from the first to the last pixel centre of the image, 0 to W - 1,
    although the network's receptive fields are centred elsewhere (at 3.5, 11.5, ... for stride 8).

    Args:
        depths: (D,) metres along the camera's axis.
        feature_size: height h and width w of the feature maps in cells.
        image_size: height and width of the images in pixels.
        lidar2camera, camera2image, image_aug, lidar_aug: as in ``render_depth``; the last row of the 3 x 3 matrices is
            (0, 0, 1).

    Returns:
        (B, V, D, h, w, 3) float32, metres. Rays are computed in float64. Without gradient.

    Raises:
        torch.linalg.LinAlgError: a matrix is singular.
    """
    device = lidar2camera.device
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        rows = torch.linspace(0, image_size[0] - 1, feature_size[0], dtype=torch.float64, device=device)
        columns = torch.linspace(0, image_size[1] - 1, feature_size[1], dtype=torch.float64, device=device)
        lidar2camera = lidar2camera.double()
        lidar2pixel = image_aug.double() @ camera2image.double() @ lidar2camera[..., :3, :]  # (B, V, 3, 4)
        lidar2pixel = torch.cat([lidar2pixel, lidar2camera[..., 3:, :]], dim=-2)
        pixel2lidar = lidar_aug.double()[:, None] @ inverse(lidar2pixel)  # of (depth * u, depth * v, depth, 1)
        along_u, along_v, first_ray, origin = pixel2lidar[..., None, None, :3, :].unbind(-1)  # (B, V, 1, 1, 3)
        rays = (columns[:, None] * along_u + (rows[:, None, None] * along_v + first_ray)).float()  # (B, V, h, w, 3)
        return origin.float()[:, :, None] + depths.to(rays)[:, None, None, None] * rays[:, :, None]


@MODELS.register_module()
class LSSTransform(nn.Module):
    """Lift the image features along their rays by a predicted depth, and sum them up in the cells of the BEV grid.

    Depth and context come from the image features alone, by one 1 x 1 convolution: the view transform of the
    camera-only detector, 0.22M parameters at its size. The outer product of depth and context is never formed: the
    pooling weighs a row of context for every point. Points outside the grid are dropped. (The published code truncates
    towards zero and so counts those up to a cell below the lower edges into the first cells.)

    Args:
        in_channels: channels of the camera features.
        out_channels: channels of the BEV map.
        x_bound, y_bound, z_bound: first edge, last edge and cell size of the grid before ``downsample``, metres.
        depth_bound: first depth, end (exclusive) and step, metres.
        downsample: 2 halves the grid by convolutions as published, 1 leaves it.
        feature_stride: pixels of the image per cell of the camera features: 4, 8 or 16.
        cache_plan: in eval mode, keep the pooling plan for as long as all matrices and sizes stay the same. It saves
            time where the calibration is fixed and images carry no ego motion; the comparison makes a GPU wait.

    Attributes:
        grid_shape: (X, Y, Z) cells before ``downsample``.
        num_depths: D, the depths on each ray.

    Raises:
        ValueError: a bound that is no whole number of cells, another ``downsample`` or ``feature_stride``.
    """

    def __init__(
        self,
        *,
        in_channels: int = 256,
        out_channels: int = 80,
        x_bound: Sequence[float] = (-54.0, 54.0, 0.3),
        y_bound: Sequence[float] = (-54.0, 54.0, 0.3),
        z_bound: Sequence[float] = (-10.0, 10.0, 20.0),
        depth_bound: Sequence[float] = (1.0, 60.0, 0.5),
        downsample: int = 2,
        feature_stride: int = 8,
        cache_plan: bool = False,
    ):
        super().__init__()
        name = type(self).__name__
        bounds = {"x_bound": x_bound, "y_bound": y_bound, "z_bound": z_bound}
        self.grid_shape = tuple(_count_steps(name, key, bound) for key, bound in bounds.items())
        self.lower = tuple(float(bound[0]) for bound in bounds.values())
        self.cell_size = tuple(float(bound[2]) for bound in bounds.values())
        if downsample not in (1, 2):
            raise ValueError(f"{name}: downsample must be 1 or 2, got {downsample}")
        if feature_stride not in (4, 8, 16):
            raise ValueError(f"{name}: feature_stride must be 4, 8 or 16, got {feature_stride}")
        self.num_depths = _count_steps(name, "depth_bound", depth_bound)
        self.first_depth, self.depth_step = float(depth_bound[0]), float(depth_bound[2])
        self.in_channels, self.context_channels = in_channels, out_channels
        self.out_channels = out_channels if downsample == 2 else out_channels * self.grid_shape[2]
        self.feature_stride, self.cache_plan = feature_stride, cache_plan
        self._cached_plan: tuple[tuple, Tensor, BevPoolPlan] | None = None

        self._add_depth_layers()
        self.downsample = nn.Identity()
        if downsample == 2:
            self.downsample = nn.Sequential(
                ConvNormReLU(out_channels * self.grid_shape[2], out_channels, 3),
                ConvNormReLU(out_channels, out_channels, 3, stride=2),
                ConvNormReLU(out_channels, out_channels, 3),
            )

    def _add_depth_layers(self) -> None:
        """Add what makes the logits of depth and the context of the features."""
        self.depthnet = nn.Conv2d(self.in_channels, self.num_depths + self.context_channels, 1)

    def forward(self, image_feats: Tensor, inputs: dict) -> Tensor:
        """Make the BEV map of the cameras.

        Args:
            image_feats: (B, V, in_channels, h, w), the image's height and width over the stride, rounded up.
            inputs: the batch: ``lidar2camera``, ``camera2image``, ``image_aug``, ``lidar_aug``, and ``images``
                (B, V, 3, H, W), of which only the size is read; with ``DepthLSSTransform`` also ``points``.

        Returns:
            (B, out_channels, X / downsample, Y / downsample), rounded up; in the frame of the augmented points.

        Raises:
            ValueError: features of another shape than the images ask for, or not one point cloud a sample.
        """
        return self.with_depths(image_feats, inputs)[0]

    def with_depths(self, image_feats: Tensor, inputs: dict) -> tuple[Tensor, Tensor]:
        """The map of ``forward``, and how it was spread over depth: (B, V, D, h, w), sums of 1 over D."""
        self.check_image_feats(image_feats, inputs)
        context, weight = self.lift(image_feats, *self.drawn(inputs))
        batch, views, _, *size = image_feats.shape
        bev = self.downsample(self.pool(context, weight, self.plan(inputs)))
        return bev, weight.view(batch, views, self.num_depths, *size)

    def check_image_feats(self, image_feats: Tensor, inputs: dict) -> None:
        """Raise ValueError for features of another shape than the images of the batch ask for."""
        image_size, feature_size = self._sizes(inputs)
        expected = (*inputs["images"].shape[:2], self.in_channels, *feature_size)
        if tuple(image_feats.shape) != expected:
            raise ValueError(
                f"{type(self).__name__}: image_feats must be {expected} for images of {image_size} pixels, "
                f"got {tuple(image_feats.shape)}"
            )

    def drawn(self, inputs: dict) -> tuple[Tensor, ...]:
        """What ``lift`` takes of the batch besides the features: nothing."""
        return ()

    def lift(self, image_feats: Tensor) -> tuple[Tensor, Tensor]:
        """Predict what each cell of the camera features holds, and how it is spread over depth; see ``_split``."""
        return self._split(self.depthnet(image_feats.flatten(0, 1)))

    def plan(self, inputs: dict) -> BevPoolPlan:
        """Where the points of a batch fall; see ``pooling_plan``."""
        image_size, feature_size = self._sizes(inputs)
        return self.pooling_plan(feature_size, image_size, {key: inputs[key] for key in MATRICES})

    def pool(self, context: Tensor, weight: Tensor, plan: BevPoolPlan) -> Tensor:
        """Sum up what was lifted in the cells of the grid: (B, Z * out_channels, X, Y), what ``downsample`` takes."""
        with torch.autocast(context.device.type, enabled=False):
            grid = bev_pool(context, plan, weight)
        return grid.to(next(self.depthnet.parameters()).dtype)

    def _sizes(self, inputs: dict) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of the images in pixels, and of their features in cells."""
        image_size = tuple(inputs["images"].shape[-2:])
        return image_size, tuple(-(-side // self.feature_stride) for side in image_size)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Turn what the depth layers give, (B * V, D + out_channels, h, w), into context and weight.

        Returns:
            context (B * V * h * w, out_channels) and weight (B * V * D * h * w,), both at least float32; the weights of
            a cell sum to 1 over D.
        """
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        weight = x[:, : self.num_depths].softmax(dim=1).flatten()
        context = x[:, self.num_depths :].permute(0, 2, 3, 1).reshape(-1, self.context_channels)
        return context, weight

    @torch.no_grad()
    def pooling_plan(
        self, feature_size: tuple[int, int], image_size: tuple[int, int], matrices: dict[str, Tensor]
    ) -> BevPoolPlan:
        """Sort the points of all rays by cell; from the cache where that is on and fits."""
        if self.training or not self.cache_plan:
            self._cached_plan = None
            return self._make_plan(feature_size, image_size, matrices)
        with torch.inference_mode(False):  # what is kept must also serve a later pass that records gradients
            values = torch.cat([matrix.double().flatten() for matrix in matrices.values()])
            shape = (*matrices["lidar2camera"].shape[:2], *feature_size, *image_size, values.device)
            if self._cached_plan is not None:
                cached_shape, cached_values, plan = self._cached_plan
                if cached_shape == shape and torch.equal(cached_values, values):
                    return plan
            plan = self._make_plan(feature_size, image_size, matrices)
            self._cached_plan = (shape, values, plan)
            return plan

    def _make_plan(self, feature_size, image_size, matrices: dict[str, Tensor]) -> BevPoolPlan:
        # Made anew and not a buffer: casting the model to half precision must not move the grid.
        steps = torch.arange(self.num_depths, device=matrices["lidar2camera"].device)
        depths = self.first_depth + self.depth_step * steps
        points = frustum_points(depths, feature_size=feature_size, image_size=image_size, **matrices)
        batch, views, _, height, width, _ = points.shape
        num_rows = batch * views * height * width
        rows = torch.arange(num_rows, device=points.device)
        rows = rows.view(batch, views, 1, height, width).expand(-1, -1, self.num_depths, -1, -1)
        return make_bev_pool_plan(
            points.reshape(batch, -1, 3),
            lower=self.lower,
            cell_size=self.cell_size,
            grid_shape=self.grid_shape,
            rows=rows.reshape(batch, -1),
            num_rows=num_rows,
            check_rows=False,
        )


def _count_steps(op: str, name: str, bound: Sequence[float]) -> int:
    """Whole number of steps in (first, end, step)."""
    first, end, step = bound
    count = round((end - first) / step) if step > 0 else 0
    if count < 1 or abs(first + count * step - end) > 1e-3 * step:
        raise ValueError(f"{op}: {name} must be (first, end, step) of whole steps, got {tuple(bound)}")
    return count
