"""Arithmetic against numpy: every broadcast, both layouts, padding kept zero."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur.engine.lowering.elementwise  # noqa: F401  (registers the lowerings)
from engine.harness import ISAS, assembly
from engine.peers import lowered, onnx_runtime
from secateur.engine.kernels.elementwise import OPERATIONS, Elementwise
from secateur.graph.ir import Activation

RANDOM = np.random.default_rng(11)
NUMPY = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
}


def random(shape: tuple[int, ...]) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


@st.composite
def broadcasts(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that numpy broadcasts together."""
    rank = draw(st.integers(0, 5))
    full = tuple(draw(st.integers(1, 7 if axis else 40)) for axis in range(rank))[::-1]
    shapes = []
    for _ in range(2):
        shape = tuple(size if draw(st.booleans()) else 1 for size in full)
        shapes.append(shape[draw(st.integers(0, rank)) :] if draw(st.booleans()) else shape)
    return shapes[0], shapes[1]


@pytest.mark.parametrize("isa", ISAS)
@given(
    shapes=broadcasts(),
    operation=st.sampled_from(sorted(NUMPY)),
    constant=st.sampled_from([(), (0,), (1,)]),
    activation=st.sampled_from([None, Activation("relu"), Activation("sigmoid")]),
    pad=st.integers(0, 2),
)
@settings(max_examples=150, deadline=None)
def test_every_broadcast(isa: str, shapes, operation: str, constant, activation, pad: int) -> None:
    a, b = (random(shape) for shape in shapes)
    exact = NUMPY[operation](a, b)
    if activation is not None:
        exact = np.maximum(exact, 0) if activation.kind == "relu" else 1 / (1 + np.exp(-exact.astype(np.float64)))
    attributes = {"activation": activation}
    (y,) = lowered(operation, [a, b], [exact.shape], attributes, isa, constants=constant, pad=pad)
    np.testing.assert_allclose(y, exact, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pad", [0, 1, 3])
@pytest.mark.parametrize("side", [7, 14, 20])
@pytest.mark.parametrize(
    "other", [(2, 5, 1, 1), (1, 5, 1, 1), (), (2, 5, 0, 0), (1, 5, 0, 0), (2, 1, 0, 0), (1, 1, 0, 1)]
)
def test_maps(isa: str, side: int, pad: int, other: tuple[int, ...]) -> None:
    shape = tuple(size or side for size in other)
    a, b = random((2, 5, side, side)), random(shape)
    for constants in ((), (1,)):
        (y,) = lowered("Mul", [a, b], [a.shape], {"activation": None}, isa, pad=pad, constants=constants)
        np.testing.assert_array_equal(y, a * b)


@pytest.mark.parametrize("isa", ISAS)
def test_a_nan_gate_does_not_reach_the_padding(isa: str) -> None:
    x, gate = random((1, 4, 5, 9)), random((1, 4, 1, 1))
    gate[0, 2] = np.nan
    (y,) = lowered("Mul", [x, gate], [x.shape], {"activation": None}, isa, pad=2)
    assert np.isnan(y[0, 2]).all()
    assert np.isnan(y).sum() == 45


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(2, 4, 5, 9), (3, 4), (2, 4, 7)])
def test_slopes_and_scales_per_channel(isa: str, shape: tuple[int, ...]) -> None:
    x, slope, shift = random(shape), random((4,)), random((4,))
    spread, moved = (v.reshape((4,) + (1,) * (len(shape) - 2)) for v in (slope, shift))
    (y,) = lowered("Activate", [x, slope], [shape], {"activation": Activation("prelu")}, isa, constants=(1,), pad=1)
    np.testing.assert_array_equal(y, np.where(x >= 0, x, x * spread))
    (y,) = lowered("ScaleShift", [x, slope, shift], [shape], {}, isa, constants=(1, 2), pad=1)
    np.testing.assert_allclose(y, x.astype(np.float64) * spread + moved, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0])
def test_small_powers_as_onnx_runtime(isa: str, exponent: float) -> None:
    x = np.abs(random((2, 3, 6, 7)))
    power = np.array(exponent, np.float32)
    (y,) = lowered("Pow", [x, power], [x.shape], {}, isa, constants=(1,), pad=1)
    np.testing.assert_allclose(y, onnx_runtime("Pow", [x, power])[0], rtol=3e-7)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("operation", ["Max", "Min", "Add", "Mul", "Div"])
def test_nan_and_infinity_as_onnx_runtime(isa: str, operation: str) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0, 1, -1], np.float32)
    a, b = (np.ascontiguousarray(m) for m in np.broadcast_arrays(values[:, None], values[None]))
    with np.errstate(all="ignore"):
        (y,) = lowered(operation, [a, b], [a.shape], {}, isa)
    np.testing.assert_array_equal(y, onnx_runtime(operation, [a, b])[0])


@pytest.mark.parametrize("isa", ISAS)
@given(shape=st.lists(st.integers(1, 30), min_size=0, max_size=4), pad=st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_activate(isa: str, shape: list[int], pad: int) -> None:
    x = random(tuple(shape)) if prod(shape) < 9000 else random((3,))
    for kind, exact in (("relu", np.maximum(x, 0)), ("exp", np.exp(x.astype(np.float64)))):
        (y,) = lowered("Activate", [x], [x.shape], {"activation": Activation(kind)}, isa, pad=pad)
        np.testing.assert_allclose(y, exact, rtol=3e-7)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_neon_code_has_no_calls(operation: str) -> None:
    assert "\tbl\t" not in assembly(Elementwise(operation, ("full",) * OPERATIONS[operation]), "neon")
