# SPDX-License-Identifier: Apache-2.0
"""What infer.py says of the files that it read."""

from pathlib import Path

from pcperc.engine.prediction_files import MOST_LISTED, told, told_of_all


def results(*found):
    return {Path(f"out/{number}.bin.json"): of_file for number, of_file in enumerate(found)}


def test_a_few_files_have_a_line_each():
    said = told_of_all(results({"objects": 1, "maps": 1}, {"objects": 0, "maps": 1}, {"chair": 1}, {}))
    lines = [
        "0.bin.json: 1 object, 1 map",
        "1.bin.json: 0 objects, 1 map",
        "2.bin.json: 1 chair",
        "3.bin.json: nothing",
    ]
    assert said.splitlines() == [f"out/{line}" for line in lines]
    assert len(told_of_all(results(*[{"points": 5}] * MOST_LISTED)).splitlines()) == MOST_LISTED


def test_many_files_have_one_line():
    many = MOST_LISTED + 1
    assert told_of_all(results(*({"objects": n % 3} for n in range(many)))) == (
        f"{many} results in out: 21 objects; nothing in 7 of them"
    )
    assert (
        told_of_all(results(*[{"objects": 0}] * many)) == f"{many} results in out: 0 objects; nothing in {many} of them"
    )
    kinds = results(*({("chair", "table")[n % 2]: 1} for n in range(many)))
    assert told_of_all(kinds) == f"{many} results in out: 11 chair, 10 table"


def test_what_was_found_in_one_file():
    assert told({"clusters": 12}) == "12 clusters" and told({"clusters": 1}) == "1 cluster" and told({}) == "nothing"
