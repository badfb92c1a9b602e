# SPDX-License-Identifier: Apache-2.0
"""Made-up weights of the published BEVFusion under the names and in the shapes of its two repositories."""

import torch

DEPTHS, WIDTHS, HEADS = (2, 2, 6, 2), (96, 192, 384, 768), (3, 6, 12, 24)


class Weights(dict):
    """Random tensors by name; every tensor has other values."""

    def __init__(self, *, layout="spconv1"):
        super().__init__()
        self.layout = layout

    def put(self, name, *shape):
        self[name] = torch.randn(shape)

    def affine(self, name, channels):
        self.put(f"{name}.weight", channels)
        self.put(f"{name}.bias", channels)

    def norm(self, name, channels):
        self.affine(name, channels)
        self.put(f"{name}.running_mean", channels)
        self[f"{name}.running_var"] = torch.rand(channels)
        self[f"{name}.num_batches_tracked"] = torch.tensor(len(self))

    def conv(self, name, outputs, inputs, *kernel, bias=False):
        self.put(f"{name}.weight", outputs, inputs, *kernel)
        if bias:
            self.put(f"{name}.bias", outputs)

    def sparse(self, name, inputs, outputs, *kernel):
        shape = (*kernel, inputs, outputs) if self.layout == "spconv1" else (outputs, *kernel, inputs)
        self.put(f"{name}.weight", *shape)


