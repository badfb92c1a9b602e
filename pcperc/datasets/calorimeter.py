# SPDX-License-Identifier: Apache-2.0
"""Calorimeter events: hits with the particle that each belongs to, simulated or in the recHit layout of CMS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.calorimeter_shares import check_shares
from pcperc.datasets.cloud_files import NUMPY_ERRORS, numpy_reason
from pcperc.datasets.transformed import TransformedDataset
from pcperc.geometry.calorimeter import HIT_CLASSES, HIT_COLUMNS, NO_INSTANCE, NOISE_CLASS, pseudorapidity
from pcperc.registry import DATASETS

LAYERS = 52  # of the simulated endcap, numbered from 1
ENDCAP_Z = (300.0, 560.0)  # cm, either side: a hit elsewhere is in no layer
MAX_RADIUS = 400.0  # cm
# Of one hit, GeV and no unit; far above, a network's numbers are not finite and no cluster is found.
MAX_ENERGY, MAX_ETA = 1e6, 20.0
ETA_TOLERANCE = 0.01  # of eta beside that of x, y, z: float32 and writers that round agree to 1e-6
WHOLE_LIMIT = 2**53  # of whole numbers in a file: a float64 still counts them one by one
# What a file calls the hits, and the particle of each hit; the first is what pcperc.simulation writes.
HIT_NAMES = ("hits", "rechits", "recHitFeatures")
CLUSTER_NAME = "recHitTruthClusterIdx"


@DATASETS.register_module()
class CalorimeterHits(TransformedDataset):
    """Events of one folder of npz files, one file an event, as docs/conventions.md lays samples out; never augments.

    Args:
        root: folder of the data set.
        split: sub-folder with the events, such as sim_train; "" reads the files of ``root`` itself.
        class_of_clusters: index into ``classes``, 1 or 2, of all clusters of events whose truth has no classes, as that
            of recHits; what is in none of them is noise. None leaves such events without ``class``: they can be looked
            at, and neither be trained with nor scored. Where a file has classes, these count.
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    Attributes:
        tokens: "<split>/<file>" of each sample.
    Raises:
        FileNotFoundError: no such folder. ValueError: it has no npz file, or there is no such class.
    """

    classes = HIT_CLASSES

    def __init__(
        self,
        *,
        root: str | Path,
        split: str = "",
        class_of_clusters: int | None = None,
        transforms: Sequence[Callable[[dict], dict | None]] = (),
        test_mode: bool = False,
    ) -> None:
        super().__init__(split=split, transforms=transforms, test_mode=test_mode)
        known = {index: name for index, name in enumerate(self.classes) if index != NOISE_CLASS}
        if class_of_clusters is not None and (type(class_of_clusters) is not int or class_of_clusters not in known):
            wanted = ", ".join(f"{index} ({name})" for index, name in known.items())
            raise ValueError(
                f"CalorimeterHits: class_of_clusters must be one of {wanted}, or None, got {class_of_clusters!r}"
            )
        self.class_of_clusters = class_of_clusters
        self.root = Path(root)
        folder = self.root / split
        if not folder.is_dir():
            known = sorted(path.name for path in self.root.glob("*") if next(path.glob("*.npz"), None))
            raise FileNotFoundError(f"CalorimeterHits: {folder} is missing (known: {', '.join(known) or 'none'})")
        self._files = sorted(folder.glob("*.npz"))
        if not self._files:
            raise ValueError(f"CalorimeterHits: {folder} must have npz files, but has none")
        self.tokens = [f"{split}/{path.stem}" if split else path.stem for path in self._files]

    def __len__(self) -> int:
        return len(self._files)

    @property
    def metainfo(self) -> dict:
        """What an evaluator needs to know of this data set."""
        return {"classes": self.classes, "root": str(self.root), "split": self.split}

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms.

        Raises:
            IndexError: no such sample. FileNotFoundError, ValueError: as of `read_event`.
        """
        index = self.check_index(index)
        names = {"sample_token": self.tokens[index], "scene_name": self.split, "sample_index": index}
        event = read_event(self._files[index])
        if self.class_of_clusters is not None and "instance" in event and "class" not in event:
            event["class"] = np.where(event["instance"] == NO_INSTANCE, NOISE_CLASS, self.class_of_clusters)
        return {**names, **event}


