# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py first: how long the first prediction of a new process takes, and those after it.

Each library has a process of its own. The clock starts behind the imports, the making of the network and one use of the
GPU by torch; caches that a library keeps on disk are put into an empty folder.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcperc.benchmark.inputs import load_sweep
from pcperc.benchmark.libraries import Pcperc, refusal
from pcperc.benchmark.peak import torch_dtype
from pcperc.benchmark.peer_libraries import open_libraries
from pcperc.benchmark.peer_unet import PeerUNet
from pcperc.benchmark.report import Report, start_report
from pcperc.benchmark.unet import IN_CHANNELS, ModelOptions
from pcperc.engine.distributed import pick_device
from pcperc.models.minkunet import MinkUNet

COLUMNS = {
    "case": "", "dtype": "", "library": "", "num_voxels": ",d", "median_ms": ".1f", "second_ms": ".1f",
    "third_ms": ".1f", "pcperc_ratio": ".3f",
}  # fmt: skip
_CACHES = ("XDG_CACHE_HOME", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "TORCHINDUCTOR_CACHE_DIR", "SPCONV_BENCHMARK_CACHE")


def measure_first_call(options: ModelOptions) -> Report:
    """Time the first three predictions in a new process for each library and type."""
    device = pick_device(options.device)
    libraries, missing = open_libraries(options.peers)
    sweep = load_sweep(options.input, options.voxel_size)
    report = start_report("first", device, libraries, sweep, options.dtype)
    report.not_measured += missing
    for voxels in options.voxels:
        cut = sweep if voxels is None else sweep.with_voxels(voxels)
        for dtype in options.dtype:
            for library in libraries:
                row = {"case": "first_call", "dtype": dtype, "library": library.name, "num_voxels": len(cut.coords)}
                try:
                    report.rows.append(row | _in_new_process(library.name, cut.coords, dtype, device))
                except RuntimeError as error:
                    report.not_measured.append(row | refusal(library, error))
    report.compare_libraries(("case", "num_voxels"))
    report.finish(COLUMNS, options.json)
    return report


def _in_new_process(library: str, coords: Tensor, dtype: str, device: torch.device) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "coords.npy"), coords.numpy())
        command = [sys.executable, "-m", "pcperc.benchmark.first_call", library, folder, dtype, str(device)]
        environment = os.environ | {name: str(Path(folder, name.lower())) for name in _CACHES}
        paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
    first, second, third = json.loads(done.stdout.strip().splitlines()[-1])
    return {"median_ms": first, "second_ms": second, "third_ms": third}


@torch.inference_mode()
def _time_calls(library_name: str, folder: str, dtype: str, device_name: str) -> list[float]:
    """Milliseconds of the first three predictions, results waited for."""
    found, missing = open_libraries([] if library_name == Pcperc.name else [library_name])
    if missing:
        raise ImportError(missing[0]["reason"])
    library, device = found[-1], torch.device(device_name)
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    net = PeerUNet(library, MinkUNet(IN_CHANNELS)).eval().to(device, torch_dtype(dtype))
    coords = torch.from_numpy(np.load(Path(folder, "coords.npy"))).to(device)
    feats = torch.randn(len(coords), IN_CHANNELS, device=device).to(torch_dtype(dtype))
    square = torch.randn(64, 64, device=device)
    float((square @ square).sum())  # context and matrix library of torch
    times = []
    for _ in range(3):
        start = time.perf_counter()
        float(library.feats(net(library.tensor(coords, feats))).float().sum())
        times.append((time.perf_counter() - start) * 1e3)
    return times


if __name__ == "__main__":
    print(json.dumps(_time_calls(*sys.argv[1:])))
