# SPDX-License-Identifier: Apache-2.0
"""Files are whole or absent, and a failed write says which file and why."""

import errno
import os

import pytest

from pcperc.files import naming, write_text, written_whole


def full_disk(*_args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with written_whole(path) as partial:
        partial.write_text("half")
        assert not path.exists() and partial.parent == path.parent
    assert path.read_text() == "half" and list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=r"^.*a\.txt: cannot be written, the disk is full$") as caught:
        write_text(path, "new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_another_error_passes_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="wrong content"), written_whole(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise ValueError("wrong content")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "folder").write_text("")
    with pytest.raises(OSError, match=r"folder/a\.txt: cannot be written, (File exists|Not a directory)$"):
        write_text(tmp_path / "folder" / "a.txt", "new")


def test_an_error_with_words_of_its_own_is_not_renamed(tmp_path):
    with pytest.raises(OSError, match="^said already$"), naming(tmp_path):
        raise OSError("said already")
    with (
        pytest.raises(OSError, match="cannot be written, the disk is full; make room$"),
        naming("x", advice="; make room"),
    ):
        full_disk()
