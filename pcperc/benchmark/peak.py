# SPDX-License-Identifier: Apache-2.0
"""What the machine can do at the most, measured: multiply-adds from registers, large matrix products, memory copies."""

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import llvmlite.binding as llvm
import torch

from pcperc.benchmark.timing import with_tf32

_CHAINS = 12  # independent sums: enough to hide the latency of an FMA, few enough for 16 registers
_LOOPS = 20_000_000


def measure_peak(dtype: str, device: torch.device) -> dict[str, float | None]:
    """Return GFLOP/s of multiply-adds in registers (CPU) and of a matrix product of torch, and GB/s of a copy.

    Args:
        dtype: "float64", "float32", "tf32", "float16" or "bfloat16".
        device: all of torch's threads on a CPU.
    Returns:
        ``fma_gflops`` (None on a GPU; that of float32 for a half type without an instruction of its own),
        ``matmul_gflops`` and ``copy_gbs`` (read + write), each the best of a few runs; ``peak_gflops`` is the larger of
        the first two.
    """
    fma = _fma_gflops(dtype) if device.type == "cpu" else None
    matmul = with_tf32(dtype == "tf32", lambda: _matmul_gflops(torch_dtype(dtype), device))
    return {
        "fma_gflops": fma,
        "matmul_gflops": matmul,
        "peak_gflops": max(fma or 0.0, matmul),
        "copy_gbs": _copy_gbs(device),
    }


def torch_dtype(name: str) -> torch.dtype:
    """The type of the tensors; "tf32" is float32 with torch's switch for tensor cores on."""
    return torch.float32 if name == "tf32" else getattr(torch, name)


def _best_seconds(function: Callable[[], object], device: torch.device, runs: int = 5) -> float:
    best = float("inf")
    for _ in range(runs + 1):  # the best also leaves out the first, which warms up
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def _matmul_gflops(dtype: torch.dtype, device: torch.device) -> float:
    best, seconds, size = 0.0, 0.0, 256
    while seconds < 0.05 and size <= 8192:  # float16 is a thousand times slower than float32 on some CPUs
        a = torch.randn(size, size, device=device).to(dtype)
        b = torch.randn(size, size, device=device).to(dtype)
        seconds = _best_seconds(lambda a=a, b=b: a @ b, device)
        best = max(best, 2 * size**3 / seconds / 1e9)
        size *= 2
    return best


def _copy_gbs(device: torch.device) -> float:
    source = torch.ones(2**28 if device.type == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best_seconds(lambda: target.copy_(source), device) / 1e9


def _fma_gflops(dtype: str) -> float:
    """Run the loop of :func:`_fma_source` on as many threads as torch uses."""
    features = llvm.get_host_cpu_features()
    if dtype not in ("float64", "bfloat16") or (dtype == "bfloat16" and not features.get("avx512bf16")):
        dtype = "float32"
    width = 64 if features.get("avx512f") else 32 if features.get("avx2") else 16  # bytes of a register
    source, flop_per_loop = _fma_source(dtype, width)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3
    )
    with llvm.create_mcjit_compiler(llvm.parse_assembly(source), machine) as engine:
        engine.finalize_object()
        loop = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64)(engine.get_function_address("fma_loop"))
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:  # ctypes lets go of the interpreter during the call
            seconds = _best_seconds(lambda: list(pool.map(loop, [_LOOPS] * threads)), torch.device("cpu"))
    return flop_per_loop * _LOOPS * threads / seconds / 1e9


def _fma_source(dtype: str, width: int) -> tuple[str, int]:
    """LLVM assembly of ``double fma_loop(int64 count)``, _CHAINS chains of vector FMAs, and flop per turn."""
    scalar = "double" if dtype == "float64" else "float"
    lanes = width // (8 if dtype == "float64" else 4)
    vector = f"<{lanes} x {scalar}>"
    if dtype == "bfloat16":  # one instruction multiplies 32 pairs and adds them to 16 sums
        factor, flop = "<32 x bfloat>", 4 * lanes
        declaration = f"declare {vector} @llvm.x86.avx512bf16.dpbf16ps.512({vector}, {factor}, {factor})"
        x = f"{factor} <{', '.join(['bfloat 0x3F00000000000000'] * 32)}>"
        call = f"call {vector} @llvm.x86.avx512bf16.dpbf16ps.512({vector} %a{{i}}, {x}, {x})"
    else:
        flop = 2 * lanes
        name = f"@llvm.fma.v{lanes}f{64 if scalar == 'double' else 32}"
        declaration = f"declare {vector} {name}({vector}, {vector}, {vector})"
        half = f"{vector} <{', '.join([f'{scalar} 0.5'] * lanes)}>"
        call = f"call {vector} {name}({vector} %a{{i}}, {half}, {half})"
    chains = range(_CHAINS)
    # Chains that started alike could be merged into one.
    starts = [f"<{', '.join([f'{scalar} {i}.0'] * lanes)}>" for i in chains]
    phis = "\n".join(f"  %a{i} = phi {vector} [{starts[i]}, %entry], [%b{i}, %loop]" for i in chains)
    calls = "\n".join(f"  %b{i} = {call.format(i=i)}" for i in chains)
    sums = "\n".join(f"  %s{i} = fadd {vector} %b{i}, {f'%s{i - 1}' if i else 'zeroinitializer'}" for i in chains)
    last = f"%s{_CHAINS - 1}"
    widen = "%first" if scalar == "double" else "%wide"
    extend = "" if scalar == "double" else "  %wide = fpext float %first to double\n"
    source = f"""{declaration}
define double @fma_loop(i64 %count) {{
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
{phis}
{calls}
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %exit
exit:
{sums}
  %first = extractelement {vector} {last}, i32 0
{extend}  ret double {widen}
}}
"""
    return source, flop * _CHAINS
