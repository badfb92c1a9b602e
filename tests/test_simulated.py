# SPDX-License-Identifier: Apache-2.0
"""What is taken for simulated: the mark of the root says so, and no name does."""

from pcperc.simulated import is_simulated_root, simulated_note
from tests.simulated_root import mark_simulated


def test_the_mark_says_so_and_names_do_not(tmp_path):
    real, simulated = tmp_path / "sim_looking", tmp_path / "plain"
    for root in (real, simulated):
        root.mkdir()
    mark_simulated(simulated)
    assert [is_simulated_root(root) for root in (simulated, str(simulated), real, tmp_path / "none", None)] == [
        *(True, True, False, False, False)
    ]
    assert simulated_note({"root": str(simulated), "split": "val"}) == " (simulated data)"
    for metainfo in ({"root": str(real), "split": "sim_val"}, {"split": "sim_val"}, {}, None):
        assert simulated_note(metainfo) == ""
