# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcperc import ops
from tests.op_contract import OpContract, Sample


def expected(index, num_segments):
    """By a list of rows for each segment, one below them all and one above."""
    rows = [[] for _ in range(num_segments + 2)]
    numbers = [max(min(int(value), num_segments), -1) for value in index]
    for row, number in enumerate(numbers):
        rows[number + 1].append(row)
    starts = np.cumsum([len(group) for group in rows])[:-1]
    order = [row for group in rows for row in group]
    return np.array(numbers, dtype=np.int32), np.array(order, dtype=np.int32), starts.astype(np.int32)


def random_index(count, low, high, dtype=torch.int32):
    return torch.randint(low, high, (count,), generator=torch.Generator().manual_seed(count)).to(dtype)


def sample_of(name, index, num_segments):
    return Sample(name, {"index": index}, {"num_segments": num_segments})


class TestMakeSegments(OpContract):
    dtypes = (torch.float32,)  # of nothing: indices keep theirs

    @staticmethod
    def samples():
        far = torch.tensor([2**62, -(2**62), 3, -1, 4, 2**31 + 3, 0, -(2**31)])
        return [
            sample_of("some", random_index(300, 0, 7), 7),
            sample_of("some_in_none", random_index(300, -3, 12), 7),
            sample_of("int64", random_index(300, -3, 12, torch.int64), 7),
            sample_of("far_away", far, 4),
            sample_of("as_far_as_int32", torch.tensor([2**31 - 1, -(2**31), 1, 0], dtype=torch.int32), 2),
            sample_of("one_segment", torch.zeros(100).int(), 1),
            sample_of("of_a_power_of_two", random_index(500, -1, 257), 256),  # one more number than 8 bits hold
            sample_of("more_segments_than_rows", random_index(50, 0, 5000), 5000),
            sample_of("behind_all", torch.full((5,), 9).int(), 3),
            sample_of("before_all", torch.full((5,), -9).int(), 3),
            sample_of("no_segments", random_index(20, -2, 3), 0),
            sample_of("no_rows", torch.zeros(0).int(), 3),
            sample_of("nothing", torch.zeros(0).long(), 0),
            sample_of("many", random_index(20_000, -5, 3000), 2990),  # several blocks of a sort
        ]

    @staticmethod
    def call(sample):
        return tuple(ops.make_segments(sample.tensors["index"], **sample.options))

    @staticmethod
    def oracle(sample):
        return expected(sample.tensors["index"].numpy(), sample.options["num_segments"])

    @staticmethod
    def overloads(sample):
        return [(torch.ops.pcperc.make_segments.default, (sample.tensors["index"], sample.options["num_segments"]))]


@given(st.lists(st.integers(-3, 9), max_size=40), st.integers(0, 8))
def test_rows_of_any_segments(numbers, num_segments):
    found = ops.make_segments(torch.tensor(numbers, dtype=torch.int64), num_segments=num_segments)
    for one, other in zip(found, expected(numbers, num_segments), strict=True):
        assert one.dtype == torch.int32 and one.tolist() == other.tolist()


def test_threads_change_nothing():
    index, threads = random_index(50_000, -5, 3000), torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(ops.make_segments(index, num_segments=2990))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_too_many_segments():
    with pytest.raises(ValueError, match="make_segments: num_segments must be from 0 to 2"):
        torch.ops.pcperc.make_segments(torch.zeros(2).int(), 2**31)
