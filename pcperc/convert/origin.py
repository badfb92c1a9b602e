# SPDX-License-Identifier: Apache-2.0
"""Whose network a file of weights is, by the names in it."""

import difflib
import re
from collections.abc import Iterable, Sequence

# How the names of each source begin. They tell sources apart; whether all names are there, the conversion finds.
_BEGINNINGS = {
    "bevfusion": r"encoders\.camera\.(backbone|neck|vtransform)\.|encoders\.lidar\.backbone\.|fuser\.\d|"
    r"decoder\.(backbone|neck)\.|heads\.(object|map)\.",
    "mmdet3d": r"(img_backbone|img_neck|view_transform|pts_middle_encoder|fusion_layer|pts_backbone|pts_neck|"
    r"bbox_head)\.",
    "spvnas": r"(stem|stage\d|up\d|downsample|upsample|point_transforms|classifier)\.",
    "torchsparse": r"(stem|encoders\.\d+|decoders\.\d+)\.",
    "pvcnn": r"(point_features|cloud_features|sa_layers|fp_layers|inst_seg_net|center_reg_net|box_est_net|"
    r"classifier)\.|size_templates$",
}
SOURCES_OF_NETWORKS = tuple(_BEGINNINGS)


def find_origin(names: Iterable[str]) -> str:
    """Return the source that has all of the names.

    Args:
        names: keys of a ``state_dict``; a leading ``module.`` is dropped.
    Raises:
        ValueError: none has; the message lists the known sources, the nearest of them (where none knows any name, the
            one whose names are spelt most alike), and what it does not know.
    """
    names = [name.removeprefix("module.") for name in names]
    unknown = {
        source: [name for name in names if not re.match(pattern, name)] for source, pattern in _BEGINNINGS.items()
    }
    nearest = min(unknown, key=lambda source: len(unknown[source]))
    if names and not unknown[nearest]:
        return nearest
    few = ", ".join(unknown[nearest][:3]) or "a file without names"
    known = len(names) - len(unknown[nearest])
    closest = f"the nearest is {nearest}, by {known} of {len(names)} names, which does not know" if known else ""
    if not known and (alike := _most_alike(names)):
        closest = f"the nearest is {alike}, which does not know"
    sources = ", ".join(_BEGINNINGS)
    raise ValueError(
        f"find_origin: its origin is unknown; known are {sources}; {closest or 'none of them knows'} {few}"
    )


def _most_alike(names: Sequence[str]) -> str | None:
    """Return the source one of whose beginnings is spelt like a name's, or None."""
    first = {name.split(".")[0] for name in names}
    words = {word: source for source, pattern in _BEGINNINGS.items() for word in re.findall(r"[a-z_]{4,}", pattern)}
    near = [match for name in sorted(first) for match in difflib.get_close_matches(name, words, n=1, cutoff=0.75)]
    sources = [words[match] for match in near]
    return max(sources, key=sources.count) if sources else None
