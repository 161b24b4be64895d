"""Pad against numpy."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import secateur.engine.lowering.pad  # noqa: F401  (registers the lowering)
from engine.harness import ISAS
from engine.peers import lowered
from secateur.engine.lowering.context import lowerings
from secateur.graph.ir import Graph, Node, TensorType

RANDOM = np.random.default_rng(29)


def padded(x: np.ndarray, pads: tuple[int, ...], mode: str, value: float, isa: str, pad: int) -> None:
    rank = x.ndim
    pairs = [(pads[axis], pads[axis + rank]) for axis in range(rank)]
    extra = {"constant_values": value} if mode == "constant" else {}
    exact = np.pad(x, pairs, mode=mode, **extra) if rank else x
    attributes = {"pads": pads, "mode": mode, "value": value}
    (y,) = lowered("Pad", [x], [exact.shape], attributes, isa, pad=pad)
    np.testing.assert_array_equal(y, exact)


@pytest.mark.parametrize("isa", ISAS)
@given(
    shape=st.lists(st.integers(1, 9), max_size=4).map(tuple),
    mode=st.sampled_from(["constant", "reflect", "edge", "wrap"]),
    value=st.sampled_from([0.0, -2.5]),
    data=st.data(),
    pad=st.integers(0, 2),
)
@settings(max_examples=100, deadline=None)
def test_any_tensor(isa: str, shape, mode: str, value: float, data, pad: int) -> None:
    assume(shape or mode == "constant")
    pads = tuple(data.draw(st.integers(0, 3)) for _ in range(2 * len(shape)))
    if mode in ("reflect", "wrap"):
        pads = tuple(min(pad, size - 1) for pad, size in zip(pads, (*shape, *shape), strict=True))
    padded(RANDOM.standard_normal(shape).astype(np.float32), pads, mode, value, isa, pad)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_maps(isa: str, mode: str) -> None:
    x = RANDOM.standard_normal((2, 3, 31, 40)).astype(np.float32)
    for pad in (0, 1):
        padded(x, (0, 0, 1, 2, 0, 0, 3, 1), mode, 1.5, isa, pad)
        padded(x, (0, 1, 1, 2, 1, 0, 3, 1), mode, 1.5, isa, pad)


def test_reflections_of_reflections_are_refused() -> None:
    node = Node("y", "Pad", ("x",), ("y",), {"pads": (3, 0), "mode": "reflect", "value": 0}, "secateur")
    types = {"x": TensorType((3,), "float32"), "y": TensorType((6,), "float32")}
    assert lowerings["Pad"].refuses(node, Graph((node,), ("x",), ("y",), types, {}, 20)) is not None
