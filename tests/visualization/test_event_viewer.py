# SPDX-License-Identifier: Apache-2.0
"""The window of calorimeter events, under a virtual display."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pcperc.visualization import open3d_problem

ROOT = Path(__file__).parents[2]

DRIVER = """
import sys, cv2, numpy as np
sys.path.insert(0, sys.argv[1])
from pcperc.visualization.event_colors import CLUSTER_COLORS
from pcperc.visualization.event_viewer import EventViewer
from tests.visualization.event_frames import found, frame

def count(path):
    image = cv2.imread(str(path))[:, :, ::-1].astype(int)
    return int((np.abs(image - CLUSTER_COLORS[0]).max(axis=2) < 20).sum())

frames = [frame(), frame(found(np.arange(80) // 20 - 1))]
viewer = EventViewer(frames, screenshot_folder=sys.argv[2], color_by="cluster")
first = viewer.screenshot()
assert first.name == "event_0000_sim_test_event_1.png", first
viewer.next()
second = viewer.screenshot()
assert count(second) > 1.5 * count(first) > 0, (count(first), count(second))
viewer.toggle_predictions()
third = viewer.screenshot(sys.argv[2] + "/third.png")
assert count(third) == count(first)
viewer.change_colors()
assert viewer.color_by == "class"
viewer.close()

event = frame().hits
both = np.concatenate([event, event * np.array([1, -1, 1, 1, 1, 1, 1, -1, 1], np.float32)])
labels = {"hits": both, "instance": np.tile(frame().truth.instances, 2), "class": None}
viewer = EventViewer([frame(**labels)], screenshot_folder=sys.argv[2], color_by="cluster", width=900, height=700)
image = cv2.imread(str(viewer.screenshot(sys.argv[2] + "/both.png")))[:, :900, ::-1].astype(int)
columns = np.flatnonzero((np.abs(image - CLUSTER_COLORS[0]).max(axis=2) < 20).any(axis=0))
assert np.diff(columns).max() > 100, columns  # the shower of both endcaps is at two places
viewer.close()
print("driven")
"""


@pytest.mark.skipif(open3d_problem() is not None, reason=f"Open3D: {open3d_problem()}")
@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="virtual display: xvfb-run is not installed")
def test_window_under_a_virtual_display(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    screen = ["xvfb-run", "-a", "-s", "-screen 0 1280x1024x24"]
    arguments = [sys.executable, str(script), str(ROOT), str(tmp_path)]
    done = subprocess.run(screen + arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "driven" in done.stdout, done.stdout + done.stderr
