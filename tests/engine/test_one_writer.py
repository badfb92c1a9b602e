# SPDX-License-Identifier: Apache-2.0
"""Two runs at once do not write into each other's files."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import train
from tests.engine.helpers import ENVIRONMENT, ROOT, options, read_losses

HOLD = """
import sys
from pcperc.files import only_writer
with only_writer(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path, job: str):
    command = [sys.executable, "-c", HOLD, str(folder), job]
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()


def test_a_second_training_leaves_the_first_ones_folder_alone(configs, tmp_path):
    recipe = configs("a.py", "")
    chosen = options(recipe, tmp_path)
    first = train(chosen).stat()
    with another_process(chosen.work_dir, "training"):
        with pytest.raises(OSError, match=r"^.*work: another process is training there; wait for it or choose another"):
            train(chosen)
    assert next(chosen.work_dir.glob("epoch_*.pth")).stat() == first
    assert read_losses(chosen.work_dir)


def test_a_second_test_does_not_score_the_first_ones_results(configs, tmp_path):
    chosen = options(configs("a.py", ""), tmp_path)
    path = train(chosen)
    tested = TestOptions(config=chosen.config, checkpoint=path, work_dir=chosen.work_dir, device="cpu")
    with another_process(chosen.work_dir, "training"):  # whose checkpoints may be tested meanwhile
        assert test(tested)
    with another_process(chosen.work_dir, "testing"):
        with pytest.raises(OSError, match=r"^.*work: another process is testing there"):
            test(tested)
