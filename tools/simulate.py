# SPDX-License-Identifier: Apache-2.0
"""Write a simulated data set.

python tools/simulate.py nuscenes --out data/simulated/nuscenes [--scenes 10] [--size tiny|small|full] [--seed 0]
python tools/simulate.py argoverse2 --out data/simulated/argoverse2 [--scenes 8] [--size ...] [--seed 0]
python tools/simulate.py semantickitti --out data/simulated/semantickitti [--scenes 12] [--size ...] [--seed 0]
python tools/simulate.py shapenet_part --out data/simulated/shapenet_part [--shapes 640] [--size ...] [--seed 0]
python tools/simulate.py kitti --out data/simulated/kitti_object [--scenes 12] [--size tiny|small|full] [--seed 0]
python tools/simulate.py s3dis --out data/simulated/s3dis [--rooms 24] [--size tiny|small|full] [--seed 0]
python tools/simulate.py calibrate [--data nuscenes|semantickitti]      compare with the real sample in $PCPERC_REALDATA
python tools/simulate.py calorimeter --out data/simulated/calorimeter [--events 300] [--size ...] [--seed 0]
python tools/simulate.py compare-calorimeter [--out PNG]      compare with real-geometry events in $PCPERC_REALDATA
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def available_cores() -> int:
    """Return the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_nuscenes(args: argparse.Namespace) -> None:
    """Write driving scenes with LiDAR, cameras and boxes."""
    from pcperc.simulation.driving import Settings

    write(args, Settings)


def run_argoverse2(args: argparse.Namespace) -> None:
    """Write driving logs with LiDAR and boxes; needs pyarrow."""
    from pcperc.simulation.argoverse2_generate import Settings

    write(args, Settings)


def run_semantickitti(args: argparse.Namespace) -> None:
    """Write driving scenes with a class for each point."""
    from pcperc.simulation.semantickitti_generate import Settings

    write(args, Settings)


def run_calorimeter(args: argparse.Namespace) -> None:
    """Write calorimeter events."""
    from pcperc.simulation.calorimeter import Settings

    write(args, Settings)


def run_shapenet_part(args: argparse.Namespace) -> None:
    """Write shapes with parts."""
    from pcperc.simulation.shapes import Settings

    write(args, Settings)


def run_kitti(args: argparse.Namespace) -> None:
    """Write driving scenes with objects before the camera."""
    from pcperc.simulation.kitti_generate import Settings

    write(args, Settings)


def run_s3dis(args: argparse.Namespace) -> None:
    """Write coloured rooms with a class for each point."""
    from pcperc.simulation.rooms import Settings

    write(args, Settings)


def write(args: argparse.Namespace, Settings: type) -> None:  # noqa: N803 (a class)
    """Write a data set behind a progress display and say how large it is."""
    from pcperc.engine.messages import say
    from pcperc.engine.progress import shown_from_first_report
    from pcperc.simulation.data_set import COMPILING, simulate

    settings, start = Settings(getattr(args, Settings.parts), args.size, args.seed), time.monotonic()
    told = dict(workers=args.workers, overwrite=args.overwrite, compiling=lambda: say(COMPILING))
    with shown_from_first_report(f"simulating {settings.parts}") as report:  # a set that is kept needs one line
        written = simulate(args.out, settings, progress=report, **told)
    if not written:
        print(f"{args.out}: already there with these settings, kept")
        return
    size = sum(path.stat().st_size for path in Path(args.out).rglob("*") if path.is_file())
    what = f"{settings.count} simulated {settings.parts}"
    print(f"{args.out}: {what}, {size / 1e6:.0f} MB, {time.monotonic() - start:.0f} s")


def run_calibrate(args: argparse.Namespace) -> None:
    """Print the comparison with the real sample."""
    from pcperc.simulation import semantickitti_calibration
    from pcperc.simulation.driving import calibration

    module = calibration if args.data == "nuscenes" else semantickitti_calibration
    print(module.format_table(module.compare(real_samples(), scenes=args.scenes, seed=args.seed)))


def run_compare_calorimeter(args: argparse.Namespace) -> None:
    """Print and draw the comparison with events of the real endcap."""
    from pcperc.simulation.calorimeter import comparison

    real = comparison.real_events(real_samples())
    simulated = comparison.simulated_events(events=args.events, seed=args.seed)
    print(comparison.format_table(comparison.compare(real, simulated)))
    comparison.draw(args.out, real, simulated)
    print(f"picture: {args.out}")


def real_samples() -> Path:
    """Return the folder of the real samples."""
    root = os.environ.get("PCPERC_REALDATA")
    if not root:
        raise FileNotFoundError("simulate: set PCPERC_REALDATA to the folder of the real samples")
    return Path(root)


def main() -> None:
    """Run a sub-command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text, count, what, run in (
        ("nuscenes", "driving scenes in nuScenes format", 10, "scenes; every fourth is for scoring", run_nuscenes),
        ("argoverse2", "driving logs in Argoverse 2's layout", 8, "scenes; every fourth scores", run_argoverse2),
        ("semantickitti", "labelled LiDAR scans in SemanticKITTI format", 12, "sequences, 3 to 22", run_semantickitti),
        ("calorimeter", "showers in an endcap, npz events", 300, "events; a tenth each for val, test", run_calorimeter),
        ("kitti", "driving scenes in the format of KITTI objects", 12, "recordings; every fourth scores", run_kitti),
        ("s3dis", "coloured rooms with classes, text and arrays", 24, "rooms in six areas in turn", run_s3dis),
        ("shapenet_part", "shapes with parts, text files", 640, "shapes of 16 categories in turn", run_shapenet_part),
    ):
        drive = commands.add_parser(name, help=text)
        folder = {"kitti": "kitti_object"}.get(name, name)
        drive.add_argument("--out", default=f"data/simulated/{folder}", help="folder to write")
        unit = {"calorimeter": "events", "shapenet_part": "shapes", "s3dis": "rooms"}.get(name, "scenes")
        drive.add_argument(f"--{unit}", type=int, default=count, help=f"number of {what}")
        drive.add_argument("--size", default="small", choices=("tiny", "small", "full"), help="of the recordings")
        drive.add_argument("--seed", type=int, default=0, help="fixes every byte of the result")
        drive.add_argument("--workers", type=int, default=available_cores(), help="processes; the result is the same")
        drive.add_argument("--overwrite", action="store_true", help="replace a simulated set of other settings")
        drive.set_defaults(run=run)
    check = commands.add_parser("calibrate", help="compare with the real sample")
    check.add_argument("--data", default="nuscenes", choices=("nuscenes", "semantickitti"))
    check.add_argument("--scenes", type=int, default=40)
    check.add_argument("--seed", type=int, default=0)
    check.set_defaults(run=run_calibrate)
    beside = commands.add_parser("compare-calorimeter", help="compare with events of the real endcap")
    beside.add_argument("--out", default="work_dirs/calorimeter_comparison.png", help="picture to draw")
    beside.add_argument("--events", type=int, default=3, help="simulated events of size full")
    beside.add_argument("--seed", type=int, default=0)
    beside.set_defaults(run=run_compare_calorimeter)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    from pcperc.engine.messages import run_tool  # here alone: the worker processes import this file too

    sys.exit(run_tool(main))
