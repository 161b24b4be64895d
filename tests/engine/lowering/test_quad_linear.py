"""Products of 8-bit integers with matrices of weights against the numpy oracle, bit for bit."""

import numpy as np
import pytest

from engine import harness
from engine.quads import check
from secateur.graph.ir import Activation

ATTRIBUTES = {
    "x_scale": 0.02, "x_zero": 3, "inner": None, "r_scale": None, "r_zero": 0, "activation": None,
    "y_scale": 0.5, "y_zero": 7,
}  # fmt: skip
CASES = {
    "plain": {},
    "signed": {"x_zero": -100, "y_zero": -3},
    "relu": {"activation": Activation("relu")},
    "silu": {"activation": Activation("leaky_relu", 0.25)},
    "residual": {"r_scale": 0.4, "r_zero": 99},
    "inner": {"r_scale": 0.4, "r_zero": 99, "inner": (0.6, 3, "uint8")},
    "float": {"y_scale": None, "y_zero": 0},
}


def operands(rows, inputs, outputs, density, signed, residual, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-128, 128, (outputs, inputs), np.int16).astype(np.int8)
    weight[rng.random(weight.shape) >= density] = 0
    kind, least = (np.int8, -128) if signed else (np.uint8, 0)
    bias = rng.integers(-3000, 3000, outputs).astype(np.int32)
    x = rng.integers(least, least + 256, (rows, inputs), np.int16).astype(kind)
    added = [rng.integers(0, 256, (rows, outputs), np.int16).astype(np.uint8)] if residual else []
    return [x, weight, bias, *added]


def run(isa, rows, inputs, outputs, density, numbers):
    rng = np.random.default_rng(1)
    scales = (0.05 * (0.5 + rng.random(outputs))).astype(np.float32)
    attributes = {**ATTRIBUTES, **numbers, "w_scale": scales}
    signed = attributes["x_zero"] < 0
    kind = "float32" if attributes["y_scale"] is None else "int8" if signed else "uint8"
    arrays = operands(rows, inputs, outputs, density, signed, attributes["r_scale"] is not None)
    check("QLinear", arrays, (kind, (rows, outputs)), attributes, isa, constants=(1, 2))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("isa", harness.INTEGER_ISAS)
def test_every_way_to_end(isa, name):
    run(isa, 1, 64, 40, 1.0, CASES[name])
    run(isa, 3, 29, 10, 1.0, CASES[name])


@pytest.mark.parametrize("density", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("isa", harness.INTEGER_ISAS)
def test_zeros_are_left_out(isa, density):
    for rows, inputs, outputs in ((1, 512, 100), (2, 515, 33), (9, 64, 48)):
        run(isa, rows, inputs, outputs, density, {})
