"""Operators on single 8-bit integers, bit for bit as graph.quantized.arithmetic."""

import numpy as np
import pytest

import secateur.engine.lowering.quad_elementwise  # noqa: F401  (registers the lowerings)
from engine.harness import ISAS
from engine.quads import check
from secateur.graph.ir import Activation

RANDOM = np.random.default_rng(11)
SHAPES = [(2, 3, 5, 7), (1, 8, 9, 33), (2, 5, 1, 1), (3, 13)]
ACTIVATIONS = [None, Activation("relu"), Activation("clip", -0.7, 1.1), Activation("hard_swish")]


def integers(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    return RANDOM.integers(0, 256, shape, np.uint8).view(dtype)


def numbers(zeros: tuple[int, int, int], activation: Activation | None = None) -> dict[str, object]:
    made: dict[str, object] = {"a_scale": 0.0213, "b_scale": 0.0171, "y_scale": 0.0317, "activation": activation}
    return made | dict(zip(("a_zero", "b_zero", "y_zero"), zeros, strict=True))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("operator", ["QAdd", "QMul"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_and_products(isa: str, operator: str, activation: Activation | None, shape: tuple[int, ...]) -> None:
    a, b = integers(shape), integers(shape)
    for pad in (0, 2):
        check(operator, [a, b], ("uint8", shape), numbers((130, 7, 118), activation), isa, pad=pad)
    signed = integers(shape, "int8"), integers(shape, "int8")
    check(operator, signed, ("int8", shape), numbers((-3, 4, 11), activation), isa, pad=1)
    mixed = integers(shape, "int8"), integers(shape)
    check(operator, mixed, ("uint8", shape), numbers((-3, 4, 0), activation), isa, pad=1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("channels", [8, 6])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_number_per_channel(isa: str, channels: int, swapped: bool) -> None:
    maps, gates = integers((2, channels, 5, 7)), integers((2, channels, 1, 1), "int8")
    operands, zeros = ([gates, maps], (-128, 131, 5)) if swapped else ([maps, gates], (131, -128, 5))
    for operator in ("QMul", "QAdd"):
        check(operator, operands, ("uint8", (2, channels, 5, 7)), numbers(zeros), isa, pad=1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kinds", [("uint8", "uint8"), ("int8", "int8"), ("uint8", "int8"), ("int8", "uint8")])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_byte_is_looked_up(isa: str, kinds: tuple[str, str], shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape)).astype(np.uint8).reshape(shape).view(kinds[0])
    table = integers((256,), kinds[1])
    for pad in (0, 2):
        check("QActivate", [x], (kinds[1], shape), {"table": table}, isa, pad=pad)


@pytest.mark.parametrize("isa", ISAS)
def test_halves_go_to_the_even_number(isa: str) -> None:
    a = np.arange(256, dtype=np.uint8).reshape(1, 4, 8, 8)
    how = {"a_scale": 0.5, "b_scale": 0.5, "y_scale": 1.0, "a_zero": 3, "b_zero": 0, "y_zero": 1, "activation": None}
    check("QAdd", [a, np.zeros_like(a)], ("uint8", a.shape), how, isa)
