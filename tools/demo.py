# SPDX-License-Identifier: Apache-2.0
"""`make demo`: the commands a user would type, one after the other, at demonstration size on simulated data.

simulate -> train -> score with the nuScenes devkit -> draw. Each step is printed before it runs; the first that fails
ends the demonstration with its exit status.
"""

import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK_DIR = Path("work_dirs/bevfusion")
STEPS = (
    ("Simulate driving scenes in the nuScenes format", "tools/simulate.py nuscenes"),
    ("Train BEVFusion at demonstration size", "tools/train.py configs/bevfusion.py --profile demo"),
    ("Score it with the nuScenes devkit", "tools/test.py --eval nuscenes"),
    (
        "Draw predictions beside the truth",
        f"tools/visualize.py configs/bevfusion.py --results {WORK_DIR}/results_nusc.json --save {WORK_DIR}/pictures",
    ),
)


def main() -> int:
    started = time.monotonic()
    for number, (title, command) in enumerate(STEPS, 1):
        print(f"\n[{number}/{len(STEPS)}] {title}\n$ python {command}", flush=True)
        status = subprocess.run([sys.executable, *shlex.split(command)], cwd=ROOT).returncode
        if status:
            print(f"\nStopped: step {number} ended with status {status}.", file=sys.stderr)
            return status
    minutes = (time.monotonic() - started) / 60
    print(f"\nDone in {minutes:.1f} minutes, on simulated data.")
    print(f"Checkpoint and scores: {WORK_DIR}; pictures: {WORK_DIR}/pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
