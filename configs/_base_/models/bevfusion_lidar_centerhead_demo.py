# SPDX-License-Identifier: Apache-2.0
"""BEVFusion from LiDAR alone with the center head at demonstration size."""

from mmengine.config import read_base

with read_base():
    from .bevfusion_lidar_demo import model
    from .center_head import _center_head

model["heads"] = dict(object=_center_head)
model["heads"]["object"].merge(
    dict(in_channels=96, shared_channels=32, branch_channels=32, box_coder=dict(cell_size=(1.2, 1.2)))
)
