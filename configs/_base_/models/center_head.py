# SPDX-License-Identifier: Apache-2.0
"""The center head of nuScenes' ten classes in six tasks; a config sets in_channels and box_coder.

Distances of circle suppression are in metres; the published ones, 4 and 1, are their squares.
"""

from pcperc.models.bevfusion import BoxCoder, CenterHead, CenterLoss, CenterTask

_center_head = dict(
    type=CenterHead,
    in_channels=512,
    tasks=[
        dict(type=CenterTask, classes=(0,), nms="circle", threshold=2.0),  # car
        dict(type=CenterTask, classes=(1, 2), nms="rotated", threshold=0.2),  # truck, construction vehicle
        dict(type=CenterTask, classes=(3, 4), nms="rotated", threshold=0.2),  # bus, trailer
        dict(type=CenterTask, classes=(5,), nms="circle", threshold=1.0),  # barrier
        dict(type=CenterTask, classes=(6, 7), nms="rotated", threshold=0.2),  # motorcycle, bicycle
        dict(type=CenterTask, classes=(8, 9), nms="rotated", threshold=0.2, scales=(2.5, 4.0)),  # pedestrian, cone
    ],
    shared_channels=64,
    branch_channels=64,
    box_coder=dict(type=BoxCoder, point_range=(-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), cell_size=(0.6, 0.6)),
    criterion=dict(type=CenterLoss),
)
