# SPDX-License-Identifier: Apache-2.0
"""Classes of the indoor data sets: the 13 of S3DIS and the 20 of ScanNet's benchmark, each in the official order."""

S3DIS_CLASSES = (
    *("ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase", "board"),
    "clutter",
)
# In the order of the numbers in the h5 blocks of PointCNN and PVCNN.
S3DIS_BLOCK_CLASSES = (
    *("clutter", "ceiling", "floor", "wall", "beam", "column", "door", "window", "table", "chair", "sofa", "bookcase"),
    "board",
)
# What the annotations call things beyond the 13 classes; they count as clutter, as in all published results.
S3DIS_CLUTTER = ("stairs", "staris")

SCANNET_CLASSES = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture"),
    *("counter", "desk", "curtain", "refrigerator", "shower curtain", "toilet", "sink", "bathtub", "otherfurniture"),
)
# NYU40 numbers of these classes, as the label files hold them; all other numbers (0 to 40) are ignored.
SCANNET_NUMBERS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)
