# SPDX-License-Identifier: Apache-2.0
"""Write a simulated data set in a published format.

python tools/simulate.py nuscenes --out data/simulated/nuscenes [--scenes 10] [--size tiny|small|full] [--seed 0]
python tools/simulate.py calibrate      compare the simulator with the real key frame in $PCPERC_REALDATA
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
    """Write driving scenes."""
    from pcperc.engine.progress import ProgressDisplay
    from pcperc.simulation.driving import Settings, simulate

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
    """Print the comparison with the real key frame."""
    from pcperc.simulation.driving.calibration import compare, format_table

    root = os.environ.get("PCPERC_REALDATA")
    if not root:
        raise FileNotFoundError("calibrate: set PCPERC_REALDATA to the folder of the real samples")
    print(format_table(compare(Path(root), scenes=args.scenes, seed=args.seed)))


def main() -> None:
    """Run a sub-command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drive = commands.add_parser("nuscenes", help="driving scenes in nuScenes format")
    drive.add_argument("--out", default="data/simulated/nuscenes", help="folder to write")
    drive.add_argument("--scenes", type=int, default=10, help="number of scenes; every fourth is for scoring")
    drive.add_argument("--size", default="small", choices=("tiny", "small", "full"), help="of images and recordings")
    drive.add_argument("--seed", type=int, default=0, help="fixes every byte of the result")
    drive.add_argument("--workers", type=int, default=available_cores(), help="processes; the result is the same")
    drive.add_argument("--overwrite", action="store_true", help="replace a simulated set of other settings")
    drive.set_defaults(run=run_nuscenes)
    check = commands.add_parser("calibrate", help="compare with the real key frame")
    check.add_argument("--scenes", type=int, default=40)
    check.add_argument("--seed", type=int, default=0)
    check.set_defaults(run=run_calibrate)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    from pcperc.engine.messages import run_tool  # here alone: the worker processes import this file too

    sys.exit(run_tool(main))
