"""No value of a file is left without channels, whatever was to go."""

import numpy as np
import pytest

from channels import onnx_topologies
from channels.onnx_topologies import distance, plan_of, run, zeroed
from secateur.channels.onnx_remains import with_remains
from secateur.channels.onnx_remove import without_channels
from secateur.channels.onnx_trace import groups_of_onnx, trace_onnx
from secateur.errors import SparsityError


def test_a_slice_that_would_pick_nothing_keeps_its_first_channel():
    file = onnx_topologies.moves()
    groups = groups_of_onnx(file)
    odd = {"s": np.array([1, 3, 5, 7])}  # all that the Gather picks
    with pytest.raises(SparsityError, match="one must stay"):
        without_channels(trace_onnx(file), plan_of(groups, odd))
    left = with_remains(trace_onnx(file), groups, odd)
    assert left["s"].tolist() == [3, 5, 7]
    thin = without_channels(trace_onnx(file), plan_of(groups, left))
    assert distance(run(zeroed(file, groups, left, ("consumer",))), run(thin)) < 1e-5


def test_what_leaves_something_everywhere_stays_as_it_is():
    file = onnx_topologies.grouped()
    units = {"a": np.array([0, 3, 6, 9])}
    assert with_remains(trace_onnx(file), groups_of_onnx(file), units)["a"].tolist() == [0, 3, 6, 9]


def test_segments_stay_equal():
    """A slice behind a grouped convolution: with the channel that stays, one of each other group stays."""
    nodes = f"""
        a = Conv<group = 2>(x, a.weight, a.bias) l = Slice(a, zero, two, one) m = Slice(a, two, six, one)
        n = Concat<axis = 1>(l, m) h = Relu(n) {onnx_topologies.HEAD}
    """
    numbers = {name: np.array([value]) for name, value in (("zero", 0), ("two", 2), ("six", 6), ("one", 1))}
    weights = {"a.weight": (6, 2, 1, 1), "a.bias": (6,), **onnx_topologies.fc(6), **numbers}
    file = onnx_topologies.model(nodes, weights, x="N,4,8,8")
    groups = groups_of_onnx(file)
    assert groups["a"].segments == 2
    left = with_remains(trace_onnx(file), groups, {"a": np.array([0, 1, 3, 4])})
    assert left["a"].tolist() == [1, 4]
    assert run(without_channels(trace_onnx(file), plan_of(groups, left)))[0].shape == (2, 4)
