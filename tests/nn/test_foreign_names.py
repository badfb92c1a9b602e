# SPDX-License-Identifier: Apache-2.0
"""Layers of other libraries that pcperc.nn lacks, and that docs/migrate.md says the same of them as the error."""

import importlib
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import pcperc
import pcperc.nn as spnn
from pcperc import SparseTensor
from pcperc.foreign_names import ATTRIBUTES, LAYERS, OF_THE_SAME_NAME, layer_for

PAGE = (Path(__file__).parents[2] / "docs" / "migrate.md").read_text()
# No layer of torch is advised that does not treat every row alone.
OTHERS_OF_TORCH = ["LSTM", "Embedding", "CrossEntropyLoss", "LazyConv3d", "Flatten", "MultiheadAttention"]
ABSENT = ["Foo", "SubMConv", "functional", "__wrapped__", *OTHERS_OF_TORCH]
ON_FEATS = "torch.nn.{0} on x.feats, as a layer: class {0}(pcperc.nn.OnFeats, torch.nn.{0}): pass"


def rows_of(heading):
    """The cells of each row of a table of the page."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n\n")[0]
    return [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("SparseSequential", "torch.nn.Sequential"),
        ("SparseModule", "torch.nn.Module"),
        ("SparseReLU", "pcperc.nn.ReLU"),
        ("BatchNorm1d", "pcperc.nn.BatchNorm"),
        ("MinkowskiELU", "pcperc.nn.ELU"),
        ("Hardtanh", ON_FEATS.format("Hardtanh")),
        ("MinkowskiSoftsign", ON_FEATS.format("Softsign")),
        ("AlphaDropout", ON_FEATS.format("AlphaDropout")),
        ("MaxPool2d", "pcperc.nn.SparseMaxPool2d"),
        ("MinkowskiAvgPooling", "pcperc.nn.SparseAvgPool3d"),
        ("PointNetFPModule", "pcperc.nn.FeaturePropagation"),
        ("SparseGlobalMaxPool", 'pcperc.nn.GlobalPool("max")'),
    ],
)
def test_a_foreign_layer_says_what_to_use(name, answer):
    wanted = f"^pcperc.nn.{name}: no such layer; use {re.escape(answer)} " + r"\(docs/migrate.md\)$"
    with pytest.raises(AttributeError, match=wanted):
        getattr(spnn, name)
    with pytest.raises(ImportError, match=wanted):
        exec(f"from pcperc.nn import ReLU, {name}")
    assert not hasattr(spnn, name)


@pytest.mark.parametrize("name", ABSENT)
def test_other_names_are_missing_as_anywhere(name):
    with pytest.raises(AttributeError, match=f"^pcperc.nn.{name}: no such name$"):
        getattr(spnn, name)
    with pytest.raises(ImportError, match=f"cannot import name '{name}'"):
        exec(f"from pcperc.nn import {name}")


def test_each_answer_is_made_of_names_that_exist():
    answers = {layer_for(f"{stem}{axes}") for stem in LAYERS for axes in ("", *("1d", "2d", "3d", "4d"))}
    names = {name for answer in answers for name in re.findall(r"\b(?:pcperc|torch)(?:\.\w+)+", answer)}
    assert "pcperc.nn.SubMConv4d" in names
    for name in names:
        package, *path = name.split(".")
        found = importlib.import_module(package)
        for part in path:
            found = getattr(found, part)


def test_layers_of_torchs_name_are_all_known():
    ours = {name for name in spnn.__all__ if hasattr(nn, name)}
    assert ours == OF_THE_SAME_NAME
    assert all(layer_for(name) == f"pcperc.nn.{name}" for name in ours)


def test_every_layer_of_the_page_is_here_or_answered_with_what_the_page_says():
    answered = 0
    kinds = r"\b(?:Minkowski|SubM|Sparse|Global|To|Join|Add)[A-Z]\w*|\b(?:Batch|Instance|Group)Norm"
    for ours, *theirs in rows_of("Layers"):
        for name in set(re.findall(kinds, " ".join(theirs))) - {"SparseSequential", "SparseResUNet42"}:
            if name not in spnn.__all__:
                words = set(re.findall(r"\w+", layer_for(name))) - {"pcperc", "nn", "torch"}
                assert words & set(re.findall(r"\w+", ours)), name
                answered += 1
    assert answered > 20


def test_every_attribute_of_the_page_is_here_or_answered_with_what_the_page_says():
    x = SparseTensor(torch.zeros(0, 4).int(), torch.zeros(0, 1))
    said = {}  # of one that stands in several rows, by any of them
    for _, ours, *theirs in rows_of("Tensors"):
        for name in set(re.findall(r"\bx\.(\w+)", " ".join(theirs))) - set(dir(x)):
            said[name] = said.get(name, "") + ours
    assert said.keys() >= {"features", "indices", "replace_feature", "F", "C"}
    assert not {name for name, ours in said.items() if ATTRIBUTES[name] not in ours}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("SparseSequential", "torch.nn.Sequential"),
        ("SubMConv3d", "pcperc.nn.SubMConv3d"),
        ("ConvBlock", "pcperc.nn.ConvBlock"),
    ],
)
def test_the_top_of_the_package_leads_to_layers_too(name, answer):
    wanted = rf"^pcperc.{name}: no such name; use {re.escape(answer)} \(docs/migrate.md\)$"
    with pytest.raises(AttributeError, match=wanted):
        getattr(pcperc, name)
    with pytest.raises(ImportError, match=wanted):
        exec(f"from pcperc import {name}")


def test_other_names_at_the_top_are_plain_errors():
    with pytest.raises(AttributeError, match="^module 'pcperc' has no attribute 'Nothing'$"):
        _ = pcperc.Nothing
    assert not hasattr(pcperc, "nothing")
