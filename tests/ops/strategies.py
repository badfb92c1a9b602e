# SPDX-License-Identifier: Apache-2.0
"""Random geometries and rows of 1 to 4 axes, for tests by property."""

from hypothesis import strategies as st

from tests.ops.clouds import KEY_LIMITS, coords_of


@st.composite
def geometries(draw, dims):
    def values(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    return dict(kernel_size=values(1, 3), stride=values(1, 4), padding=values(0, 3), dilation=values(1, 3))


@st.composite
def clouds(draw, dims, *, max_size=12, unique=True, margin=0):
    """(M, 1 + dims) int32 close together, anywhere or in a corner of the range, in four far apart batch items."""
    batch, low, high = KEY_LIMITS[dims]
    low, high = low + margin, high - margin
    centre = [draw(st.sampled_from([low, low + 2, 0, high]) | st.integers(low, high)) for _ in range(dims)]
    axes = [st.integers(max(c - 3, low), min(c + 3, high)) for c in centre]
    rows = draw(st.lists(st.tuples(st.sampled_from([0, 1, 3, batch]), *axes), max_size=max_size, unique=unique))
    return coords_of(*rows, dims=dims)


def for_every_dims(*strategies):
    """A tuple of what the strategies give for one number of axes, or the one that a single strategy gives."""
    return st.sampled_from([1, 2, 3, 4]).flatmap(
        lambda dims: st.tuples(*(s(dims) for s in strategies)) if len(strategies) > 1 else strategies[0](dims)
    )


@st.composite
def extreme_geometries(draw, dims):
    """Parameters up to the highest that the operators take."""
    top = (1 << 17) - 1

    def values(*choices):
        return tuple(draw(st.sampled_from(choices)) for _ in range(dims))

    kernel_size = values(1, 2, 7) if dims > 1 else values(1, 2, 4096)
    return dict(
        kernel_size=kernel_size, stride=values(1, 2, 4096, top), padding=values(0, 1, top), dilation=values(1, 6, top)
    )
