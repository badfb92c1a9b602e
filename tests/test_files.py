# SPDX-License-Identifier: Apache-2.0
"""Files are whole or absent, and a failed write says which file and why."""

import errno
import fcntl
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from pcperc.files import naming, only_writer, write_arrays, write_text, written_whole


def full_disk(*_args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with written_whole(path) as partial:
        partial.write_text("half")
        assert not path.exists() and partial.parent == path.parent
    assert path.read_text() == "half" and list(path.parent.iterdir()) == [path]


def test_two_writers_of_one_name_do_not_meet(tmp_path):
    """Threads, or processes of one number in two containers."""
    path = tmp_path / "a.txt"
    with written_whole(path) as first, written_whole(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first.read_text() == "first"
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=r"^.*a\.txt: cannot be written, the disk is full$") as caught:
        write_text(path, "new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_arrays_are_written_and_no_others(tmp_path):
    path, arrays = tmp_path / "a.npz", {"hits": np.arange(6.0).reshape(2, 3), "names": np.array(["em", "mip"])}
    write_arrays(path, arrays)
    with np.load(path, allow_pickle=False) as file:
        assert sorted(file.files) == sorted(arrays) and all((file[name] == arrays[name]).all() for name in arrays)
    with pytest.raises(ValueError, match=r"a\.npz: cannot be written, names must hold numbers or text, got object$"):
        write_arrays(path, arrays | {"names": np.array([{}])})


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


def test_one_process_at_a_time_writes_a_folder(tmp_path):
    folder = tmp_path / "new"
    with only_writer(folder, "testing"):
        refused = _in_another_process(folder)
        assert refused.endswith(f"{folder}: another process is testing there; wait for it or choose another folder")
        with only_writer(folder, "training"):  # another job has other files
            pass
    assert _in_another_process(folder) == "" and list(folder.iterdir()) == []


def test_one_thread_at_a_time_writes_a_folder(tmp_path):
    with only_writer(tmp_path, "testing"):
        with pytest.raises(OSError, match="another process is testing there"), only_writer(tmp_path, "testing"):
            pass
        assert "another process is testing there" in _in_another_process(tmp_path)  # the second left the first's lock
    with only_writer(tmp_path, "testing"):
        pass


def _in_another_process(folder) -> str:
    """The last line of what a process says that tries to be the only writer."""
    code = f"from pcperc.files import only_writer\nwith only_writer({str(folder)!r}, 'testing'): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stderr.strip().rpartition("\n")[2]


def test_waiting_for_the_other_process(tmp_path, caplog):
    code = f"import sys\nfrom pcperc.files import only_writer\nwith only_writer({str(tmp_path)!r}, 'preparing'):\n"
    command = [sys.executable, "-c", code + "    print('in', flush=True)\n    sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        threading.Timer(0.5, other.stdin.close).start()
        with only_writer(tmp_path, "preparing", wait=True):
            assert other.wait(timeout=10) == 0
    assert f"{tmp_path}: waiting for another process that is preparing there" in caplog.text


def test_a_file_system_without_locks_is_told_of(tmp_path, monkeypatch, caplog):
    """Some of clusters have none: training must go on there."""

    def none(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "lockf", none)
    with only_writer(tmp_path, "training"):
        assert f"{tmp_path}/.training.lock: its file system has no locks" in caplog.text


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=r"file/new: cannot be written, Not a directory"),
        only_writer(tmp_path / "file" / "new", "testing"),
    ):
        pass
