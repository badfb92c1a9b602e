# SPDX-License-Identifier: Apache-2.0
"""tools/benchmark.py model: MinkUNet with fresh coordinates in every run, so that all kernel maps are in the time."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pcperc.nn as spnn
from pcperc.benchmark.inputs import load_sweep
from pcperc.benchmark.libraries import Library, NotOffered, Pcperc, refusal
from pcperc.benchmark.memory import peak_memory
from pcperc.benchmark.peak import torch_dtype
from pcperc.benchmark.peer_libraries import open_libraries
from pcperc.benchmark.peer_unet import PeerUNet
from pcperc.benchmark.report import Report, start_report
from pcperc.benchmark.timing import WARM_UP, time_in_turns, with_tf32
from pcperc.engine.distributed import pick_device
from pcperc.engine.progress import ProgressDisplay
from pcperc.models.minkunet import MinkUNet
from pcperc.nn.conv_base import SparseConvBase
from pcperc.sparse import SparseTensor

# The network as peers write it, which they are measured with, and what is left of it where convolutions cost nothing.
PEER_CASES = "inference", "training_step"
WITHOUT_CONVOLUTIONS = "inference_without_convolutions"
# The others, pcperc's own network of ConvBlocks, only pcperc has.
CASES = (
    "inference", WITHOUT_CONVOLUTIONS, "block_inference", "fused_inference", "captured_inference",
    "block_training_step", "training_step",
)  # fmt: skip
COLUMNS = {
    "case": "", "dtype": "", "copies": "d", "library": "", "num_voxels": ",d", "num_points": ",d", "parameters": ",d",
    "gmacs": ".2f", "map_ms": ".2f",
    "median_ms": ".2f", "p5_ms": ".2f", "p95_ms": ".2f", "kernel_ms": ".2f", "launches": "d", "pcperc_ratio": ".2f",
    "kernel_ratio": ".2f", "vs_first_dtype": ".2f", "vs_inference": ".2f", "gflops": ".1f", "peak_share": ".1%",
    "peak_mib": ".0f", "error": ".1e",
}  # fmt: skip
IN_CHANNELS = 4


@dataclass(frozen=True)
class ModelOptions:
    """What the command line says; see tools/README.md."""

    config: Path | None = None
    cases: Sequence[str] = CASES
    voxels: Sequence[int | None] = (None,)
    copies: Sequence[int] = (1,)
    dtype: Sequence[str] = ("float32",)
    peers: Sequence[str] = ()
    input: Path | None = None
    voxel_size: float = 0.1
    runs: int = 10
    device: str | None = None
    json: Path | None = None
    cuda_graph: int | None = None  # rows of a batch at most, for a config's model in CUDA graphs


def measure_unet(options: ModelOptions) -> Report:
    """Measure the network in all libraries and types, in turns; print the table and write the JSON if asked for."""
    if options.cuda_graph is not None:
        raise ValueError("--cuda-graph: is for the model of a config; MinkUNet has the case captured_inference")
    device = pick_device(options.device)
    libraries, missing = open_libraries(options.peers)
    sweep = load_sweep(options.input, options.voxel_size)
    report = start_report("model", device, libraries, sweep, options.dtype)
    report.not_measured += missing
    net = _with_statistics(MinkUNet(IN_CHANNELS))
    for voxels, copies in itertools.product(options.voxels, options.copies):
        cut = sweep if voxels is None else sweep.with_voxels(voxels)
        _measure(report, libraries, net, cut.copies(copies).to(device), copies, options)
    report.compare_libraries(("case", "copies", "num_voxels"))
    _compare_with_inference(report.rows)
    report.finish(COLUMNS, options.json)
    return report


def _measure(
    report: Report, libraries: Sequence[Library], net: MinkUNet, coords: Tensor, copies: int, options: ModelOptions
) -> None:
    device = coords.device
    feats = torch.randn(len(coords), IN_CHANNELS, device=device)
    wanted, flop = _reference(net, coords, feats)
    functions, errors = {}, {}
    for case, dtype, library in _units(options, libraries):
        key = case, dtype, library.name
        try:
            library.check(device, torch_dtype(dtype), training="training" in case)
            function = partial(with_tf32, dtype == "tf32", _function(case, library, net, coords, feats, dtype))
            out = function()
            if "training" not in case:
                errors[key] = float((out.cpu().double() - wanted).abs().max() / wanted.abs().max())
            functions[key] = function
        except Exception as error:
            report.not_measured.append({"case": case, "dtype": dtype, "copies": copies} | refusal(library, error))
    with ProgressDisplay("measuring", len(functions) * (WARM_UP + options.runs)) as display:
        times = time_in_turns(functions, device=device, runs=options.runs, on_run=display.advance)
    for key, function in functions.items():
        case, dtype, library = key
        row = {"case": case, "dtype": dtype, "copies": copies, "library": library, "num_voxels": len(coords)}
        passes = 0 if case == WITHOUT_CONVOLUTIONS else 3 if "training" in case else 1
        row |= {"flop": flop * passes, "error": errors.get(key)} | times[key]
        row["gflops"] = row["flop"] / row.get("kernel_ms", row["median_ms"]) / 1e6
        row["peak_share"] = row["gflops"] / report.peaks[dtype]["peak_gflops"]
        report.rows.append(row | {"peak_mib": peak_memory(function, device)})


def _units(options: ModelOptions, libraries: Sequence[Library]) -> Iterator[tuple[str, str, Library]]:
    for case in options.cases:
        for dtype in options.dtype:
            for library in libraries:
                if case in PEER_CASES or isinstance(library, Pcperc):
                    yield case, dtype, library


def _function(
    case: str, library: Library, net: MinkUNet, coords: Tensor, feats: Tensor, dtype: str
) -> Callable[[], Tensor]:
    """What is timed: it gives the network's output, or the loss of a training step."""
    is_training = "training" in case
    number = torch_dtype(dtype)
    own = PeerUNet(library, net) if case in (*PEER_CASES, WITHOUT_CONVOLUTIONS) else deepcopy(net)
    own = own.to(coords.device).train(is_training)
    if case in ("fused_inference", "captured_inference"):
        own = spnn.fuse(own)
    if is_training:
        return _training_step(library, own, coords, feats, number)
    own, values = own.to(number), feats.to(number)
    if case == WITHOUT_CONVOLUTIONS:
        own = own.without_convolutions(library.tensor(coords, values))
    if case == "captured_inference":
        if coords.device.type != "cuda":
            raise NotOffered("a CUDA graph needs a GPU")
        own = spnn.capture(own, capacity=len(coords) * 11 // 10)

    @torch.inference_mode()
    def infer() -> Tensor:
        return library.feats(own(library.tensor(coords, values)))

    if case == "captured_inference":
        infer()  # the first call captures, and gives the result of the network without the graph
    return infer


def _training_step(
    library: Library, net: nn.Module, coords: Tensor, feats: Tensor, dtype: torch.dtype
) -> Callable[[], Tensor]:
    """Forward, backward and SGD with float32 weights; half types are torch.autocast's."""
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    device, is_half = coords.device.type, dtype in (torch.float16, torch.bfloat16)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    if dtype == torch.float64:
        raise NotOffered("training steps are measured in float32 and below")

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype if is_half else torch.bfloat16, enabled=is_half):
            # torchsparse does not follow autocast; it takes the type of its input.
            values = feats.to(dtype) if library.name == "torchsparse" else feats
            loss = library.feats(net(library.tensor(coords, values))).float().pow(2).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    return step


