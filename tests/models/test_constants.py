# SPDX-License-Identifier: Apache-2.0
"""Numbers of a config are made once for each dtype and device."""

import torch
from torch._subclasses import FakeTensorMode

from pcperc.models.bevfusion import BoxCoder
from pcperc.models.constants import constant


def test_a_constant_is_made_once_and_serves_every_pass(device):
    values, x = (1.5, -2.0), torch.ones(3, 2, device=device, requires_grad=True)
    with torch.inference_mode():
        made = constant(values, x)
    assert constant([1.5, -2.0], x) is made and constant(values, x.double()).dtype == torch.float64
    assert torch.equal(made, x.new_tensor(values)) and made.device.type == device.type
    (x * made).sum().backward()
    assert torch.equal(x.grad, made.expand(3, 2))


def test_a_compiled_program_has_its_own():
    program = torch.export.export(Scaled(), (torch.ones(2),))
    assert torch.equal(program.module()(torch.ones(2)), torch.tensor([3.0, 4.25]))
    assert constant((3.0, 4.25), torch.ones(1)).tolist() == [3.0, 4.25]


def test_fake_tensors_leave_real_ones_alone():
    coder, codes = BoxCoder(point_range=(-3.0, -3.0, -1.0, 3.0, 3.0, 1.0), cell_size=(0.375, 0.75)), torch.zeros(2, 10)
    with FakeTensorMode():
        coder.decode(torch.zeros(2, 10))
    with FakeTensorMode(allow_non_fake_inputs=True):
        coder.decode(codes)
    assert type(coder.decode(codes)) is torch.Tensor
    with FakeTensorMode():
        coder.decode(torch.zeros(2, 10))


def test_a_constant_stays_where_a_graph_reads_it():
    x = torch.ones(1)
    made = constant((-77.5,), x)
    for number in range(1000):
        constant((float(number),), x)
    assert constant((-77.5,), x) is made


class Scaled(torch.nn.Module):
    def forward(self, x):
        return x * constant((3.0, 4.25), x)
