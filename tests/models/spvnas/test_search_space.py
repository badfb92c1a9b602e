# SPDX-License-Identifier: Apache-2.0
"""The published space of subnets, and how one of them is written down and refused."""

import dataclasses
import json
from itertools import product

import numpy as np
import pytest

from pcperc.models.spvnas import SearchSpace, Subnet

SPACE = SearchSpace()


def test_published_bounds():
    assert SPACE.largest().widths == (32, 48, 96, 192, 384, 384, 192, 128, 128)
    assert SPACE.smallest().widths == (32, 16, 32, 64, 128, 128, 64, 48, 48)
    assert SPACE.largest().transitions == (32, 48, 96, 192, 384, 192, 128, 128)
    assert SPACE.smallest().transitions == (16, 16, 16, 16, 48, 16, 16, 16)
    assert SPACE.largest().inner_widths == tuple((c, c) for c in (48, 96, 192, 384, 384, 192, 128, 128))
    assert SPACE.smallest().inner_widths == tuple((c,) for c in (16, 16, 16, 48, 48, 16, 16, 16))
    assert SPACE.widths[0] == (32,) and SPACE.widths[1] == (16, 32, 48) and SPACE.inner_widths[0] == (16, 32, 48)
    assert SPACE.widths[3] == tuple(range(64, 193, 16)) and SPACE.depths == (1, 2)


def test_every_choice_is_drawn_equally_often_and_fits():
    rng = np.random.default_rng(0)
    subnets = [SPACE.sample(rng) for _ in range(1500)]
    for subnet in subnets:
        SPACE.check(subnet)
    for drawn, choices in (
        ([s.widths[1] for s in subnets], SPACE.widths[1]),
        ([s.transitions[3] for s in subnets], SPACE.transitions[3]),
        ([s.inner_widths[7][0] for s in subnets], SPACE.inner_widths[7]),
        ([s.depths[4] for s in subnets], SPACE.depths),
        ([s.inner_widths[0] for s in subnets if s.depths[0] == 2], tuple(product(SPACE.inner_widths[0], repeat=2))),
    ):
        counts = np.array([drawn.count(choice) for choice in choices])
        expected = len(drawn) / len(choices)
        assert counts.sum() == len(drawn) > 600 and (abs(counts - expected) < 5 * np.sqrt(expected)).all()
    assert SPACE.sample(np.random.default_rng(3)) == SPACE.sample(np.random.default_rng(3))


def test_number_of_subnets_is_counted():
    """Width, two inner widths and the step behind it: 2 * (2 + 2 * 2) * 2, and one or two blocks elsewhere."""
    space = SearchSpace(max_widths=(16, 32) + (16,) * 7, min_widths=(16,) * 9, min_ratio=0.5)
    assert space.num_subnets == 2 * 6 * 2 * 2**7
    space = SearchSpace(max_widths=(16, 32) + (16,) * 7, min_widths=(16,) * 9, min_ratio=0.5, depths=(1,))
    rng = np.random.default_rng(0)
    assert space.num_subnets == 8 == len({space.sample(rng) for _ in range(200)})


def test_json_keeps_a_subnet():
    subnet = SPACE.sample(np.random.default_rng(1))
    assert Subnet.from_json(subnet.to_json()) == subnet
    assert hash(Subnet.from_json(subnet.to_json())) == hash(subnet)
    assert set(json.loads(subnet.to_json())) == {"widths", "transitions", "inner_widths"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        subnet.widths = ()


LARGEST = dataclasses.asdict(SPACE.largest())


def changed(name, index, value):
    values = list(LARGEST[name])
    values[index] = value
    return Subnet(**{**LARGEST, name: values})


@pytest.mark.parametrize(
    ("name", "index", "value", "message"),
    [
        ("widths", 0, 16, r"widths\[0\] of the subnet must be one of 32, got 16"),
        ("widths", 3, 208, r"widths\[3\] of the subnet must be one of 64, .*, 192, got 208"),
        ("widths", 3, 48, r"widths\[3\] .* got 48"),
        ("transitions", 7, 40, r"transitions\[7\] .* got 40"),
        ("inner_widths", 2, (192, 200), r"inner_widths\[2\]\[1\] .* got 200"),
        ("inner_widths", 5, (16, 16, 16), r"number of blocks in inner_widths\[5\] .* one of 1, 2, got 3"),
    ],
)
def test_what_does_not_fit_is_named(name, index, value, message):
    with pytest.raises(ValueError, match=f"SearchSpace: {message}"):
        SPACE.check(changed(name, index, value))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"widths": (32,) * 8}, ValueError, "widths must be 9 numbers >= 1"),
        ({"transitions": (32,) * 9}, ValueError, "transitions must be 8 numbers >= 1"),
        ({"transitions": (0,) * 8}, ValueError, "transitions must be 8 numbers >= 1"),
        ({"widths": (32.0,) * 9}, TypeError, "widths must be a list of whole numbers"),
        ({"widths": 32}, TypeError, "widths must be a list of whole numbers, got 32"),
        ({"inner_widths": ((16,),) * 7}, ValueError, "inner_widths must be 8 lists"),
        ({"inner_widths": ((),) + ((16,),) * 7}, ValueError, r"inner_widths\[0\] must be one or more numbers >= 1"),
        ({"inner_widths": (16,) * 8}, TypeError, r"inner_widths\[0\] must be a list of whole numbers, got 16"),
    ],
)
def test_a_wrong_description_is_named(change, error, message):
    with pytest.raises(error, match=f"Subnet: {message}"):
        Subnet(**{**LARGEST, **change})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "text must be JSON, got '{'"),
        ("[]", "must be an object with the keys .* got list"),
        ('{"widths": []}', r"with the keys widths, transitions, inner_widths, got \['widths'\]"),
    ],
)
def test_wrong_json_is_named(text, message):
    with pytest.raises(ValueError, match=f"Subnet.from_json: .*{message}"):
        Subnet.from_json(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_widths": (16,) * 8}, "must be nine numbers each"),
        ({"min_widths": (400,) * 9}, "with 1 <= min <= max"),
        ({"min_ratio": 0.0}, r"min_ratio must be in \(0, 1\], got 0.0"),
        ({"depths": (2, 1)}, "depths must be rising"),
    ],
)
def test_a_wrong_space_is_named(options, message):
    with pytest.raises(ValueError, match=f"SearchSpace: .*{message}"):
        SearchSpace(**options)