@torch.inference_mode()
def _reference(net: MinkUNet, coords: Tensor, feats: Tensor) -> tuple[Tensor, int]:
    """The output in float64 on the CPU, and 2 x pairs x Cin x Cout over all convolutions."""
    exact, flop = deepcopy(net).double(), []

    def count(conv: SparseConvBase, inputs: tuple, output) -> None:
        pairs = int((conv.kernel_map(inputs[0]).neighbors >= 0).sum())
        flop.append(2 * pairs * conv.in_channels * conv.out_channels)

    for module in exact.modules():
        if isinstance(module, SparseConvBase):
            module.register_forward_hook(count)
    out = exact(SparseTensor(coords.cpu(), feats.cpu().double()))
    return out.feats, sum(flop)


def _with_statistics(net: MinkUNet) -> MinkUNet:
    """In eval mode, with running statistics that a fold into the weights cannot ignore."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, spnn.BatchNorm):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return net.eval()


def _compare_with_inference(rows: list[dict[str, Any]]) -> None:
    """Add the time of every other case over that of plain inference."""
    words = ("dtype", "copies", "num_voxels", "library")
    plain = {tuple(row[w] for w in words): row["median_ms"] for row in rows if row["case"] == "inference"}
    for row in rows:
        same = plain.get(tuple(row[w] for w in words))
        if row["case"] != "inference" and same:
            row["vs_inference"] = row["median_ms"] / same
