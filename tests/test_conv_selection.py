# SPDX-License-Identifier: Apache-2.0
"""Which CUDA kernel of the convolution runs for which sizes: the rules and the tables, in plain C++ without a GPU."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pcperc.benchmark.selection import COLUMNS, Sizes, folders, gpu_name, parse_selection
from pcperc.benchmark.tuned_size import FORWARD_TILES, SPLIT_TILES, WEIGHT_TILES

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "pcperc/ops/selection").glob("*.txt"))
DTYPES = ["float16", "bfloat16", "tf32"]
GPU = "sm_90_1"
HEADER = [f"pcperc selection 1: {GPU}", "# when and how", "", " ".join(COLUMNS)]


@pytest.fixture(scope="session")
def probe(tmp_path_factory):
    """Give a function from sizes, and a table's lines or folders with it, to choices or the message of an error."""
    program = tmp_path_factory.mktemp("probe") / "probe"
    source = Path(__file__).with_name("selection_probe.cpp")
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    subprocess.run(
        [*compiler, "-std=c++17", "-Wall", "-Werror", "-I", ROOT / "csrc", source, "-o", program], check=True
    )

    def run(asked, lines=None, *, folders=("", ""), gpu=GPU, groups=1, has_warpgroups=True, fits_direct=False):
        if lines is not None:
            folders = ("", program.parent)
            (program.parent / f"{gpu}.txt").write_text("\n".join(lines) + "\n")
        rest = (groups, int(has_warpgroups), int(fits_direct))
        text = "".join(" ".join(map(str, (*sizes, *rest))) + "\n" for sizes in asked)
        command = [program, gpu, *folders]
        out = subprocess.run(command, input=text, text=True, capture_output=True, check=True).stdout
        if out.startswith("error: "):
            return out.removeprefix("error: ").strip()
        return [tuple(map(int, line.split())) for line in out.splitlines()]

    return run


