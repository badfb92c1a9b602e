# SPDX-License-Identifier: Apache-2.0
"""Install a wheel into fresh environments, one for each version of torch, and run the operator tests against it."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ["tests/ops", "tests/sparse", "tests/nn"]
TEST_NEEDS = ["pytest", "hypothesis", "shapely", "threadpoolctl"]
# Where the package comes from, and whether its library loads.
PROBE = "import pcperc, torch; print(pcperc.__file__, torch.__version__); assert torch.ops.pcperc.sparse_conv"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument(
        "environments", nargs="+", metavar="PYTHON:TORCH", help="interpreter and version of torch, python3.10:2.10.0"
    )
    parser.add_argument("--tests", nargs="+", default=TESTS, help="what pytest runs (default: %(default)s)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    results = {}
    for environment in arguments.environments:
        python, _, torch = environment.partition(":")
        if shutil.which(python) is None:
            results[environment] = f"not tested: {python} is not there"
            continue
        with tempfile.TemporaryDirectory(prefix="pcperc-wheel-") as folder:
            results[environment] = try_wheel(arguments.wheel.resolve(), python, torch, arguments.tests, Path(folder))
    print(*(f"{name}: {result}" for name, result in results.items()), sep="\n")
    return 0 if set(results.values()) == {"passed"} else 1


def try_wheel(wheel: Path, python: str, torch: str, tests: list[str], folder: Path) -> str:
    """Make an environment in ``folder``, install, and run the tests from there, where the checkout is out of sight."""
    venv = folder / "venv"
    pip = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    steps = {
        "no environment": [python, "-m", "venv", venv],
        "no such torch": [*pip, f"torch=={torch}"],
        "not installed": [*pip, wheel, *TEST_NEEDS],
        "not imported": [venv / "bin" / "python", "-W", "error", "-c", PROBE],
        "tests failed": [venv / "bin" / "python", "-m", "pytest", "-q", "-m", "not gpu and not large", *tests],
    }
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for failure, command in steps.items():
        print("+", *command, flush=True)
        if subprocess.run([str(word) for word in command], cwd=folder, env=clean).returncode:
            return failure
    return "passed"


if __name__ == "__main__":
    sys.exit(main())
