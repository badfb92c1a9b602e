# SPDX-License-Identifier: Apache-2.0
"""The frames of a batch inference, from files or a data set, and what must be the same for parts of one run."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pcperc.engine.config import ConfigError
from pcperc.engine.data import build_test_dataset
from pcperc.engine.file_samples import classes_of
from pcperc.engine.inference import raw_transforms
from pcperc.engine.loading import open_checkpoint
from pcperc.engine.raw_files import raw_sample, read_points


@dataclass(frozen=True)
class BatchOptions:
    """What the command line says; see tools/README.md."""

    config: Path
    checkpoint: Path
    out: Path
    files: Sequence[Path] = ()
    calibration: Sequence[Path] = ()
    split: str | None = None
    data_root: str | None = None
    workers: int | None = None
    frames_per_part: int = 16
    columns: int | None = None
    intensity_scale: float = 1.0
    min_score: float = 0.1
    fuse: bool = False
    device: str | None = None


class FrameSource:
    """The frames of a run and the model's view of them, on whichever machine it is made.

    Raises:
        ConfigError: no frame, no detector, or not a calibration for each file.
        CheckpointError, DataMissing, FileNotFoundError: see there.
    """

    def __init__(self, options: BatchOptions) -> None:
        self.options = options
        files_only = {"compared": ("model",)} if options.files else {"data_root": options.data_root}
        self.opened = open_checkpoint(options.checkpoint, options.config, **files_only)
        cfg = self.opened.cfg
        if "object" not in cfg["model"].get("heads", {}):
            raise ConfigError(f"{options.checkpoint}: --ray is for detectors, its model finds no boxes")
        self.needs_images = "camera" in cfg["model"].get("encoders", {})
        description = cfg["test_dataloader"]["dataset"]
        self.classes = classes_of(description)
        self.dataset: Any = None
        if options.files:
            self._check_files()
            self.transforms = raw_transforms(description)
        else:
            self.dataset = build_test_dataset(Config(dict(cfg.items())), options.split)
        if len(self) == 0:
            raise ConfigError(f"{options.config}: there is no frame to look at")

    def __len__(self) -> int:
        return len(self.options.files) if self.dataset is None else len(self.dataset)

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for results to be parts of one run."""
        checkpoint = hashlib.sha256(self.options.checkpoint.read_bytes()).hexdigest()
        frames = [str(path) for path in self.options.files] or [
            str(self.dataset.metainfo.get(k)) for k in ("root", "split")
        ]
        options = self.options
        reading = [options.columns, options.intensity_scale, [str(path) for path in options.calibration]]
        reading += ["fuse"] if options.fuse else []
        described = json.dumps([frames, len(self), options.min_score, *reading])
        return {
            "checkpoint": self.options.checkpoint.name,
            "checkpoint_sha256": checkpoint,
            "frames": len(self),
            "frames_sha256": hashlib.sha256(described.encode()).hexdigest(),
            "frames_per_part": self.options.frames_per_part,
            "trained_on_simulated_data": self.opened.simulated,
        }

    def sample(self, index: int) -> dict:
        """Return the transformed sample of a frame."""
        if self.dataset is not None:
            return self.dataset[index]
        path = self.options.files[index]
        points = read_points(path, columns=self.options.columns, intensity_scale=self.options.intensity_scale)
        given = self.options.calibration
        sample = raw_sample(points, path, given[index if len(given) > 1 else 0] if given else None)
        for transform in self.transforms:
            sample = transform(sample)
        return {**sample, "sample_token": str(path)}

    def name(self, index: int) -> str:
        """Return what a frame is called where it cannot be read: its file, its token, or its number in the split."""
        if self.dataset is None:
            return str(self.options.files[index])
        tokens = getattr(self.dataset, "tokens", None)
        return f"sample {index} of {self.dataset.metainfo.get('split')}" if tokens is None else tokens[index]

    def _check_files(self) -> None:
        options = self.options
        if self.needs_images != bool(options.calibration):
            need = "looks at camera images: give --calibration" if self.needs_images else "looks at no images"
            raise ConfigError(f"{options.checkpoint} {need}")
        if len(options.calibration) not in (0, 1, len(options.files)):
            raise ConfigError(
                f"--calibration: must be one file, or one for each of {len(options.files)}, "
                f"got {len(options.calibration)}"
            )
        for path in (*options.files, *options.calibration):
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file")
