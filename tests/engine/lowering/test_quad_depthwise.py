"""Depthwise convolutions of 8-bit integers against the numpy oracle, bit for bit."""

import numpy as np
import pytest

from engine import harness
from engine.lowering.test_conv import SHAPES as CONVOLUTIONS
from engine.lowering.test_quad_convolution import make_graph, run
from secateur.engine.choice import Choice
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.families import lowerings
from secateur.graph.ir import Activation
from secateur.graph.quantized import compute

ANY = Choice("dense", "direct", 4, 2)
ISAS = harness.INTEGER_ISAS


def depthwise(n, c, h, w, kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1), multiplier=1):
    sides = zip((h, w), pads[:2], pads[2:], kernel, strides, dilations, strict=True)
    out = [(side + before + after - (k - 1) * d - 1) // step + 1 for side, before, after, k, step, d in sides]
    return ConvShape(n, c, h, w, c * multiplier, kernel, strides, pads, dilations, c, *out)


SHAPES = {
    "one vector": depthwise(1, 4, 5, 9),
    "batch": depthwise(2, 6, 9, 33),
    "odd rows": depthwise(1, 8, 7, 7),
    "strided": depthwise(2, 8, 9, 35, strides=(2, 2)),
    "strided even": depthwise(1, 5, 12, 40, strides=(2, 2)),
    "5x5": depthwise(1, 8, 10, 70, (5, 5), pads=(2, 2, 2, 2)),
    "5x5 strided": depthwise(1, 8, 11, 40, (5, 5), (2, 2), (2, 2, 2, 2)),
    "7x7": depthwise(1, 4, 9, 9, (7, 7), pads=(3, 3, 3, 3)),
    "whole map": depthwise(1, 6, 7, 7, (7, 7), pads=(0, 0, 0, 0)),
    "dilated": depthwise(1, 4, 13, 20, pads=(2, 2, 2, 2), dilations=(2, 2)),
    "stride 3": depthwise(1, 4, 13, 20, strides=(3, 3)),
    "uneven": depthwise(1, 4, 13, 20, (3, 2), (2, 1), (1, 0, 1, 1)),
    "row": depthwise(1, 4, 1, 50, (1, 3), pads=(0, 1, 0, 1)),
    "multiplier": depthwise(1, 5, 8, 12, multiplier=2),
    "without padding": depthwise(1, 12, 10, 21, pads=(0, 0, 0, 0)),
}


def check(isa, shape, seed=0, **how):
    graph, arrays = make_graph(shape, seed, density=1.0, **how)
    (node,) = graph.nodes
    operands = [{**arrays, **graph.constants}.get(name) for name in node.inputs]
    made = run(isa, graph, arrays, ANY)
    np.testing.assert_array_equal(made, compute(node, operands, graph.type("y").dtype))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("isa", ISAS)
def test_every_shape(isa, name):
    check(isa, SHAPES[name])
    check(isa, SHAPES[name], 1, x=("int8", -5), y=("int8", 3))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("activation", [Activation("relu"), Activation("clip", 0.0, 1.5), Activation("prelu")], ids=str)
def test_activations(isa, activation):
    check(isa, SHAPES["batch"], activation=activation)
    check(isa, SHAPES["strided"], activation=activation, y=("int8", -100))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("inner", [None, (0.031, 3, "uint8"), (0.031, -3, "int8")])
def test_residual(isa, inner):
    for name in ("batch", "strided"):
        check(isa, SHAPES[name], residual=("uint8", 9), inner=inner)
        check(isa, SHAPES[name], residual=("int8", 9), inner=inner, activation=Activation("relu"))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [SHAPES["batch"], CONVOLUTIONS["same"]], ids=["depthwise", "convolution"])
def test_sums_that_do_not_fit_are_those_of_32_bits(isa, shape):
    """Quantizers give channels whose weights are nearly zero the largest bias that there is."""
    graph, arrays = make_graph(shape, density=1.0)
    graph.constants["b"][::2] = 2**31 - 5
    (node,) = graph.nodes
    expected = compute(node, [{**arrays, **graph.constants}.get(name) for name in node.inputs], "uint8")
    np.testing.assert_array_equal(run(isa, graph, arrays, ANY), expected)


def test_float_results_are_refused():
    graph, _ = make_graph(SHAPES["batch"], y=None)
    reason = lowerings["QConv"].refuses(graph.nodes[0], graph)
    assert reason == "its result is float32, and each channel has its own input"