def problems(pass_name, dtype, rows):
    widths = [8, 16, 32, 40, 48, 64, 96, 128, 200, 256, 512]
    return [Sizes(pass_name, dtype, rows, cin, cout, taps) for cin in widths for cout in widths for taps in (1, 8, 27)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("has_warpgroups", [False, True])
def test_the_kind_never_follows_from_the_rows(probe, dtype, has_warpgroups):
    kinds = []
    for rows in (1, 1000, 20_000, 100_000, 3_000_000):
        choices = probe(problems("forward", dtype, rows), has_warpgroups=has_warpgroups)
        kinds.append([kernel // 10 for kernel, _ in choices])
        for kernel, blocks in choices:
            assert kernel in FORWARD_TILES[kernel // 10]
            assert blocks == 1 or (blocks in (2, 4, 8) and kernel in SPLIT_TILES)
    assert all(found == kinds[0] for found in kinds)
    assert set(kinds[0]) == ({0, 10} if has_warpgroups and dtype != "tf32" else {0})
    (direct,) = probe([Sizes("forward", dtype, 100, 64, 64, 27)], fits_direct=True)
    assert direct == (10, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiles_suit_the_channels_and_the_gpu(probe, dtype):
    for has_warpgroups in (False, True):
        asked = problems("weight_grad", dtype, 50_000)
        for sizes, (tile, blocks) in zip(asked, probe(asked, has_warpgroups=has_warpgroups), strict=True):
            assert blocks == 0 and (tile < 100 or (has_warpgroups and dtype != "tf32"))
            assert WEIGHT_TILES[tile] <= 2 * max(*sizes[3:5], 8)
    few, many = probe([Sizes("forward", "float16", rows, 128, 128, 27) for rows in (500, 500_000)])
    assert few[1] > 1 and many[1] == 1 and few[0] < many[0]


TABLE = HEADER + [
    "forward float16 1000 64 64 27 100 8 0.01",
    "forward float16 4000 64 64 27 101 1 0.02",
    "forward float16 1000 64 128 27 103 1 0.02",
    "forward tf32 1000 64 64 27 3 1 0.02  ",
    "weight_grad float16 1000 64 64 27 4 3 0.02",
]


def test_the_nearest_rows_of_the_same_layer_are_taken(probe):
    def choice(*sizes, **options):
        return probe([Sizes(*sizes)], TABLE, **options)

    def rule(*sizes, **options):
        return probe([Sizes(*sizes)], **options)

    layer = (64, 64, 27)
    for rows in (500, 1000, 1999):
        assert choice("forward", "float16", rows, *layer) == [(100, 8)]
    for rows in (2001, 4000, 8000):
        assert choice("forward", "float16", rows, *layer) == [(101, 1)]
    for rows in (1, 499, 8001, 2**40):
        assert choice("forward", "float16", rows, *layer) == rule("forward", "float16", rows, *layer)
    assert choice("forward", "tf32", 1000, *layer) == [(3, 1)] != rule("forward", "tf32", 1000, *layer)
    assert choice("weight_grad", "float16", 700, *layer) == [(4, 3)] != rule("weight_grad", "float16", 700, *layer)
    others = [("forward", "float16", 4000, 64, 64, 8), ("forward", "tf32", 4000, *layer)]
    others += [("weight_grad", "float16", 4000, *layer), ("forward", "float16", 2500, 64, 128, 27)]
    for other in others:
        assert choice(*other) == rule(*other)
    assert choice("forward", "float16", 4000, *layer, groups=2) == rule("forward", "float16", 4000, *layer, groups=2)


def test_float16_stands_for_bfloat16_that_was_not_measured(probe):
    asked = [Sizes("forward", "bfloat16", rows, 64, 64, 27) for rows in (1000, 4000)]
    assert probe(asked, TABLE) == [(100, 8), (101, 1)]
    assert probe(asked, [*TABLE, "forward bfloat16 1000 64 64 27 102 1 0.01"]) == [(102, 1), (101, 1)]
    (weight_grad,) = probe([Sizes("weight_grad", "bfloat16", 1000, 64, 64, 27)], TABLE)
    assert weight_grad == (4, 3)


def test_the_first_folder_that_has_the_gpu_is_taken(probe, tmp_path):
    asked = [Sizes("forward", "float16", 1000, 64, 64, 27)]
    mine, package = tmp_path / "mine", tmp_path / "package"
    for folder, blocks in ((mine, 4), (package, 8)):
        folder.mkdir()
        (folder / f"{GPU}.txt").write_text("\n".join(HEADER + [f"forward float16 1000 64 64 27 100 {blocks} 0.1"]))
    assert probe(asked, folders=[mine, package]) == [(100, 4)]
    assert probe(asked, folders=["", package]) == probe(asked, folders=[tmp_path, package]) == [(100, 8)]
    assert probe(asked, folders=[mine, package], gpu="sm_90_2") == probe(asked, folders=["", mine / "none"])
    assert probe(asked, folders=["", mine / "none"]) == probe(asked)
    missing = tmp_path / "missing"
    assert probe(asked, folders=[missing, package]) == f"PCPERC_SELECTION must be a folder, got {missing}"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_table_of_the_package_is_read_and_followed(probe, path):
    choices = parse_selection(path.read_text().splitlines(), path, path.stem).choices
    assert choices
    has_warpgroups = path.stem.startswith("sm_90_")
    forward = [sizes for sizes in choices if sizes.pass_name == "forward"]
    for asked in (forward, [sizes for sizes in choices if sizes.pass_name == "weight_grad"]):
        found = probe(asked, folders=["", path.parent], gpu=path.stem, has_warpgroups=has_warpgroups)
        assert found == [(choices[sizes].kernel, choices[sizes].blocks) for sizes in asked]


WRONG = {
    "another GPU": (
        ["pcperc selection 1: sm_90_2"],
        f'sm_90_1.txt:1: must be "{HEADER[0]}", got "pcperc selection 1: sm_90_2"',
    ),
    "an older form": ([HEADER[0].replace("1:", "0:")], "sm_90_1.txt:1: must be"),
    "empty": ([""], f'sm_90_1.txt:1: must be "{HEADER[0]}", got ""'),
    "no columns": (HEADER[:2], "the line that names the columns is missing"),
    "other columns": (
        HEADER[:3] + [HEADER[3].replace("rows", "voxels")],
        "sm_90_1.txt:4: column must be rows, got voxels",
    ),
}
LINES = {
    "forward float16 1000 64 64 27 100 8": "sm_90_1.txt:5: must be 9 columns, got 8",
    "forward float16 1000 64 64 27 100 8 0.1 7": "must be 9 columns, got 10",
    "backward float16 1000 64 64 27 100 8 0.1": "sm_90_1.txt:5: pass must be forward or weight_grad, got backward",
    "forward float32 1000 64 64 27 1 1 0.1": "dtype must be float16 or bfloat16 or tf32, got float32",
    "forward float16 0 64 64 27 1 1 0.1": "rows must be a whole number from 1 to 2147483647, got 0",
    "forward float16 1000 64 6x 27 1 1 0.1": "out must be a whole number from 1 to 2147483647, got 6x",
    "forward float16 1000 -64 64 27 1 1 0.1": "in must be a whole number from 1 to 2147483647, got -64",
    "forward float16 1000 64 64 99999999999 1 1 0.1": "taps must be a whole number from 1 to 2147483647",
    "forward float16 1000 64 64 27 9 1 0.1": "kernel must be the number of a kernel of this pass and dtype, got 9",
    "weight_grad float16 1000 64 64 27 107 1 0.1": "kernel must be the number of a kernel of this pass",
    "forward tf32 1000 64 64 27 100 1 0.1": "kernel must be the number of a kernel of this pass and dtype, got 100",
    "forward float16 1000 64 64 27 100 3 0.1": "blocks must be a number of blocks that this kernel takes, got 3",
    "forward float16 1000 64 64 27 105 2 0.1": "blocks must be a number of blocks that this kernel takes, got 2",
    "forward float16 1000 64 64 27 1 2 0.1": "blocks must be a number of blocks that this kernel takes, got 2",
}
WRONG |= {line: (HEADER + [line], message) for line, message in LINES.items()}
TWICE = ["forward float16 1000 64 64 27 100 8 0.1", "forward float16 1000 64 64 27 101 1 0.2"]
WRONG["twice"] = (HEADER + TWICE, "sm_90_1.txt: two lines for forward float16, 1000 rows, 64 -> 64, 27 taps")


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_a_file_is_said(probe, name):
    lines, message = WRONG[name]
    assert message in probe([Sizes("forward", "float16", 9, 64, 64, 27)], lines)


def test_an_entry_stays_within_the_kind_and_the_gpu(probe):
    sizes = Sizes("forward", "float16", 1000, 64, 64, 27)
    message = probe([sizes], HEADER + ["forward float16 1000 64 64 27 1 1 0.1"])
    wanted = "sm_90_1.txt: kernel 1 of forward float16, 1000 rows, 64 -> 64, 27 taps is not of the kind"
    assert f"{wanted} that these channels take" in message
    assert "is not of the kind" in probe([sizes], TABLE, has_warpgroups=False)
    lines = HEADER + ["weight_grad float16 1000 64 64 27 100 0 0.1"]
    assert "needs a Hopper GPU" in probe([Sizes("weight_grad", *sizes[1:])], lines, has_warpgroups=False)


FOLLOW = """
import torch
from pcperc import ops
torch.manual_seed(0)
feats, weight = torch.randn(700, 64).cuda().half(), torch.randn(27, 64, 128).cuda().half()
table = (torch.randint(-1400, 700, (27, 900)).clamp(min=-1)).int().cuda()
out = ops.sparse_conv(feats, weight, table)
for number in (1102, 8102):
    wanted = torch.ops.pcperc.sparse_conv_tiled(feats, weight, table, None, None, 1, True, 1.0, None, number)
    print(torch.equal(out, wanted), *torch.ops.pcperc.chosen_conv_kernel("forward", "float16", 900, 64, 128, 27))

table = (torch.randint(-1400, 700, (27, 20_000)).clamp(min=-1)).int().cuda()
grad = torch.randn(20_000, 128).cuda().half()

def weight_grad(tile, blocks):
    arguments = (feats, grad, table, None, False, 1, True, None, tile, blocks)
    return torch.ops.pcperc.sparse_conv_weight_grad_tiled(*arguments)[0]

for blocks in (1, 3):
    is_equal = torch.equal(weight_grad(-1, 0), weight_grad(101, blocks))
    print(is_equal, *torch.ops.pcperc.chosen_conv_kernel("weight_grad", "float16", 20_000, 64, 128, 27))
"""


@pytest.mark.gpu
def test_a_convolution_follows_the_table_of_the_gpu(tmp_path):
    if torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("GPU: no Hopper, where blocks that share a tile make other bits")
    gpu = gpu_name(torch.device("cuda"))
    path = tmp_path / f"{gpu}.txt"

    def follow(*lines):
        path.write_text("\n".join([f"pcperc selection 1: {gpu}", *HEADER[1:], *lines]) + "\n")
        environment = os.environ | {"PCPERC_SELECTION": str(tmp_path)}
        return subprocess.run([sys.executable, "-c", FOLLOW], env=environment, cwd=ROOT, capture_output=True, text=True)

    def followed(splits, blocks):
        lines = ("forward float16 900 64 128 27 102 {} 0.1", "weight_grad float16 20000 64 128 27 101 {} 0.1")
        done = follow(lines[0].format(splits), lines[1].format(blocks))
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert followed(1, 1) == ["True 102 1", "False 102 1", "True 101 1", "False 101 1"]
    assert followed(8, 3) == ["False 102 8", "True 102 8", "False 101 3", "True 101 3"]
    done = follow("forward float16 900 64 128 27 102 9 0.1")
    assert done.returncode != 0 and f"{path}:5: blocks must be a whole number from 0 to 8, got 9" in done.stderr


def test_the_folder_of_the_user_is_looked_in_first(monkeypatch):
    monkeypatch.delenv("PCPERC_SELECTION", raising=False)
    (package,) = folders()
    assert package.is_dir() and package.samefile(ROOT / "pcperc/ops/selection")
    monkeypatch.setenv("PCPERC_SELECTION", "/mine")
    assert folders() == [Path("/mine"), package]
