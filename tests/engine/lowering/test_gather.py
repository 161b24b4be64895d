"""Gather with constant indices against numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur.engine.lowering.gather  # noqa: F401  (registers the lowering)
from engine.harness import ISAS
from engine.peers import lowered
from secateur.engine.lowering.context import lowerings
from secateur.graph.ir import Graph, Node, TensorType

RANDOM = np.random.default_rng(37)


@pytest.mark.parametrize("isa", ISAS)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    wanted=st.lists(st.integers(1, 4), max_size=2).map(tuple),
    data=st.data(),
    pad=st.integers(0, 2),
)
@settings(max_examples=100, deadline=None)
def test_any_axis_and_indices(isa: str, shape, wanted, data, pad: int) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    indices = RANDOM.integers(-shape[axis], shape[axis], wanted)
    x = RANDOM.standard_normal(shape).astype(np.float32)
    exact = np.take(x, indices, axis)
    (y,) = lowered("Gather", [x, indices], [exact.shape], {"axis": axis}, isa, constants=(1,), pad=pad)
    np.testing.assert_array_equal(y, exact)


def test_computed_indices_are_refused() -> None:
    node = Node("y", "Gather", ("x", "i"), ("y",), {})
    types = {"x": TensorType((3,), "float32"), "i": TensorType((2,), "int64"), "y": TensorType((2,), "float32")}
    assert lowerings["Gather"].refuses(node, Graph((node,), ("x", "i"), ("y",), types, {}, 20)) is not None
