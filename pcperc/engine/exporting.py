# SPDX-License-Identifier: Apache-2.0
"""Samples of a data set as raw files, for tools/infer.py and for other programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pcperc.datasets import CAMERAS, NuScenesDataset
from pcperc.engine.cloud_inference import recorded_cloud, told_categories
from pcperc.engine.config import ConfigError
from pcperc.engine.data import build_test_dataset, configs_with_data
from pcperc.engine.messages import say
from pcperc.engine.progress import ProgressDisplay
from pcperc.engine.raw_files import write_raw_sample
from pcperc.engine.scene_visualizing import with_all_sensors


@dataclass(frozen=True)
class ExportOptions:
    """What the command line says; see tools/README.md."""

    config: Path
    index: Sequence[int] = (0,)
    out: Path = Path("samples")
    split: str | None = None
    data_root: str | None = None


def export_samples(options: ExportOptions) -> list[Path]:
    """Write samples of the config's test split, as they were recorded, as points, calibration and images, or as events.

    Returns:
        The files, sample by sample.
    Raises:
        ConfigError: no such sample, or a data set that gives no samples without transforms.
        DataMissing: neither the data of the config nor that of a profile is there.
    """
    cfg = configs_with_data(options.config, options.data_root)[0]
    dataset = build_test_dataset(cfg, options.split)
    if "lidar" not in getattr(dataset, "modalities", ("lidar",)):  # infer.py is called with a file of points
        dataset = with_all_sensors(dataset, cfg.test_dataloader.dataset)
    if not hasattr(dataset, "read_sample"):
        raise ConfigError(f"{options.config}: {type(dataset).__name__} has no read_sample, so it cannot be exported")
    wrong = next((index for index in options.index if not 0 <= index < len(dataset)), None)
    if wrong is not None:
        raise ConfigError(f"--index must be 0 to {len(dataset) - 1}, got {wrong}")
    cameras = CAMERAS if isinstance(dataset, NuScenesDataset) else ()
    written = []
    with ProgressDisplay("exporting", len(options.index)) as display:
        for index in options.index:
            sample = recorded_cloud(dataset.read_sample(index), cfg.test_dataloader.dataset)
            written += write_raw_sample(sample, options.out, f"{index:04d}", cameras=cameras)
            display.advance(sample.get("sample_token", ""))
    kind = ".npz" if any(path.suffix == ".npz" for path in written) else ".npy"
    files, more = f"{options.out}/*{kind}", ""
    if any(path.suffix == ".json" for path in written):
        more = f" --calibration {options.out}/*.json"
    if known := told_categories(cfg.test_dataloader.dataset):
        files, more = written[-1], f" --category {known[sample['category']] if 'category' in sample else 'NAME'}"
    say(f"predict {'one' if known else 'them'}: python tools/infer.py {options.config} CHECKPOINT {files}{more}")
    return written
