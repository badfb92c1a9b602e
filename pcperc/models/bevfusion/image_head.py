# SPDX-License-Identifier: Apache-2.0
"""Objects and depths in the images themselves: a head that teaches a camera branch and takes no part in predictions.

What a map of all cameras asks of the images comes back to them through the view transform: summed up over many pixels,
weighed by depths that are not learned yet, and in a short training never are. Here each cell of the camera features is
asked directly. As the published camera backbone begins with what it learned from outlines of objects in images
(nuImages), so does one that has been taught by this head, without other data than the detector's own.

Source: Zhou et al., Objects as Points, 2019, section 4 (class and orientation at the centre of an object's image);
Yang et al., BEVFormer v2, CVPR 2023, section 3.2 (supervision in perspective beside that of a map); Li et al.,
BEVDepth, AAAI 2023, section 3.2 (depths from the LiDAR).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc.geometry import inverse, project_points
from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.depth_view_transform import render_depth
from pcperc.models.bevfusion.truth import Truth
from pcperc.models.bevfusion.view_transform import MATRICES
from pcperc.models.blocks import ConvNormReLU
from pcperc.models.losses import gaussian_focal_loss, mean_over_processes, weighted_l1_loss
from pcperc.registry import MODELS

PRIOR_LOGIT = -2.19  # log-odds of 0.1, as in the object heads
MIN_SIGMA = 0.8  # cells: that of the smallest Gaussians of the object heads, of radius 2
MIN_PROBABILITY = 1e-7


class ImageTargets(NamedTuple):
    """What M objects look like in V views."""

    heatmap: Tensor  # (B, V, classes, h, w) float32: 1 in the cell of an object's centre, Gaussians around it
    cell: Tensor  # (M, V) int64, ((b * V + v) * h + row) * w + column of the centre
    facing: Tensor  # (M, V, 2) float32, heading as (to the right, away from the camera) of the ray, length 1
    seen: Tensor  # (M, V) bool


@MODELS.register_module()
class ImageHead(nn.Module):
    """Class and heading of the objects that each view shows, from the camera features; depths of all that LiDAR sees.

    An object's centre is looked for in the cell that the view transform lifts nearest to it. The heading is told as it
    looks along the ray, by which a front is a front wherever in the image it is. Objects hidden by others are looked
    for like those in sight; few are, since boxes of training have LiDAR points.

    Args:
        in_channels: channels of the camera features.
        num_classes: object classes.
        box_coder: says which objects can be learned, those of the detector.
        hidden_channels: width of the head.
        upright_classes: classes without a front, whose heading is not asked for: barriers and cones.
        depth_bound: first depth, end (exclusive) and step of the view transform, metres; objects are looked for there.
        heatmap_weight, facing_weight, depth_weight: weights of the losses. A depth weight of 0 needs no points.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        box_coder: BoxCoder,
        *,
        hidden_channels: int = 64,
        upright_classes: tuple[int, ...] = (5, 9),
        depth_bound: tuple[float, float, float] = (1.0, 60.0, 0.5),
        heatmap_weight: float = 1.0,
        facing_weight: float = 0.5,
        depth_weight: float = 1.0,
    ):
        super().__init__()
        if any(not 0 <= label < num_classes for label in upright_classes):
            raise ValueError(f"ImageHead: upright_classes must be below {num_classes}, got {upright_classes}")
        self.num_classes, self.box_coder = num_classes, box_coder
        self.upright_classes, self.depth_bound = tuple(upright_classes), tuple(depth_bound)
        self.heatmap_weight, self.facing_weight, self.depth_weight = heatmap_weight, facing_weight, depth_weight
        self.shared_conv = ConvNormReLU(in_channels, hidden_channels, 3)
        self.heatmap_conv = nn.Conv2d(hidden_channels, num_classes, 1)
        self.facing_conv = nn.Conv2d(hidden_channels, 2, 1)
        nn.init.constant_(self.heatmap_conv.bias, PRIOR_LOGIT)

    @property
    def num_depths(self) -> int:
        first, end, step = self.depth_bound
        return round((end - first) / step)

    def forward(self, image_feats: Tensor) -> tuple[Tensor, Tensor]:
        """Camera features (B, V, C, h, w) to logits (B, V, classes, h, w) and headings (B, V, 2, h, w)."""
        shared = self.shared_conv(image_feats.flatten(0, 1))
        parts = self.heatmap_conv(shared), self.facing_conv(shared)
        return tuple(part.unflatten(0, image_feats.shape[:2]) for part in parts)

    def loss(self, image_feats: Tensor, depths: Tensor, inputs: dict, samples: list[dict]) -> dict[str, Tensor]:
        """Compare with the ``boxes`` (K, 9) and ``labels`` (K,) of each sample, in the frame of the augmented points.

        Args:
            image_feats: (B, V, C, h, w).
            depths: (B, V, D, h, w) float32, the view transform's probabilities.
            inputs, samples: the batch.

        Returns:
            ``loss_heatmap``, divided by the centres in sight; ``loss_facing``, by those that have a heading; and
            ``loss_depth``, cross entropy of the cells that LiDAR points fall into.
        Raises:
            ValueError: as `Truth.of`; depths of other steps than ``depth_bound``.
        """
        logits, facing = self(image_feats)
        form = dict(batch_size=len(logits), num_classes=self.num_classes, op="ImageHead")
        truth = Truth.of(samples, self.box_coder, logits.device, **form)
        with torch.autocast(logits.device.type, enabled=False):
            targets = self.targets(truth, inputs, tuple(logits.shape[-2:]))
            peaks = mean_over_processes(targets.seen.sum(), min_total=1)
            heatmap_loss = gaussian_focal_loss(logits, targets.heatmap, avg_factor=peaks)
            # A row for each object and view, whether it is in sight or not: no shape depends on values.
            upright = torch.stack([truth.labels == label for label in self.upright_classes] or [truth.labels < 0])
            counted = targets.seen & ~upright.any(0)[:, None]
            told = facing.float().movedim(2, -1).flatten(0, 3)[targets.cell]  # (M, V, 2)
            number = mean_over_processes(counted.sum(), min_total=1)
            facing_loss = weighted_l1_loss(told, targets.facing, counted[..., None].float(), avg_factor=number)
            losses = {
                "loss_heatmap": self.heatmap_weight * heatmap_loss,
                "loss_facing": self.facing_weight * facing_loss,
            }
            if self.depth_weight > 0:
                losses["loss_depth"] = self.depth_weight * self._depth_loss(depths, inputs)
        return losses

    def _depth_loss(self, depths: Tensor, inputs: dict) -> Tensor:
        """Cross entropy of ``depths`` against the nearest LiDAR point in each cell of the camera features.

        The mean over the cells of each step, then over the steps that occur: most cells with points show near ground,
        and alone would leave far depths unlearned.
        """
        if depths.shape[2] != self.num_depths:
            raise ValueError(
                f"ImageHead: depths must have the {self.num_depths} steps of depth_bound {self.depth_bound}, "
                f"got {tuple(depths.shape)}"
            )
        target = self.depth_targets(inputs, tuple(depths.shape[-2:]))
        known = target >= 0
        target = target.clamp(min=0)
        found = depths.gather(2, target[:, :, None])[:, :, 0].clamp(min=MIN_PROBABILITY)
        count = known.new_zeros(depths.shape[2], dtype=torch.float32)
        count.scatter_add_(0, target.flatten(), known.flatten().float())
        weight = known / count[target].clamp(min=1)
        return -(found.log() * weight).sum() / (count > 0).sum().clamp(min=1)

    @torch.no_grad()
    def depth_targets(self, inputs: dict, feature_size: tuple[int, int]) -> Tensor:
        """Step of the nearest LiDAR point in each cell, (B, V, h, w) int64; -1 where there is none within the bound."""
        image_size = tuple(inputs["images"].shape[-2:])
        images = render_depth(inputs["points"], **{key: inputs[key] for key in MATRICES}, image_size=image_size)
        images = torch.where(images > 0, images, torch.inf).flatten(0, 1)
        stride = -(-image_size[0] // feature_size[0])
        nearest = -F.max_pool2d(-images, stride, ceil_mode=True).view(*inputs["images"].shape[:2], *feature_size)
        first, _, step = self.depth_bound
        steps = ((nearest - first) / step).round()
        return torch.where((steps >= 0) & (steps < self.num_depths), steps, -1.0).long()

    @torch.no_grad()
    def targets(self, truth: Truth, inputs: dict, feature_size: tuple[int, int]) -> ImageTargets:
        """Project the objects of a batch into its views.

        Args:
            truth: the objects, in the frame that ``lidar_aug`` leads to.
            inputs: the batch; ``images``, of which only the size is read, and the four matrices.
            feature_size: height h and width w of the camera features.
        """
        height, width = feature_size
        batch, views, _, image_height, image_width = inputs["images"].shape
        own = {key: inputs[key].double()[truth.sample] for key in ("lidar2camera", "camera2image", "image_aug")}
        lidar_aug = inputs["lidar_aug"].double()[truth.sample]
        boxes = truth.boxes.double()
        pixels, depth = project_points(boxes[:, None, :3], *own.values(), lidar_aug)  # (M, V, 1, 2), (M, V, 1)
        depth = depth[..., 0]
        # The cells' centres are spread from the first to the last pixel, as frustum_points has them.
        steps = pixels.new_tensor([(width - 1) / max(image_width - 1, 1), (height - 1) / max(image_height - 1, 1)])
        column, row = (pixels[..., 0, :] * steps).round().unbind(-1)
        near, far, _ = self.depth_bound
        seen = (depth >= near) & (depth < far)
        seen &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
        column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)

        scale = lidar_aug[:, :3, :3].det().abs() ** (1 / 3)
        focal = (own["image_aug"] @ own["camera2image"])[..., :2, :2].det().abs().sqrt() * steps.mean()  # cells
        extent = focal * (boxes[:, 3:6].mean(1) / scale)[:, None] / depth.clamp(min=near)
        sigma = (extent / 6).clamp(min=MIN_SIGMA).float()
        view = truth.sample[:, None] * views + torch.arange(views, device=depth.device)  # (M, V)

        def falling(size: int, centre: Tensor) -> Tensor:
            offsets = torch.arange(size, device=depth.device) - centre.float()[..., None]
            return (-0.5 * (offsets / sigma[..., None]) ** 2).exp()

        drawn = falling(height, row)[..., :, None] * falling(width, column)[..., None, :] * seen[..., None, None]
        heatmap = drawn.new_zeros(batch * views * self.num_classes, height * width)
        into = (view * self.num_classes + truth.labels[:, None]).flatten()[:, None].expand(-1, height * width)
        heatmap.scatter_reduce_(0, into, drawn.flatten(0, 1).flatten(1), "amax")
        cell = ((view * height + row.long()) * width + column.long()).clamp(0, batch * views * height * width - 1)
        return ImageTargets(
            heatmap.view(batch, views, self.num_classes, height, width),
            cell,
            _facing(boxes, own, lidar_aug).float(),
            seen,
        )


def _facing(boxes: Tensor, matrices: dict[str, Tensor], lidar_aug: Tensor) -> Tensor:
    """Headings (M, V, 2) as the images show them: to the right of the ray to the box, and along it."""
    yaw = boxes[:, 6]
    ahead = torch.stack([yaw.cos(), yaw.sin(), torch.zeros_like(yaw), torch.zeros_like(yaw)], -1)
    middle = torch.cat([boxes[:, :3], torch.ones_like(boxes[:, :1])], -1)
    in_camera = matrices["lidar2camera"] @ inverse(lidar_aug)[:, None]  # (M, V, 4, 4)
    ahead, middle = ((in_camera @ vector[:, None, :, None])[..., (0, 2), 0] for vector in (ahead, middle))
    ahead, ray = (vector / vector.norm(dim=-1, keepdim=True).clamp(min=1e-9) for vector in (ahead, middle))
    right = ahead[..., 0] * ray[..., 1] - ahead[..., 1] * ray[..., 0]
    mirrored = matrices["image_aug"][..., :2, :2].det() < 0
    return torch.stack([torch.where(mirrored, -right, right), (ahead * ray).sum(-1)], -1)