def read_event(path: str | Path) -> dict[str, np.ndarray]:
    """Read an event of either layout; one without hits, with one hit or of noise alone is an event like every other.

    Args:
        path: an npz file with ``hits`` as pcperc.simulation writes them; or with ``rechits`` or ``recHitFeatures``,
            (N, 9) `HIT_COLUMNS`, and perhaps ``recHitTruthClusterIdx``, (N,) or (N, 1); its negative numbers are noise.
    Returns:
        ``hits`` (N, 9) float32, and where the file has them ``layer``, ``instance``, ``class``, ``contributors``,
        ``fractions`` and the particles' arrays. The recHit layout knows clusters but no classes.
    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no npz file, or lacks hits; an energy that is negative, NaN, infinite or beyond any hit's; a
            place outside the endcaps, or with another eta than the file says; an unknown layer, class or particle;
            truth of another length or no number; parts of a hit's energy that are more than the whole, or of which the
            largest is another particle's. The message names the file, the array, and of values the first wrong one.
    """
    arrays = _load(Path(path))
    name = next((name for name in HIT_NAMES if name in arrays), None)
    if name is None:
        raise ValueError(f"event {path} must have an array {' or '.join(HIT_NAMES)}, got {sorted(arrays)}")
    also = [other for other in HIT_NAMES if other in arrays and other != name]
    if also:
        raise ValueError(f"event {path} must have one array of hits, got {name} and {also[0]}")
    event = {"hits": _checked_hits(path, name, arrays[name])}
    count = len(event["hits"])
    if name != HIT_NAMES[0]:
        if CLUSTER_NAME in arrays:
            clusters = arrays[CLUSTER_NAME]
            clusters = clusters[:, 0] if clusters.shape == (count, 1) else clusters
            clusters = _whole_numbers(path, CLUSTER_NAME, clusters, count)
            event["instance"] = np.where(clusters < 0, NO_INSTANCE, clusters)
        return event
    particles = _particles(path, arrays)
    last = len(particles["particles"]) - 1 if "particles" in particles else np.inf
    return {**event, **_read_truth(path, arrays, count, last), **particles}


