# SPDX-License-Identifier: Apache-2.0
"""KITTI's object benchmark, real or simulated: one LiDAR scan a frame, with objects seen by the camera before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.image_file import read_image
from pcperc.datasets.kitti_files import (
    CLASSES,
    DONT_CARE,
    KITTIObjects,
    list_frames,
    png_size,
    read_calibration,
    read_objects,
)
from pcperc.datasets.semantickitti import read_scan
from pcperc.datasets.transformed import TransformedDataset
from pcperc.geometry.kitti import KITTICalibration, upright_to_lidar
from pcperc.registry import DATASETS


class KITTIFrames(TransformedDataset):
    """The frames of a split and their files; what `KITTIObject` and `KITTIFrustums` share."""

    def __init__(self, *, root: str | Path, split: str, classes: Sequence[str], **options) -> None:
        super().__init__(split=split, **options)
        self.root, self.classes = Path(root), tuple(classes)
        unknown = [name for name in self.classes if name not in CLASSES]
        if unknown:
            raise ValueError(f"{self._name}: classes must be of {', '.join(CLASSES)}, got {unknown[0]!r}")
        self.folder, self.frames = list_frames(self.root, split)

    @property
    def metainfo(self) -> dict:
        """What an evaluator needs to know of this data set."""
        return {
            "classes": self.classes,
            "root": str(self.root),
            "folder": str(self.folder),
            "split": self.split,
            "frames": tuple(self.frames),
        }

    def read_scan(self, frame: str) -> np.ndarray:
        """Return the points of a frame, (N, 4) float32 ``[x, y, z, reflectance]``, LiDAR frame."""
        return read_scan(self.folder / "velodyne" / f"{frame}.bin")

    def read_calibration(self, frame: str) -> KITTICalibration:
        """Return the calibration of a frame."""
        return read_calibration(self.folder / "calib" / f"{frame}.txt")

    def read_objects(self, frame: str) -> KITTIObjects | None:
        """Return the labels of a frame, None where the folder has none."""
        folder = self.folder / "label_2"
        return read_objects(folder / f"{frame}.txt") if folder.is_dir() else None

    def image_path(self, frame: str) -> Path:
        """Return where the image of a frame lies."""
        return self.folder / "image_2" / f"{frame}.png"


@DATASETS.register_module()
class KITTIObject(KITTIFrames):
    """Frames of one split in the published layout, as docs/conventions.md lays samples out; never augments.

    ``<root>/training/`` and ``<root>/testing/`` have velodyne/*.bin, calib/*.txt, image_2/*.png and, where labelled,
    label_2/*.txt.

    Args:
        root: folder of the data set.
        split: training or testing, all frames of that folder; or one that ``<root>/ImageSets/<split>.txt`` lists.
        classes: names of `CLASSES` whose boxes a sample has, in the order of their labels.
        with_image: samples have the image too, with the matrices that lead to it.
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    Attributes:
        tokens: the name of each frame.
    Raises:
        FileNotFoundError: a folder or list is missing. ValueError: an unknown class, or a split without frames.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        classes: Sequence[str] = CLASSES,
        with_image: bool = False,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        test_mode: bool = False,
    ) -> None:
        super().__init__(root=root, split=split, classes=classes, transforms=transforms, test_mode=test_mode)
        self.tokens, self.with_image = list(self.frames), with_image

    def __len__(self) -> int:
        return len(self.frames)

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms.

        Raises:
            IndexError: no such sample.
            FileNotFoundError, ValueError: a file is missing, truncated or holds something else; the message names it.
        """
        index = self.check_index(index)
        frame = self.frames[index]
        scan, calibration = self.read_scan(frame), self.read_calibration(frame)
        sample = {
            "sample_token": frame,
            "frame": frame,
            "scene_name": self.split,
            "sample_index": index,
            "num_recorded_points": len(scan),
            "points": scan,
            "lidar_aug": np.eye(4),
            "calibration": calibration,
            "image_size": png_size(self.image_path(frame)),
        }
        if self.with_image:
            sample["images"] = [read_image(self.image_path(frame))]
            sample["lidar2camera"], sample["camera2image"] = (
                calibration.lidar2camera[None],
                calibration.camera2image[None],
            )
            sample["image_aug"] = np.eye(3)[None]
        objects = self.read_objects(frame)
        if objects is not None:
            kept = objects.take(np.isin(objects.types, self.classes))
            boxes = upright_to_lidar(kept.boxes(), calibration)
            unknown = np.full((len(kept), 2), np.nan)  # KITTI's labels have no velocity
            sample["objects"] = objects.take(objects.types != DONT_CARE)
            sample["boxes"] = np.concatenate([boxes, unknown], 1).astype(np.float32)
            sample["labels"] = np.array([self.classes.index(name) for name in kept.types], np.int64)
        return sample
