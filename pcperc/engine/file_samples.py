# SPDX-License-Identifier: Apache-2.0
"""Files that belong to no data set as samples, and what the data set of a config says of their classes."""

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pcperc.datasets import LABEL_MAPS, LabelMap, NuScenesLidarSeg, SemanticKITTI
from pcperc.datasets.nuscenes_lidarseg import CHALLENGE_MAP
from pcperc.engine.cloud_inference import cloud_label_map, cloud_sample, reads_clouds
from pcperc.engine.hit_inference import hits_sample
from pcperc.engine.raw_files import raw_sample, read_points
from pcperc.registry import DATASETS, resolve_type


@dataclass(frozen=True)
class Reading:
    """How a file of points is to be read: the options of infer.py of these names.

    Attributes:
        calibration: of the images that belong to the file, or None.
    """

    columns: int | None = None
    intensity_scale: float = 1.0
    category: str | None = None
    calibration: str | None = None

    def told(self) -> dict:
        """Return what differs from the defaults, for the result file; ``Reading(**told)`` is this one."""
        return {name: value for name, value in asdict(self).items() if value != getattr(Reading, name)}


def file_sample(path: str | Path, dataset: dict, reading: Reading, *, of_hits: bool) -> dict:
    """Read a file as a sample without truth.

    Args:
        dataset: of a config: says whether the file is a shape, a room, a frustum or else raw points.
        of_hits: it is an event of a calorimeter.
    Raises:
        FileNotFoundError, ValueError: it is missing or holds something else; the message names it.
    """
    if of_hits:
        return hits_sample(path)
    if reads_clouds(dataset):
        return cloud_sample(path, dataset, reading.category)
    points = read_points(path, columns=reading.columns, intensity_scale=reading.intensity_scale)
    recorded = {} if label_map_of(dataset) is None else {"num_recorded_points": len(points)}
    return {**raw_sample(points, path, reading.calibration), **recorded}


def classes_of(dataset: dict) -> Sequence[str]:
    """Return the class names of the boxes of a config's data set: those that it names, else the data set's own."""
    kind = resolve_type(dataset["type"], DATASETS)
    argument = inspect.signature(kind).parameters.get("classes")
    own = getattr(kind, "classes", ()) if argument is None else argument.default
    return dataset.get("classes", own)


def label_map_of(dataset: dict) -> LabelMap | None:
    """Return how the data set of a config numbers the classes of points in files; None where it is of boxes."""
    kind = resolve_type(dataset["type"], DATASETS)
    if kind is SemanticKITTI:
        return LABEL_MAPS[dataset.get("label_map", "official")]
    return CHALLENGE_MAP if kind is NuScenesLidarSeg else cloud_label_map(dataset)
