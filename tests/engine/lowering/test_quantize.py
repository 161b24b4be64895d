"""Floats to 8-bit integers and back, bit for bit as ONNX says."""

import numpy as np
import pytest

import secateur.engine.lowering.quantize  # noqa: F401  (registers the lowerings)
from engine.harness import ISAS
from engine.quads import check

RANDOM = np.random.default_rng(7)
SHAPES = [(2, 3, 5, 7), (1, 8, 9, 33), (1, 5, 1, 40), (3, 6, 16, 16), (2, 7, 1, 1), (5, 13), (4,)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("flat", [False, True])
def test_there_and_back(isa: str, dtype: str, shape: tuple[int, ...], flat: bool) -> None:
    x = (RANDOM.standard_normal(shape) * 3).astype(np.float32)
    numbers = {"scale": 0.0237, "zero": 131 if dtype == "uint8" else -3, "dtype": dtype}
    for pad in (0, 2):
        check("Quantize", [x], (dtype, shape), numbers, isa, pad=pad, flat=flat)
        q = RANDOM.integers(0, 256, shape, np.uint8).view(dtype)
        check("Dequantize", [q], ("float32", shape), numbers, isa, pad=pad, flat=flat)


@pytest.mark.parametrize("isa", ISAS)
def test_ties_and_extremes(isa: str) -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, np.inf, -np.inf, 255.5, 254.5, -0.0] * 3, np.float32)
    for zero in (0, 1, 7, 255):
        check("Quantize", [x.reshape(1, 1, 4, 9)], ("uint8", (1, 1, 4, 9)), {"scale": 1.0, "zero": zero}, isa)
