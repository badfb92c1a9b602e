# SPDX-License-Identifier: Apache-2.0
"""What a captured BEVFusion computes neither waits for a GPU nor copies to it."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from pcperc.datasets import MAP_CLASSES
from pcperc.models.bevfusion import BEVGridTransform, BEVSegmentationHead, CenterHead, CenterTask
from pcperc.models.bevfusion.view_transform import LSSTransform
from pcperc.registry import MODELS
from tests.models.bevfusion_small import POINT_RANGE, small_model


class Watch(TorchFunctionMode):
    """Fails where Python makes a tensor of values or looks at those of one: on a GPU both make the host wait."""

    FORBIDDEN = {"tensor", "as_tensor", "from_numpy", "new_tensor", "item", "tolist", "nonzero", "cpu", "numpy"}
    FORBIDDEN |= {"__bool__", "__float__", "__int__", "__index__", "masked_select", "unique"}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        assert name not in self.FORBIDDEN, name
        if name in ("__getitem__", "__setitem__"):
            for index in args[1] if isinstance(args[1], tuple) else args[1:2]:
                is_mask = isinstance(index, torch.Tensor) and index.dtype == torch.bool
                assert not (is_mask or isinstance(index, list)), "an index that is a list or a mask"
        return function(*args, **(kwargs or {}))


def heads():
    tasks = [CenterTask((0, 2)), CenterTask((1,))]
    coder = MODELS.build(dict(type="BoxCoder", point_range=POINT_RANGE, cell_size=(1.0, 1.0)))
    bounds = ((-8.0, 8.0, 1.0), (-8.0, 8.0, 1.0)), ((-5.0, 5.0, 0.5), (-5.0, 5.0, 0.5))
    center = CenterHead(32, tasks, coder, shared_channels=8, branch_channels=8)
    return {
        "object": center,
        "map": BEVSegmentationHead(in_channels=32, classes=MAP_CLASSES, grid_transform=BEVGridTransform(*bounds)),
    }


@torch.no_grad()
def test_what_is_captured_neither_waits_nor_copies():
    model, images = small_model(), torch.randn(1, 2, 3, 32, 64)
    for other in heads().items():
        model.heads[other[0] + "2"] = other[1].eval()
    view_transform = LSSTransform(in_channels=8, out_channels=8, feature_stride=4).eval()
    with Watch():
        camera = model.encoders["camera"]
        image_feats = camera.image_feats(images)
        context, weight = camera.view_transform.lift(image_feats, torch.rand(1, 2, 1, 32, 64))
        view_transform.lift(image_feats)
        features = [torch.randn(1, channels, 16, 16) for channels in model.fuser.in_channels]
        outputs = model.read_out(tuple(model.heads), *features)
    assert set(outputs) == {"object", "object2", "map2"} and len(context) == weight.numel() // 11
    with pytest.raises(AssertionError, match="an index that is a list"), Watch():
        images[:, [0, 1]]
    with pytest.raises(AssertionError, match="item"), Watch():
        images.sum().item()