def _particles(path: str | Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays that have a row a particle."""
    particles = {key: value for key, value in arrays.items() if key.startswith("particle")}
    rows = {value.shape[:1] for value in particles.values()}
    if len(rows) > 1 or () in rows:
        shapes = {key: value.shape for key, value in particles.items()}
        raise ValueError(f"event {path}: arrays of particles must have one row a particle, got {shapes}")
    for key, values in particles.items():
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            got = values.dtype if values.dtype.kind not in "biuf" else "NaN or infinity"
            raise ValueError(f"event {path}: {key} must be finite numbers, got {got}")
    return particles


def _read_truth(path: str | Path, arrays: dict[str, np.ndarray], count: int, last: float) -> dict[str, np.ndarray]:
    """Return layer, class and instance, contributors and fractions of ``count`` hits; ``last`` is the last particle."""
    event = {}
    for key in ("layer", "class", "instance"):
        if key in arrays:
            event[key] = _whole_numbers(path, key, arrays[key], count)
    _check_range(path, event, "layer", 1, LAYERS)
    _check_range(path, event, "class", 0, len(HIT_CLASSES) - 1)
    _check_range(path, event, "instance", NO_INSTANCE, last)
    if ("class" in event) != ("instance" in event):
        only = "class" if "class" in event else "instance"
        raise ValueError(f"event {path} must have both class and instance or neither, got {only} alone")
    if "class" in event:
        wrong = np.flatnonzero((event["class"] == NOISE_CLASS) != (event["instance"] == NO_INSTANCE))
        if len(wrong):
            got = f"class {event['class'][wrong[0]]} and instance {event['instance'][wrong[0]]} at hit {wrong[0]}"
            rule = f"instance {NO_INSTANCE} exactly where class is {NOISE_CLASS} (noise)"
            raise ValueError(f"event {path} must have {rule}, got {got}")
    event |= _read_shares(path, arrays, count, last)
    if "fractions" in event:
        check_shares(path, event["fractions"], event.get("contributors"), event.get("instance"))
    return event


def _read_shares(path: str | Path, arrays: dict[str, np.ndarray], count: int, last: float) -> dict[str, np.ndarray]:
    """Return who gave each hit its energy, and which parts of it."""
    event = {}
    for key in ("contributors", "fractions"):
        if key in arrays:
            if arrays[key].ndim != 2 or len(arrays[key]) != count:
                raise ValueError(f"event {path}: {key} must be ({count}, K), a row a hit, got {arrays[key].shape}")
            if arrays[key].dtype.kind not in "biuf":
                raise ValueError(f"event {path}: {key} must be numbers, got {arrays[key].dtype}")
            event[key] = arrays[key]
    if "contributors" in event:
        _check_whole(path, "contributors", event["contributors"])
        if "fractions" in event and event["fractions"].shape != event["contributors"].shape:
            shapes = event["fractions"].shape, event["contributors"].shape
            raise ValueError(
                f"event {path}: fractions must be as many as contributors, got {shapes[0]} and {shapes[1]}"
            )
    _check_range(path, event, "contributors", NO_INSTANCE, last)
    _check_range(path, event, "fractions", 0, 1)
    return event


def _load(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file."""
    if not path.is_file():
        raise FileNotFoundError(f"event {path} is missing")
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise ValueError(f"it holds one array {file.shape} without a name, as npy files do")
            arrays = {name: file[name] for name in file.files}
    except NUMPY_ERRORS as error:
        raise ValueError(f"event {path} cannot be read as npz: {numpy_reason(error)}") from error
    for name, values in arrays.items():
        if not isinstance(values, np.ndarray):  # numpy gives the bytes of a member that is no npy file
            raise ValueError(f"event {path} cannot be read as npz: its member {name} is no array")
    return arrays


def _checked_hits(path: str | Path, name: str, hits: np.ndarray) -> np.ndarray:
    """Return the hits as (N, 9) float32."""
    width = len(HIT_COLUMNS)
    if hits.ndim != 2 or hits.shape[1] != width or hits.dtype.kind not in "fiu":
        raise ValueError(f"event {path}: {name} must be (N, {width}) numbers, got {hits.shape} {hits.dtype}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is named as such
        hits = hits.astype(np.float32)
    finite = np.isfinite(hits).all(axis=1)
    depth, radius = np.abs(hits[:, 7]), np.hypot(hits[:, 5], hits[:, 6])
    checks = (
        (finite, "must be finite"),
        (hits[:, 0] >= 0, "must have an energy >= 0"),
        (hits[:, 0] <= MAX_ENERGY, f"must have an energy <= {MAX_ENERGY:g} GeV"),
        (np.abs(hits[:, 1]) <= MAX_ETA, f"must have |eta| <= {MAX_ETA:g}"),
        ((depth >= ENDCAP_Z[0]) & (depth <= ENDCAP_Z[1]), f"must be in a layer, |z| in {ENDCAP_Z} cm"),
        (radius <= MAX_RADIUS, f"must be within {MAX_RADIUS:g} cm of the beam"),
    )
    for good, rule in checks:
        if not good.all():
            first = int(np.flatnonzero(~good)[0])
            row = dict(zip(HIT_COLUMNS, hits[first].tolist(), strict=True))
            raise ValueError(f"event {path}: {name} {rule}, got {row} at hit {first} ({(~good).sum()} such hits)")
    _check_eta(path, name, hits)
    return hits


def _check_eta(path: str | Path, name: str, hits: np.ndarray) -> None:
    """Raise where eta is not that of x, y, z; on the beam's axis, where it would be beyond `MAX_ETA`, any will do."""
    expected = pseudorapidity(hits[:, 5:8])
    far = (np.abs(expected) <= MAX_ETA) & ~(np.abs(hits[:, 1] - expected) <= ETA_TOLERANCE)
    if far.any():
        first = int(far.argmax())
        rule = f"must have the eta of x, y, z to {ETA_TOLERANCE}, asinh(z / hypot(x, y)) = {expected[first]:.6g}"
        got = f"{hits[first, 1]:.6g} at hit {first} ({far.sum()} such hits)"
        raise ValueError(f"event {path}: {name} {rule}, got {got}")


def _whole_numbers(path: str | Path, name: str, values: np.ndarray, count: int) -> np.ndarray:
    """Return one whole number a hit, (N,) int64."""
    if values.shape != (count,):
        raise ValueError(f"event {path}: {name} must be ({count},), one a hit, got {values.shape}")
    _check_whole(path, name, values)
    far = np.flatnonzero((values < -WHOLE_LIMIT) | (values > WHOLE_LIMIT))  # would become another number
    if len(far):
        limit = f"[{-WHOLE_LIMIT}, {WHOLE_LIMIT}]"
        raise ValueError(f"event {path}: {name} must be in {limit}, got {values[far[0]]} at hit {far[0]}")
    return values.astype(np.int64)


def _check_whole(path: str | Path, name: str, values: np.ndarray) -> None:
    """Raise where an array, (N,) or (N, K), holds anything but whole numbers."""
    if values.dtype.kind not in "biuf":
        raise ValueError(f"event {path}: {name} must be whole numbers, got {values.dtype}")
    wrong = np.argwhere(~((values == np.floor(values)) & np.isfinite(values)))
    if len(wrong):
        first = tuple(wrong[0])
        raise ValueError(f"event {path}: {name} must be whole numbers, got {values[first]} at hit {first[0]}")


def _check_range(path: str | Path, event: dict, name: str, low: float, high: float) -> None:
    """Raise where an array that the event has, (N,) or (N, K), leaves its range or is NaN."""
    values = event.get(name, np.zeros(0))
    wrong = np.argwhere(~((values >= low) & (values <= high)))
    if len(wrong):
        first = tuple(wrong[0])
        raise ValueError(f"event {path}: {name} must be in [{low}, {high}], got {values[first]} at hit {first[0]}")
