"""Traces: steps without side effects, parts that stay whole, and networks that are refused."""

import torch
import torch.nn.functional as F
from torch import nn

from secateur.posttraining.trace import out_of_place, trace_of
from unit_networks import Deciding, Inside, Residual, Straight, built, images


def test_steps_give_the_output_and_change_nothing_they_read():
    for make in (Straight, Residual):
        network, x = built(make), images(1)[0]
        trace = trace_of(network, x)
        values = {trace.source: x.clone()}
        with out_of_place(network), torch.no_grad():
            names = [step.name for step in trace.steps]
            trace.run(network, names, values)
            once = {name: value.clone() for name, value in values.items()}
            trace.run(network, names, values)
        assert torch.equal(values[trace.result], network(x))
        assert all(torch.equal(value, values[name]) for name, value in once.items())


def test_who_read_an_overwritten_value_reads_the_new_one():
    class Overwriting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            x = self.layer(x)
            y = F.relu(x, inplace=True) * 2
            y.neg_()
            return x + y  # the sum of relu(x) and -2 relu(x)

    network, x = built(Overwriting), images(1)[0]
    trace = trace_of(network, x)
    assert not isinstance(trace, str)
    assert torch.equal(network(x), -torch.relu(network.layer(x)))


def test_parameters_are_no_steps():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.layer = nn.Parameter(torch.ones(3, 1, 1)), nn.Conv2d(3, 3, 1)

        def forward(self, x, mask=None):
            return self.layer(x) * self.scale.exp() if mask is None else x

    trace = trace_of(built(Scaled), images(1)[0])
    assert [step.reads for step in trace.steps] == [("x",), ("layer",)]


def test_weight_that_is_read_without_a_call_belongs_to_the_step():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(8, 4)

        def forward(self, x):
            return F.linear(x, self.project.weight, self.project.bias)

    assert [step.layers for step in trace_of(built(Attention), images(1)[0]).steps] == [("project",)]


def test_part_that_decides_is_one_whole_step():
    steps = {step.name: step for step in trace_of(built(Inside), images(1)[0]).steps}
    assert steps["part"].whole and steps["part"].layers == ("part.first", "part.second")
    assert not steps["stem"].whole


def test_reasons():
    class Two(nn.Module):
        def forward(self, x):
            return x, x

    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.rand(())

    x = torch.randn(1, 4, 8, 8)
    assert trace_of(built(Deciding), x).startswith("torch.fx cannot trace Deciding: ")
    assert trace_of(Two(), x) == "Two has not one input and one output"
    assert trace_of(Noise(), x) == "the steps that torch.fx found do not compute what Noise computes"


def test_bytes_are_those_of_one_image():
    steps = {step.name: step for step in trace_of(built(Inside), torch.randn(3, 3, 8, 8)).steps}
    assert steps["stem"].bytes == 4 * 8 * 8 * 4
