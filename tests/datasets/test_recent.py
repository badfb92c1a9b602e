# SPDX-License-Identifier: Apache-2.0
"""The last few things read are kept: who is read again, and what another process gets."""

import pickle

import pytest

from pcperc.datasets.recent import Recent


class Reader:
    """Keeps two, and knows what it read."""

    def __init__(self):
        self.read, self.recent = [], Recent(self.look_up, most=2)

    def look_up(self, name):
        self.read.append(name)
        if name == "missing":
            raise FileNotFoundError(name)
        return name.upper()


def test_the_one_asked_for_longest_ago_is_read_again():
    reader = Reader()
    assert [reader.recent(name) for name in "abacab"] == list("ABACAB")
    assert reader.read == ["a", "b", "c", "b"]  # c drove out b, not a, which was asked for since
    reader.recent.clear()
    assert reader.recent("a") == "A" and reader.read[-1] == "a"


def test_an_error_is_kept_for_no_name():
    reader = Reader()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            reader.recent("missing")
    assert reader.read == ["missing"] * 2 and reader.recent("a") == "A"


def test_its_owner_can_be_handed_to_another_process():
    reader = Reader()
    reader.recent("a")
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.recent("b") == "B" and copy.read == ["a", "b"] and reader.read == ["a"]
