# SPDX-License-Identifier: Apache-2.0
"""Write a simulated data set in a published format.

python tools/simulate.py nuscenes --out data/simulated/nuscenes [--scenes 10] [--size tiny|small|full] [--seed 0]
python tools/simulate.py semantickitti --out data/simulated/semantickitti [--scenes 12] [--size ...] [--seed 0]
python tools/simulate.py calibrate [--data nuscenes|semantickitti]      compare with the real sample in $PCPERC_REALDATA
"""

from __future__ import annotations

import argparse
import contextlib
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
    from pcperc.simulation.driving import Settings, simulate

    write(args, Settings, simulate)


def run_semantickitti(args: argparse.Namespace) -> None:
    """Write driving scenes with a class for each point."""
    from pcperc.simulation.semantickitti_generate import Settings, simulate

    write(args, Settings, simulate)


def write(args: argparse.Namespace, Settings: type, simulate) -> None:  # noqa: N803 (a class)
    """Write a data set behind a progress display and say how large it is."""
    from pcperc.engine.progress import ProgressDisplay

    settings, start = Settings(args.scenes, args.size, args.seed), time.monotonic()
    with contextlib.ExitStack() as stack:
        displays = []

        def show(done: int, total: int) -> None:
            if not displays:  # only once there is work: a set that is kept needs one line
                displays.append(stack.enter_context(ProgressDisplay("simulating scenes", total)))
            displays[0].update(done)

        written = simulate(args.out, settings, workers=args.workers, overwrite=args.overwrite, progress=show)
    if not written:
        print(f"{args.out}: already there with these settings, kept")
        return
    size = sum(path.stat().st_size for path in Path(args.out).rglob("*") if path.is_file())
    print(f"{args.out}: {args.scenes} simulated scenes, {size / 1e6:.0f} MB, {time.monotonic() - start:.0f} s")


def run_calibrate(args: argparse.Namespace) -> None:
    """Print the comparison with the real sample."""
    from pcperc.simulation import semantickitti_calibration
    from pcperc.simulation.driving import calibration

    root = os.environ.get("PCPERC_REALDATA")
    if not root:
        raise FileNotFoundError("calibrate: set PCPERC_REALDATA to the folder of the real samples")
    module = calibration if args.data == "nuscenes" else semantickitti_calibration
    print(module.format_table(module.compare(Path(root), scenes=args.scenes, seed=args.seed)))


def main() -> None:
    """Run a sub-command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text, scenes, what, run in (
        ("nuscenes", "driving scenes in nuScenes format", 10, "scenes; every fourth is for scoring", run_nuscenes),
        ("semantickitti", "labelled LiDAR scans in SemanticKITTI format", 12, "sequences, 3 to 22", run_semantickitti),
    ):
        drive = commands.add_parser(name, help=text)
        drive.add_argument("--out", default=f"data/simulated/{name}", help="folder to write")
        drive.add_argument("--scenes", type=int, default=scenes, help=f"number of {what}")
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
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    from pcperc.engine.messages import run_tool  # here alone: the worker processes import this file too

    sys.exit(run_tool(main))
