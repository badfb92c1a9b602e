# SPDX-License-Identifier: Apache-2.0
"""ShapeNet-Part: its 16 categories, their folders, and the parts that each may have.

The files hold part numbers alone; the names are those that the parts go by, and what the simulator builds.
Source: Yi et al., "A Scalable Active Framework for Region Annotation in 3D Shape Collections", SIGGRAPH Asia 2016,
and the label ranges of the published splits.
"""

# Category: (WordNet offset, which names its folder; its parts in the order of their numbers, which run on from category
# to category).
_PUBLISHED = {
    "Airplane": ("02691156", ("body", "wing", "tail", "engine")),
    "Bag": ("02773838", ("handle", "body")),
    "Cap": ("02954340", ("panel", "peak")),
    "Car": ("02958343", ("roof", "hood", "wheel", "body")),
    "Chair": ("03001627", ("back", "seat", "leg", "arm")),
    "Earphone": ("03261776", ("earphone", "headband", "wire")),
    "Guitar": ("03467517", ("head", "neck", "body")),
    "Knife": ("03624134", ("blade", "handle")),
    "Lamp": ("03636649", ("base", "shade", "canopy", "stem")),
    "Laptop": ("03642806", ("keyboard", "screen")),
    "Motorbike": ("03790512", ("tank", "seat", "wheel", "handlebar", "light", "frame")),
    "Mug": ("03797390", ("handle", "cup")),
    "Pistol": ("03948459", ("barrel", "handle", "trigger")),
    "Rocket": ("04099429", ("body", "fin", "nose")),
    "Skateboard": ("04225987", ("wheel", "deck", "truck")),
    "Table": ("04379243", ("top", "leg", "support")),
}


def _number(parts: dict[str, tuple[str, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the part numbers of each category, counted on from category to category."""
    numbers, start = {}, 0
    for category, names in parts.items():
        numbers[category] = tuple(range(start, start + len(names)))
        start += len(names)
    return numbers


CATEGORIES = tuple(_PUBLISHED)
SYNSETS = {category: synset for category, (synset, _) in _PUBLISHED.items()}
PART_NAMES = {category: names for category, (_, names) in _PUBLISHED.items()}
PARTS = _number(PART_NAMES)  # category: part numbers, 0 to 49 in all
CLASSES = tuple(f"{category}/{name}" for category, names in PART_NAMES.items() for name in names)
