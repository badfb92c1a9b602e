# SPDX-License-Identifier: Apache-2.0
"""BEVFusion from LiDAR alone with the center head instead of TransFusion's."""

from mmengine.config import read_base

with read_base():
    from .bevfusion_lidar import model
    from .center_head import _center_head

model["heads"] = dict(object=_center_head)