def swin(to, at):
    to.conv(f"{at}.patch_embed.projection", 96, 3, 4, 4, bias=True)
    to.affine(f"{at}.patch_embed.norm", 96)
    for stage, (depth, width, heads) in enumerate(zip(DEPTHS, WIDTHS, HEADS, strict=True)):
        for block in range(depth):
            name = f"{at}.stages.{stage}.blocks.{block}"
            to.affine(f"{name}.norm1", width)
            to.put(f"{name}.attn.w_msa.relative_position_bias_table", 169, heads)
            to[f"{name}.attn.w_msa.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
            to.conv(f"{name}.attn.w_msa.qkv", 3 * width, width, bias=True)
            to.conv(f"{name}.attn.w_msa.proj", width, width, bias=True)
            to.affine(f"{name}.norm2", width)
            to.conv(f"{name}.ffn.layers.0.0", 4 * width, width, bias=True)
            to.conv(f"{name}.ffn.layers.1", width, 4 * width, bias=True)
        if stage < 3:
            to.affine(f"{at}.stages.{stage}.downsample.norm", 4 * width)
            to.conv(f"{at}.stages.{stage}.downsample.reduction", 2 * width, 4 * width)
        if stage:
            to.affine(f"{at}.norm{stage}", width)


def camera_neck(to, at):
    for level, inputs in enumerate((192 + 256, 384 + 768)):
        to.conv(f"{at}.lateral_convs.{level}.conv", 256, inputs, 1, 1)
        to.norm(f"{at}.lateral_convs.{level}.bn", 256)
        to.conv(f"{at}.fpn_convs.{level}.conv", 256, 256, 3, 3)
        to.norm(f"{at}.fpn_convs.{level}.bn", 256)


def view_transform(to, at):
    for name in ("dx", "bx", "nx"):
        to.put(f"{at}.{name}", 3)
    to.put(f"{at}.frustum", 118, 32, 88, 3)
    for n, (inputs, outputs, kernel) in zip((0, 3, 6), ((1, 8, 1), (8, 32, 5), (32, 64, 5)), strict=True):
        to.conv(f"{at}.dtransform.{n}", outputs, inputs, kernel, kernel, bias=True)
        to.norm(f"{at}.dtransform.{n + 1}", outputs)
    for n, inputs in ((0, 320), (3, 256)):
        to.conv(f"{at}.depthnet.{n}", 256, inputs, 3, 3, bias=True)
        to.norm(f"{at}.depthnet.{n + 1}", 256)
    to.conv(f"{at}.depthnet.6", 198, 256, 1, 1, bias=True)
    for n in (0, 3, 6):
        to.conv(f"{at}.downsample.{n}", 80, 80, 3, 3)
        to.norm(f"{at}.downsample.{n + 1}", 80)


def sparse_encoder(to, at):
    to.sparse(f"{at}.conv_input.0", 5, 16, 3, 3, 3)
    to.norm(f"{at}.conv_input.1", 16)
    for stage, (width, down) in enumerate(((16, 32), (32, 64), (64, 128), (128, None)), start=1):
        name = f"{at}.encoder_layers.encoder_layer{stage}"
        for block in range(2):
            for n in (1, 2):
                to.sparse(f"{name}.{block}.conv{n}", width, width, 3, 3, 3)
                to.norm(f"{name}.{block}.bn{n}", width)
        if down:
            to.sparse(f"{name}.2.0", width, down, 3, 3, 3)
            to.norm(f"{name}.2.1", down)
    to.sparse(f"{at}.conv_out.0", 128, 128, 1, 1, 3)
    to.norm(f"{at}.conv_out.1", 128)


def bev_decoder(to, backbone, neck):
    for stage, (inputs, width) in enumerate(((256, 128), (128, 256))):
        for n in range(0, 18, 3):
            to.conv(f"{backbone}.blocks.{stage}.{n}", width, inputs if n == 0 else width, 3, 3)
            to.norm(f"{backbone}.blocks.{stage}.{n + 1}", width)
    to.conv(f"{neck}.deblocks.0.0", 256, 128, 1, 1)
    to.conv(f"{neck}.deblocks.1.0", 256, 256, 2, 2)
    for stage in range(2):
        to.norm(f"{neck}.deblocks.{stage}.1", 256)


def transfusion_head(to, at, *, attention, linears, norms):
    to.conv(f"{at}.shared_conv", 128, 512, 3, 3, bias=True)
    to.conv(f"{at}.heatmap_head.0.conv", 128, 128, 3, 3)
    to.norm(f"{at}.heatmap_head.0.bn", 128)
    to.conv(f"{at}.heatmap_head.1", 10, 128, 3, 3, bias=True)
    to.conv(f"{at}.class_encoding", 128, 10, 1, bias=True)
    for name in attention:
        to.put(f"{at}.decoder.0.{name}.in_proj_weight", 384, 128)
        to.put(f"{at}.decoder.0.{name}.in_proj_bias", 384)
        to.conv(f"{at}.decoder.0.{name}.out_proj", 128, 128, bias=True)
    to.conv(f"{at}.decoder.0.{linears[0]}", 256, 128, bias=True)
    to.conv(f"{at}.decoder.0.{linears[1]}", 128, 256, bias=True)
    for name in norms:
        to.affine(f"{at}.decoder.0.{name}", 128)
    for name in ("self_posembed", "cross_posembed"):
        name = f"{at}.decoder.0.{name}.position_embedding_head"
        to.conv(f"{name}.0", 128, 2, 1, bias=True)
        to.norm(f"{name}.1", 128)
        to.conv(f"{name}.3", 128, 128, 1, bias=True)
    for branch, width in dict(center=2, height=1, dim=3, rot=2, vel=2, heatmap=10).items():
        to.conv(f"{at}.prediction_heads.0.{branch}.0.conv", 64, 128, 1)
        to.norm(f"{at}.prediction_heads.0.{branch}.0.bn", 64)
        to.conv(f"{at}.prediction_heads.0.{branch}.1", width, 64, 1, bias=True)


def fuser(to, at):
    to.conv(f"{at}.0", 256, 336, 3, 3)
    to.norm(f"{at}.1", 256)


def mit_weights(*, camera=True) -> Weights:
    """swint_v0p075/convfuser of mit-han-lab/bevfusion, or its LiDAR-only detector."""
    to = Weights()
    if camera:
        swin(to, "encoders.camera.backbone")
        camera_neck(to, "encoders.camera.neck")
        view_transform(to, "encoders.camera.vtransform")
        fuser(to, "fuser")
    sparse_encoder(to, "encoders.lidar.backbone")
    bev_decoder(to, "decoder.backbone", "decoder.neck")
    names = {"attention": ("self_attn", "multihead_attn"), "linears": ("linear1", "linear2")}
    transfusion_head(to, "heads.object", **names, norms=("norm1", "norm2", "norm3"))
    return to


def mmdet3d_weights(*, camera=True, layout="spconv2") -> Weights:
    """projects/BEVFusion of mmdetection3d."""
    to = Weights(layout=layout)
    if camera:
        swin(to, "img_backbone")
        camera_neck(to, "img_neck")
        view_transform(to, "view_transform")
        fuser(to, "fusion_layer")
    sparse_encoder(to, "pts_middle_encoder")
    bev_decoder(to, "pts_backbone", "pts_neck")
    names = {"attention": ("self_attn.attn", "cross_attn.attn"), "linears": ("ffn.layers.0.0", "ffn.layers.1")}
    transfusion_head(to, "bbox_head", **names, norms=("norms.0", "norms.1", "norms.2"))
    return to


def camera_only_weights() -> Weights:
    """The camera-only detector of mit-han-lab/bevfusion."""
    to = Weights()
    swin(to, "encoders.camera.backbone")
    camera_neck(to, "encoders.camera.neck")
    to.conv("encoders.camera.vtransform.depthnet", 198, 256, 1, 1, bias=True)
    for n in (0, 3, 6):
        to.conv(f"encoders.camera.vtransform.downsample.{n}", 80, 80, 3, 3)
        to.norm(f"encoders.camera.vtransform.downsample.{n + 1}", 80)
    inputs = 80
    for stage, width in enumerate((128, 256, 512)):
        for block in range(2):
            name = f"decoder.backbone.{stage}.{block}"
            for n in (1, 2):
                to.conv(f"{name}.conv{n}", width, inputs if n == 1 else width, 3, 3)
                to.norm(f"{name}.bn{n}", width)
            if block == 0:
                to.conv(f"{name}.downsample.0", width, inputs, 1, 1)
                to.norm(f"{name}.downsample.1", width)
            inputs = width
    to.conv("decoder.neck.fuse.0", 256, 640, 1, 1)
    to.conv("decoder.neck.fuse.3", 256, 256, 3, 3)
    to.conv("decoder.neck.upsample.1", 256, 256, 3, 3)
    for n in ("fuse.1", "fuse.4", "upsample.2"):
        to.norm(f"decoder.neck.{n}", 256)
    to.conv("heads.object.shared_conv.conv", 64, 256, 3, 3)
    to.norm("heads.object.shared_conv.bn", 64)
    for task, classes in enumerate((1, 2, 2, 1, 2, 2)):
        for branch, width in dict(reg=2, height=1, dim=3, rot=2, vel=2, heatmap=classes).items():
            name = f"heads.object.task_heads.{task}.{branch}"
            to.conv(f"{name}.0.conv", 64, 64, 3, 3)
            to.norm(f"{name}.0.bn", 64)
            to.conv(f"{name}.1", width, 64, 3, 3, bias=True)
    return to


def with_map_head(weights: Weights) -> Weights:
    """The same with the head of map segmentation in place of that of objects."""
    to = Weights(layout=weights.layout)
    to.update({name: value for name, value in weights.items() if not name.startswith("heads.object")})
    for n in (0, 3):
        to.conv(f"heads.map.classifier.{n}", 512, 512, 3, 3)
        to.norm(f"heads.map.classifier.{n + 1}", 512)
    to.conv("heads.map.classifier.6", 6, 512, 1, 1, bias=True)
    return to
