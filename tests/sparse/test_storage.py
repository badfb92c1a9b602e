# SPDX-License-Identifier: Apache-2.0
"""Sparse tensors in files: written whole, read without executing anything, mistakes named with file and key."""

import errno
import os
from fractions import Fraction

import pytest
import torch
from safetensors.torch import save_file

from pcperc import SparseTensor, load, save
from tests.ops.clouds import coords_of, random_coords


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [None, (9, 10, 11)])
def test_what_was_saved_is_loaded(tmp_path, dtype, shape):
    coords = random_coords(20, low=0)
    feats = torch.randn(3, len(coords)).to(dtype).T.requires_grad_()
    x = SparseTensor(coords, feats, 5, spatial_shape=shape, tensor_stride=(1, 2, Fraction(1, 4)))
    path = tmp_path / "new" / "x.safetensors"
    save(x, path)
    y = load(path)
    assert torch.equal(y.coords, x.coords) and torch.equal(y.feats, x.feats) and y.dtype == dtype
    assert (y.batch_size, y.spatial_shape, y.tensor_stride) == (5, shape, (1, 2, Fraction(1, 4)))
    assert not y.feats.requires_grad and load(str(path), device="meta").feats.is_meta


@pytest.mark.parametrize("batch_size", [None, 3])
def test_nothing_is_saved_and_loaded(tmp_path, batch_size):
    save(SparseTensor(coords_of(), torch.zeros(0, 2), batch_size), tmp_path / "x.safetensors")
    y = load(tmp_path / "x.safetensors")
    assert y.batch_size == (batch_size or 0) and y.feats.shape == (0, 2)


def test_others_may_read_the_file_as_any_other(tmp_path):
    save(SparseTensor(coords_of(), torch.zeros(0, 2), 1), tmp_path / "x.safetensors")
    (tmp_path / "plain").write_text("")
    assert os.stat(tmp_path / "x.safetensors").st_mode == os.stat(tmp_path / "plain").st_mode


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save(SparseTensor(coords_of(), torch.zeros(0, 2), 1), path)
    before = path.read_bytes()

    def full_disk(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=r"x\.safetensors: cannot be written, the disk is full"):
        save(SparseTensor(coords_of((0, 1, 1, 1)), torch.zeros(1, 2), 1), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def valid():
    tensors = {"coords": coords_of((0, 1, 2, 3)), "feats": torch.ones(1, 2)}
    lattice = '{"batch_size": 1, "spatial_shape": null, "tensor_stride": ["1", "1", "1"]}'
    return tensors, {"format": "pcperc sparse tensor 1", "lattice": lattice}


def without(mapping, key):
    return {k: v for k, v in mapping.items() if k != key}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, m: (without(t, "feats"), m), "got no feats"),
        (lambda t, m: (without(t, "coords"), m), "got no coords"),
        (lambda t, m: (t, without(m, "format")), "format must be 'pcperc sparse tensor 1', got None"),
        (lambda t, m: (t, without(m, "lattice")), "the header must have lattice"),
        (lambda t, m: (t, m | {"lattice": "{}"}), "lattice must have the keys batch_size, spatial_shape"),
        (lambda t, m: (t, m | {"lattice": "not json"}), "Expecting value"),
        (lambda t, m: (t, m | {"lattice": m["lattice"].replace("1,", '"1",', 1)}), "batch_size must be a whole number"),
        (lambda t, m: (t, m | {"lattice": m["lattice"].replace('["1"', '["a"')}), "Invalid literal for Fraction: 'a'"),
        (lambda t, m: (t, m | {"lattice": m["lattice"].replace('["1"', '["1/0"')}), r"Fraction\(1, 0\)"),
        (lambda t, m: (t, m | {"lattice": m["lattice"].replace('["1"', "[Infinity")}), "Infinity"),
        (lambda t, m: (t, m | {"lattice": "[" * 10**5}), "recursion"),
        (lambda t, m: (t | {"coords": t["coords"].long()}, m), r"coords must be .* got \(1, 4\) int64"),
        (lambda t, m: (t | {"feats": torch.ones(2, 2)}, m), r"feats must be \(1, C\)"),
        (lambda t, m: (t | {"coords": t["coords"] + 1}, m), "row 0 = .* outside batch_size 1"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path, spoil, message):
    tensors, metadata = spoil(*valid())
    save_file(tensors, tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=rf"load: .*x\.safetensors: not a sparse tensor .*{message}"):
        load(tmp_path / "x.safetensors")


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"load: .*x\.safetensors: no such file"):
        load(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"anything else")
    with pytest.raises(ValueError, match=r"load: .*x\.safetensors: not a sparse tensor"):
        load(tmp_path / "x.safetensors")
    with pytest.raises(TypeError, match="save: x must be a SparseTensor, got Tensor"):
        save(torch.ones(1), tmp_path / "y.safetensors")
    assert not (tmp_path / "y.safetensors").exists()
