# SPDX-License-Identifier: Apache-2.0
"""Single layers: forward, forward + backward, and their kernel maps, beside the same layers of other libraries."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcperc import ops
from pcperc.benchmark.inputs import load_sweep
from pcperc.benchmark.libraries import Layer, Library, NotOffered, Pcperc, open_peers
from pcperc.benchmark.peak import measure_peak, torch_dtype
from pcperc.benchmark.reference import relative_error
from pcperc.benchmark.report import Report, describe_environment
from pcperc.benchmark.timing import gpu_time, summary, time_in_turns
from pcperc.engine.distributed import pick_device
from pcperc.engine.messages import one_line
from pcperc.engine.progress import ProgressDisplay

# Each case is the layer that is measured; an inverse layer undoes the strided one of the same geometry.
CASES = {
    "subm_k3": Layer("submanifold", 3),
    "subm_k5": Layer("submanifold", 5),
    "down_k2s2": Layer("strided", 2, stride=2),
    "down_k3s2": Layer("strided", 3, stride=2, padding=1),
    "inverse_k2s2": Layer("inverse", 2, stride=2),
}
PASSES = ("forward", "forward_backward", "forward_with_map", "map")

COLUMNS = {
    "case": "", "pass": "", "dtype": "", "channels": "d", "copies": "d", "library": "", "num_outputs": ",d",
    "pairs": ",d", "median_ms": ".3f", "p5_ms": ".3f", "p95_ms": ".3f", "kernel_ms": ".3f", "pcperc_ratio": ".2f",
    "gflops": ".1f", "peak_share": ".1%", "gbs": ".1f", "ns_per_pair": ".3f", "vs_fewest_copies": ".2f", "error": ".1e",
}  # fmt: skip


@dataclass(frozen=True)
class OpOptions:
    """What the command line says; see tools/README.md."""

    cases: Sequence[str] = tuple(CASES)
    passes: Sequence[str] = ("forward", "forward_backward", "map")
    channels: Sequence[int] = (16, 32, 64, 128, 256)
    copies: Sequence[int] = (1,)
    dtype: Sequence[str] = ("float32",)
    peers: Sequence[str] = ()
    input: Path | None = None
    voxel_size: float = 0.1
    runs: int = 10
    device: str | None = None
    json: Path | None = None


@dataclass(frozen=True)
class Work:
    """One layer on one input, the same for every library."""

    layer: Layer
    coords: Tensor  # (N, 4)
    feats: Tensor  # (N or number of voxels that an inverse layer starts from, Cin)
    weight: Tensor | None

    @property
    def first(self) -> Layer | None:
        """The strided layer that an inverse one undoes."""
        return replace(self.layer, kind="strided") if self.layer.kind == "inverse" else None


class Prepared:
    """The work in one library: functions that can be timed."""

    def __init__(self, library: Library, work: Work):
        self.library, self.work = library, work
        device, dtype = work.feats.device, work.feats.dtype
        self.first = library.layer(work.first).to(device, dtype) if work.first else None
        self.module = library.layer(work.layer).to(device, dtype)
        if work.weight is not None:
            library.set_weight(self.module, work.weight)
        with torch.no_grad():
            self.input = self._fresh()
            self.output = self.module(self.input)

    def _fresh(self):
        """The input of the layer, without its kernel map."""
        coords, feats = self.work.coords, self.work.feats
        if self.first is None:
            return self.library.tensor(coords, feats)
        made = self.first(self.library.tensor(coords, feats.new_ones(len(coords), feats.shape[1])))
        return self.library.with_feats(made, feats)

    def _warm(self, feats: Tensor):
        """The input with its kernel map. That of a submanifold layer hangs on the output too, in every library."""
        submanifold = self.work.layer.kind == "submanifold"
        if self.work.layer.kind in ("strided", "max_pool") and not self.library.keeps_strided_maps:
            raise NotOffered("a strided layer builds its kernel map each time")
        return self.library.with_feats(self.output if submanifold else self.input, feats)

    def forward(self) -> Any:
        with torch.no_grad():
            return self.module(self._warm(self.work.feats))

    def forward_with_map(self) -> Any:
        with torch.no_grad():
            return self.module(self._fresh())

    def forward_backward(self) -> Any:
        feats = self.work.feats.detach().requires_grad_()
        out = self.library.feats(self.module(self._warm(feats)))
        return torch.autograd.grad(out, [feats, *self.module.parameters()], torch.ones_like(out))

    def map(self) -> Any:
        with torch.no_grad():
            return self.library.build_map(self.work.layer, self.work.coords)

    def error(self) -> float:
        """Of the forward pass, against float64."""
        work, library = self.work, self.library
        return relative_error(
            work.layer,
            work.weight,
            in_coords=library.coords(self.input),
            in_feats=library.feats(self.input),
            out_coords=library.coords(self.output),
            out_feats=library.feats(self.output),
        )


def measure_layers(options: OpOptions) -> Report:
    """Measure what the options ask for, print the table and, where asked for, write the JSON."""
    device = pick_device(options.device)
    peers, missing = open_peers(list(options.peers))
    libraries: list[Library] = [Pcperc(), *peers]
    sweep = load_sweep(options.input, options.voxel_size)
    report = Report(
        "op",
        describe_environment(device, {peer.name: peer.version for peer in peers}),
        {"name": sweep.name, "voxel_size": sweep.voxel_size, "num_voxels": len(sweep.coords)},
        not_measured=[{"library": name, "reason": reason} for name, reason in missing.items()],
    )
    report.peaks = {dtype: _peak(dtype, device) for dtype in options.dtype}
    units = list(_units(options))
    with ProgressDisplay("measuring", len(units)) as display:
        for case, name, dtype, channels, copies in units:
            where = {"case": case, "pass": name, "dtype": dtype, "channels": channels, "copies": copies}
            text = " ".join(f"{k}={v}" for k, v in where.items())
            display.update(display.done, text)
            with _tf32(dtype == "tf32"):
                work, counts = _work(case, sweep.copies(copies).to(device), channels, torch_dtype(dtype))
                rows, refused = _measure(libraries, work, name, options.runs)
            report.not_measured += [where | refusal for refusal in refused]
            for row in rows:
                row = where | counts | row
                report.rows.append(row | _rates(work.layer, counts, row, report.peaks[dtype]))
            display.advance()
    _compare(report.rows)
    report.show(COLUMNS)
    if options.json:
        report.save(options.json)
    return report


def _peak(dtype: str, device: torch.device) -> dict[str, float | None]:
    with _tf32(dtype == "tf32"):
        return measure_peak(dtype, device)


def _units(options: OpOptions) -> Iterator[tuple[str, str, str, int, int]]:
    for case in options.cases:
        # The kernel map of an inverse layer is that of the strided one before it.
        inverse = CASES[case].kind == "inverse"
        for name in (name for name in options.passes if not (inverse and "map" in name)):
            # A kernel map has neither channels nor a type.
            channels = (1,) if name == "map" else options.channels
            dtypes = options.dtype[:1] if name == "map" else options.dtype
            for dtype in dtypes:
                for width in channels:
                    for copies in options.copies:
                        yield case, name, dtype, width, copies


def _work(case: str, coords: Tensor, channels: int, dtype: torch.dtype) -> tuple[Work, dict[str, int]]:
    """Features and weights of order one, and how many voxels and pairs there are."""
    torch.manual_seed(0)
    layer = replace(CASES[case].with_channels(channels, channels), groups=channels if "depthwise" in case else 1)
    padding = layer.kernel_size // 2 if layer.kind == "submanifold" else layer.padding
    geometry = {"kernel_size": layer.kernel_size, "stride": layer.stride, "padding": padding, "dilation": 1}
    others = coords if layer.stride == 1 else ops.downsample_coords(coords, **geometry)
    pairs = int((ops.build_kernel_map(coords, others, **geometry) >= 0).sum())
    sizes = (len(others), len(coords)) if layer.kind == "inverse" else (len(coords), len(others))
    feats = torch.randn(sizes[0], channels, device=coords.device).to(dtype)
    weight = None
    if layer.kind != "max_pool":
        volume, fan_in, out_channels = layer.weight_shape
        weight = torch.randn(volume, fan_in, out_channels, device=coords.device).to(dtype) / (volume * fan_in) ** 0.5
    return Work(layer, coords, feats, weight), {"num_inputs": sizes[0], "num_outputs": sizes[1], "pairs": pairs}


def _measure(
    libraries: Sequence[Library], work: Work, name: str, runs: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Time one pass in all libraries that have it, in turns; a row each, and why a peer has none."""
    device, prepared, functions, refused = work.feats.device, {}, {}, []
    for library in libraries:
        try:
            library.check(device, work.feats.dtype, training=name == "forward_backward")
            prepared[library.name] = Prepared(library, work)
            functions[library.name] = getattr(prepared[library.name], name)
            functions[library.name]()  # some refuse only when called
        except Exception as error:
            if isinstance(library, Pcperc) and not isinstance(error, NotOffered):
                raise
            refused.append({"library": library.name, "reason": one_line(error)})
            functions.pop(library.name, None)
    times = time_in_turns(functions, device=device, runs=runs, warm_up=2)
    rows = []
    for library, function in functions.items():
        row = {"library": library, **summary(times[library])}
        if name != "map":
            row["error"] = prepared[library].error()
        if device.type == "cuda":
            row["kernel_ms"], row["launches"] = gpu_time(function)
        rows.append(row)
    return rows, refused


