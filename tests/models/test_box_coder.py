# SPDX-License-Identifier: Apache-2.0
"""The box code of the TransFusion head, and which boxes it can learn from."""

import math

import pytest
import torch

from pcperc.models.bevfusion.box_coder import BoxCoder
from tests.models.transfusion_small import CODER, NAN, RANGE, random_boxes


def test_box_code_by_hand():
    box = torch.tensor([[2.5, -6.0, 1.0, math.e, 1.0, math.e**2, math.pi / 2, 3.0, -4.0]], dtype=torch.float64)
    code = BoxCoder(RANGE, (0.5, 2.0)).encode(box)[0].tolist()
    assert code == pytest.approx([21.0, 0.0, 1.0, 1.0, 0.0, 2.0, 1.0, 0.0, 3.0, -4.0], abs=1e-12)


def test_decode_undoes_encode():
    boxes = random_boxes(50)
    torch.testing.assert_close(CODER.decode(CODER.encode(boxes)), boxes, rtol=1e-12, atol=1e-12)
    codes = CODER.encode(boxes)
    codes[:, 6:8] *= torch.rand(50, 1, dtype=torch.float64) * 3 + 0.1  # only the direction of (sin, cos) counts
    torch.testing.assert_close(CODER.decode(codes), boxes, rtol=1e-12, atol=1e-12)


def test_decode_of_diverged_sizes_is_finite():
    assert CODER.decode(torch.full((1, 10), 1e4)).isfinite().all()
    assert (CODER.decode(torch.full((1, 10), -1e4))[:, 3:6] > 0).all()


def test_usable_boxes():
    good = [1.0, 1.0, 0.0, 4.0, 2.0, 1.5, 0.0, NAN, NAN]
    rows = {"good": good, "no length": [*good[:3], 0.0, *good[4:]], "negative height": [*good[:5], -1.0, *good[6:]]}
    rows |= {"upper edge": [8.0, *good[1:]], "lower edge": [-8.0, *good[1:]], "outside": [1.0, 6.5, *good[2:]]}
    rows |= {"high above": [1.0, 1.0, 9.0, *good[3:]], "nan yaw": [*good[:6], NAN, NAN, NAN], "nan x": [NAN, *good[1:]]}
    usable = CODER.usable(torch.tensor(list(rows.values())))
    assert [name for name, ok in zip(rows, usable, strict=True) if ok] == ["good", "lower edge", "high above"]


@pytest.mark.parametrize(
    ("point_range", "cell", "message"),
    [
        (RANGE, (0.7, 1.0), "cell_size must divide"),
        (RANGE[:5], (1, 1), "point_range must be"),
        ((1,) * 6, (1, 1), "grow"),
    ],
)
def test_box_coder_names_wrong_arguments(point_range, cell, message):
    with pytest.raises(ValueError, match=message):
        BoxCoder(point_range, cell)
