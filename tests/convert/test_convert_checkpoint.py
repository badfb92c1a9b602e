# SPDX-License-Identifier: Apache-2.0
"""tools/convert_checkpoint.py: the origin it tells, the files it writes, and one line for what is wrong."""

import re

import pytest
import torch

from pcperc.convert import convert_network, find_origin
from pcperc.engine.checkpoint import load_checkpoint
from pcperc.engine.loading import build_model, open_checkpoint
from pcperc.engine.messages import run_tool
from pcperc.models import SPVCNN
from tests import bevfusion_names
from tests.sparse.test_point_tensor import random_points
from tests.spvnas_names import SUBNET, WIDTHS, published_spvnas
from tests.test_tools import ROOT, tool

LIDAR = "configs/bevfusion/lidar_only.py"
CONFIG = """
from pcperc.models import SPVCNN

model = dict(type=SPVCNN, in_channels=3, num_classes=3, {options}quantized=True)
"""


@pytest.fixture
def convert(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["convert_checkpoint.py", *map(str, arguments)])
        status = run_tool(tool("convert_checkpoint").main)
        return status, capsys.readouterr()

    return run


def test_tool_tells_the_origin_and_writes_both_forms(convert, tmp_path):
    file = tmp_path / "lidar.pth"
    theirs = bevfusion_names.mmdet3d_weights(camera=False)
    torch.save({"state_dict": dict(theirs), "meta": {}}, file)
    status, said = convert(ROOT / LIDAR, file, "--to", "safetensors")
    assert status in (0, None), said.err
    out = tmp_path / "lidar.safetensors"
    opened = open_checkpoint(out, ROOT / LIDAR, compared=("model",))
    assert opened.meta["converted_from"] == {"source": "mmdet3d", "file": "lidar.pth"}
    weights = build_model(opened, torch.device("cpu")).state_dict()
    assert torch.equal(weights["decoder.neck.deblocks.1.0.weight"], theirs["pts_neck.deblocks.1.0.weight"])
    again = tmp_path / "own.pth"
    assert convert(ROOT / LIDAR, out, "--from", "pcperc", "--to", "pth", "--out", again)[0] in (0, None)
    assert load_checkpoint(again)["state_dict"].keys() == weights.keys()
    # One of our own is known without being told, and nothing is written over that nobody named.
    for arguments, message in (
        ((out,), "lidar.safetensors: is a .safetensors file already; give --out, or --to pth"),
        ((again, "--out", again), "--out must be a .safetensors file, got "),
        ((out, "--to", "pth"), "lidar.pth: is there already; move it away, or name another by --out"),
        ((out, "--to", "pth", "--from", "bevfusion"), f"--from bevfusion: {out} is of pcperc; --from pcperc, or none"),
    ):
        status, said = convert(ROOT / LIDAR, *arguments)
        assert status == 1 and message in said.err, said.err
    assert convert(ROOT / LIDAR, out, "--to", "pth", "--out", again)[0] == 0
    assert convert(ROOT / LIDAR, again)[0] == 0 and (tmp_path / "own.safetensors").is_file()


def test_a_checkpoint_of_unknown_origin(convert, tmp_path):
    known = r"known are bevfusion, mmdet3d, spvnas, torchsparse, pvcnn; "
    names = ["img_backbone.a", "img_neck.b", "bbox_head.c", "teacher.d"]
    with pytest.raises(
        ValueError, match=known + "the nearest is mmdet3d, by 3 of 4 names, which does not know teacher.d"
    ):
        find_origin(names)
    for names_of_none, told in ((["teacher.d"], "teacher.d"), ([], "a file without names")):
        with pytest.raises(ValueError, match=known + f"none of them knows {told}$"):
            find_origin(names_of_none)
    misspelt = ["img_bckbone.a", "pts_midle_encoder.b"]
    with pytest.raises(
        ValueError, match=known + "the nearest is mmdet3d, which does not know img_bckbone.a, pts_midle"
    ):
        find_origin(misspelt)
    file = tmp_path / "strange.pth"
    torch.save({name: torch.zeros(1) for name in names}, file)
    status, said = convert(ROOT / LIDAR, file)
    assert status == 1 and "strange.pth: its origin is unknown" in said.err and len(said.err.splitlines()) == 1
    status, said = convert(ROOT / LIDAR, file, "--from", "bevfusion")
    assert status == 1 and "left over: img_backbone.a" in said.err and "the nearest is mmdet3d" in said.err
    assert "rename=" not in said.err  # which the tool does not have
    assert [path.name for path in tmp_path.iterdir()] == ["strange.pth"]


def test_the_tool_writes_what_the_other_tools_read(convert, tmp_path):
    state = published_spvnas(SUBNET, largest_top=9)
    torch.save({"model": state, "epoch": 3}, tmp_path / "init")
    (tmp_path / "net.py").write_text(CONFIG.format(options=""))
    out = tmp_path / "net.safetensors"
    status, said = convert(tmp_path / "net.py", tmp_path / "init", "--from", "spvnas", "--out", out)
    assert status == 0 and "net.safetensors: " in said.out
    model = build_model(open_checkpoint(out), torch.device("cpu"))
    assert torch.equal(model.classifier.bias, state["classifier.linear.bias"]) and model.quantized
    expected = SPVCNN(3, 3, **SUBNET, quantized=True).eval()
    expected.load_state_dict(convert_network(state, source="spvnas", model=expected))
    points = random_points(dtype=torch.float32)
    assert torch.equal(model(points).feats, expected(points).feats)
    assert load_checkpoint(out)["meta"]["converted_from"] == {"source": "spvnas", "file": "init"}


@pytest.mark.parametrize(
    ("config", "file", "out", "message"),
    [
        ("net.py", "text", "a.safetensors", "text is truncated or no file of weights|text must hold tensors"),
        ("net.py", "junk", "a.safetensors", "junk is truncated or no file of weights: .* begins with 'junk"),
        ("net.py", "missing", "a.safetensors", "missing: no such file"),
        ("net.py", "init", "a.pth", "--out must be a .safetensors file, got .*a.pth"),
        ("net.py", "init", "a.safetensors", "init: .*missing: stem.0.norm.weight"),
        ("linear.py", "init", "a.safetensors", "model must hold one MinkUNet or SPVCNN, got 0; .*init is of spvnas"),
        ("net.py", "lidar", "a.safetensors", "lidar: is not of spvnas, by its names it is of mmdet3d; as spvnas: "),
    ],
)
def test_the_tool_says_in_one_line_what_is_wrong(config, file, out, message, convert, tmp_path):
    (tmp_path / "net.py").write_text(CONFIG.format(options=f"widths={WIDTHS}, "))
    (tmp_path / "linear.py").write_text("from pcperc.models import OnVoxels\nfrom pcperc.nn import ReLU\n")
    with open(tmp_path / "linear.py", "a") as file_:
        file_.write("model = dict(type=OnVoxels, net=dict(type=ReLU))\n")
    (tmp_path / "text").write_text("no weights")
    (tmp_path / "junk").write_text("junk\n")
    torch.save({"stem.0.kernel": torch.zeros(27, 3, 4)}, tmp_path / "init")
    torch.save({"bbox_head.a": torch.zeros(1)}, tmp_path / "lidar")
    status, said = convert(tmp_path / config, tmp_path / file, "--from", "spvnas", "--out", tmp_path / out)
    assert status == 1 and len(said.err.splitlines()) == 1 and re.search(message, said.err)
    assert not (tmp_path / out).exists()