def _rates(layer: Layer, counts: dict[str, int], row: dict[str, Any], peak: dict[str, float | None]) -> dict[str, Any]:
    """Work, traffic and rates of a row. ``bytes`` is what must move at least: every tensor and table once."""
    name, seconds, pairs = row["pass"], row["median_ms"] / 1e3, counts["pairs"]
    steps = {"map": 0, "forward_backward": 3}.get(name, 1)  # forward, gradient of the features, of the weights
    volume, fan_in, out_channels = layer.weight_shape
    rates: dict[str, Any] = {"ns_per_pair": seconds / max(pairs, 1) * 1e9}
    table = 4 * layer.kernel_size**3 * counts["num_outputs"]
    values = counts["num_inputs"] * layer.in_channels + counts["num_outputs"] * out_channels
    if layer.kind != "max_pool":
        values += volume * fan_in * out_channels
        if steps:
            rates["flop"] = 2 * pairs * fan_in * out_channels * steps
            rates["gflops"] = rates["flop"] / seconds / 1e9
            rates["peak_share"] = rates["gflops"] / peak["peak_gflops"]
    rates["bytes"] = steps * (values * torch_dtype(row["dtype"]).itemsize + table)
    if name in ("map", "forward_with_map"):
        rates["bytes"] += 16 * (counts["num_inputs"] + counts["num_outputs"]) + table
    return rates | {"gbs": rates["bytes"] / seconds / 1e9}


def _compare(rows: list[dict[str, Any]]) -> None:
    """Add the time of pcperc over that of each peer, and the time per pair over that with the fewest copies."""
    same = ("case", "pass", "dtype", "channels", "copies")
    ours = {tuple(row[k] for k in same): row for row in rows if row["library"] == "pcperc"}
    first: dict[tuple, dict] = {}
    for row in rows:
        if row["library"] != "pcperc" and tuple(row[k] for k in same) in ours:
            row["pcperc_ratio"] = ours[tuple(row[k] for k in same)]["median_ms"] / row["median_ms"]
        fewest = first.setdefault((row["library"], *(row[k] for k in same[:-1])), row)
        if fewest is not row:
            row["vs_fewest_copies"] = row["ns_per_pair"] / fewest["ns_per_pair"]


@contextlib.contextmanager
def _tf32(enabled: bool) -> Iterator[None]:
    """Torch's switch for float32 products on tensor cores."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = enabled
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
