# SPDX-License-Identifier: Apache-2.0
"""What a comparison of detectors is told, and which networks and tests its parts are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pcperc.benchmark.comparison import check_seeds
from pcperc.benchmark.scores import Test
from pcperc.engine.config import ConfigError

FOLDER = Path("configs/bevfusion")
# What is trained, what takes longest, or is waited for by others, first.
CONFIGS = {
    "lidar_only": FOLDER / "lidar_only_simulated.py",
    "camera_only": FOLDER / "camera_only_simulated.py",
    "lidar_centerhead": FOLDER / "lidar_centerhead_simulated.py",
    "fusion": FOLDER / "simulated.py",
    "joint": FOLDER / "joint_simulated.py",
    "fusion_centerhead": FOLDER / "fusion_centerhead_simulated.py",
    "fusion_map": FOLDER / "fusion_map_simulated.py",
    "camera_map": FOLDER / "camera_map_simulated.py",
    "lidar_longer": FOLDER / "lidar_longer_simulated.py",
    "pointpillars": FOLDER / "pointpillars_simulated.py",
    "lidar_map": FOLDER / "lidar_map_simulated.py",
}
# What --stages times: the published sizes.
PUBLISHED = (
    Path("configs/bevfusion.py"),
    *(FOLDER / f"{name}.py" for name in ("lidar_only", "camera_only", "pointpillars", "lidar_centerhead")),
    *(FOLDER / f"{name}.py" for name in ("fusion_centerhead", "camera_map", "lidar_map", "fusion_map", "joint")),
)

BOXES, BLANK = Test(("nuscenes",)), Test(("nuscenes",), blank_images=True)
MAP, BOTH = Test(("map",)), Test(("nuscenes", "map"))
# What --parts names: the networks of each and their tests. A network's first stage is trained with it.
PARTS: dict[str, dict[str, tuple[Test, ...]]] = {
    "detection": {"fusion": (BOXES, BLANK), "lidar_longer": (BOXES,), "lidar_only": (BOXES,)},
    "maps": {"camera_map": (MAP,), "lidar_map": (MAP,), "fusion_map": (MAP,)},
    "variants": {
        "camera_only": (BOXES,),
        "pointpillars": (BOXES,),
        "lidar_centerhead": (BOXES,),
        "fusion_centerhead": (BOXES,),
        "joint": (BOTH,),
    },
    "tracking": {"fusion": (BOXES,), "lidar_longer": (BOXES,), "camera_only": (BOXES,)},
}


@dataclass(frozen=True)
class CompareOptions:
    """What the command line says; see tools/README.md.

    ``networks`` are those of the parts that are wanted, none: all. ``configs`` are of other data or sizes at the same
    names, without those of networks that are to be left out; ``published`` are those that are timed.
    """

    parts: Sequence[str] = tuple(PARTS)
    seeds: Sequence[int] = (0, 1, 2)
    jobs: int = 1
    amp: bool = False
    stages: bool = False
    input: Path | None = None
    runs: int = 10
    work_dir: Path = Path("work_dirs/detectors")
    overrides: dict = field(default_factory=dict)
    device: str | None = None
    networks: Sequence[str] = ()
    configs: dict[str, Path] = field(default_factory=lambda: dict(CONFIGS))
    published: Sequence[Path] = PUBLISHED

    def tests(self) -> dict[str, tuple[Test, ...]]:
        """Return the tests of each network of the parts that were asked for, in the order of ``configs``."""
        found: dict[str, dict[Test, None]] = {}
        for part in self.parts:
            for name, tests in PARTS[part].items():
                found.setdefault(name, {}).update(dict.fromkeys(tests))
        wanted = self.networks or self.configs
        return {name: tuple(found[name]) for name in self.configs if name in found and name in wanted}


def check_options(options: CompareOptions) -> None:
    """Raise ConfigError where options are out of range, or change nothing."""
    for name in ("parts", "networks", "seeds", "jobs", "amp", "overrides") if options.stages else ("input", "runs"):
        value = getattr(options, name)
        if (tuple(value) if isinstance(value, list) else value) != getattr(CompareOptions(), name):
            flag = "cfg-options" if name == "overrides" else name
            raise ConfigError(f"compare: --{flag} changes nothing {'beside' if options.stages else 'without'} --stages")
    check_seeds(options.seeds)
    for part in options.parts:
        if part not in PARTS:
            raise ConfigError(f"compare: --parts must be of {', '.join(PARTS)}, got '{part}'")
    there = [name for name in CONFIGS if any(name in PARTS[part] for part in options.parts)]
    for name in options.networks:
        if name not in there:
            raise ConfigError(f"compare: --networks must be of {', '.join(there)} in these --parts, got '{name}'")
    for name in ("jobs", "runs"):
        if getattr(options, name) < 1:
            raise ConfigError(f"compare: --{name} must be 1 or more, got {getattr(options, name)}")
    for key, why in (("seed", "--seeds says that"), ("load_from", "each network begins as its config says")):
        if key in options.overrides:
            raise ConfigError(f"compare: --cfg-options {key}: {why}")
