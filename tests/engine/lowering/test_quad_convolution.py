"""Convolutions of 8-bit integers, every primitive and format, against the numpy oracle, bit for bit."""

import numpy as np
import pytest

from engine import harness
from engine.aarch64 import needs_emulator, run_steps
from engine.lowering.test_conv import SHAPES, make_shape
from engine.quads import given, value
from secateur.engine.choice import Choice
from secateur.engine.lowering.context import Decision
from secateur.engine.lowering.families import lowerings
from secateur.engine.lowering.fills import stored_fills
from secateur.engine.pitches import map_pads
from secateur.engine.target import cross_target
from secateur.graph.ir import Activation, Graph, Node, TensorType
from secateur.graph.quantized import compute

CHOICES = [
    Choice("dense", "direct", 8, 3),
    Choice("dense", "direct", 4, 2),
    Choice("dense", "gemm", 4, 2),
    Choice("dense", "pack", 4, 2),
    Choice("block", "direct", 4, 3),
    Choice("block", "gemm", 8, 2),
    Choice("block", "pack", 4, 2),
    Choice("panel", "direct", 4, 2),
    Choice("panel", "pack", 4, 2),
    Choice("panel", "gemm", 4, 2),
    Choice("panel", "direct", 4, 7, most=1),
    Choice("panel", "direct", 4, 5, most=2),
    Choice("rows", "direct", 4, 3),
    Choice("rows", "pack", 4, 2),
    Choice("rows", "gemm", 8, 2),
    Choice("block", "direct", 4, 2, resident=256),
    Choice("bytes", "direct", 4, 4),
    Choice("bytes", "direct", 1, 4),
    Choice("bytes", "pack", 4, 4),
    Choice("bytes", "pack", 2, 4),
]


def make_graph(
    shape,
    seed=0,
    *,
    density=0.4,
    x=("uint8", 3),
    y=("uint8", 7),
    residual=None,
    inner=None,
    activation=None,
    scale=0.004,
    bias=True,
):
    """A graph of one QConv and the arrays that it reads. x, y, residual: dtype and zero point; y None: float32."""
    rng = np.random.default_rng(seed)
    w_shape = (shape.o, shape.c // shape.groups, *shape.kernel)
    weight = rng.integers(-128, 128, w_shape, np.int16).astype(np.int8)
    weight[rng.random(w_shape) >= density] = 0
    numbers = rng.integers(-3000, 3000, shape.o).astype(np.int32)
    slope = rng.random((shape.o, 1, 1)).astype(np.float32)
    prelu = activation is not None and activation.kind == "prelu"
    constants = {"w": weight} | ({"b": numbers} if bias else {}) | ({"slope": slope} if prelu else {})
    out = (shape.n, shape.o, shape.out_h, shape.out_w)
    types = {
        "x": TensorType((shape.n, shape.c, shape.h, shape.w), x[0]),
        "y": TensorType(out, y[0] if y else "float32"),
        **{name: TensorType(array.shape, array.dtype.name) for name, array in constants.items()},
    }
    if residual:
        types["r"] = TensorType(out, residual[0])
    attributes = {
        "strides": shape.strides, "pads": shape.pads, "dilations": shape.dilations, "group": shape.groups,
        "x_scale": 0.02, "x_zero": x[1], "w_scale": (scale * (0.5 + rng.random(shape.o))).astype(np.float32),
        "inner": inner, "r_scale": 0.03 if residual else None, "r_zero": residual[1] if residual else 0,
        "activation": activation, "y_scale": 0.025 if y else None, "y_zero": y[1] if y else 0,
    }  # fmt: skip
    inputs = ("x", "w", "b" if bias else "", "r" if residual else "", "slope" if prelu else "")
    node = Node("conv", "QConv", inputs, ("y",), attributes, "secateur")
    names = ("x", *(["r"] if residual else []))
    graph = Graph((node,), names, ("y",), types, constants, 20)
    arrays = {
        name: rng.integers(*{"uint8": (0, 256), "int8": (-128, 128)}[types[name].dtype], types[name].shape, np.int16)
        .astype(types[name].dtype)
        for name in names
    }  # fmt: skip
    return graph, arrays


def lowered(isa, graph, arrays, choice, target=None):
    """The context and the memory of the only node, ready to run."""
    (node,) = graph.nodes
    assert lowerings[node.op].refuses(node, graph) is None
    context = harness.empty_context(isa, graph, dict(map_pads(graph)))
    context.target = target or context.target
    context.fills = stored_fills(graph)
    context.choose = lambda *arguments: Decision(choice)
    memory = harness.Memory()
    for name, array in arrays.items():
        context.places[name] = given(context, memory, name, array)
    context.layer = node.name
    lowerings[node.op].lower(node, context)
    return context, memory


def run(isa, graph, arrays, choice, split=2):
    """What the engine's steps write for the only node."""
    context, memory = lowered(isa, graph, arrays, choice)
    harness.run(context.steps, memory, isa, split)
    return value(memory, context.places["y"], graph.type("y").dtype)


def emulate(graph, arrays, choice, target):
    """The same on an emulated AArch64 processor."""
    context, memory = lowered("neon", graph, arrays, choice, target)
    inputs = {context.places[name].buffer.name: memory.array(context.places[name].buffer) for name in arrays}
    y = context.places["y"]
    memory.array(y.buffer)[:] = run_steps(context.steps, inputs, target=target)[y.buffer.name]
    return value(memory, y, graph.type("y").dtype)


def expected(graph, arrays):
    """The reference."""
    (node,) = graph.nodes
    operands = [{**arrays, **graph.constants}.get(name) for name in node.inputs]
    return compute(node, operands, graph.type("y").dtype)


def check(isa, graph, arrays, choice, **how):
    np.testing.assert_array_equal(run(isa, graph, arrays, choice, **how), expected(graph, arrays))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("isa", harness.INTEGER_ISAS)
def test_every_shape(isa, name):
    shape = SHAPES[name]
    if shape.groups > 1:
        shape = make_shape(shape.n, 8, 9, 9, 16, (3, 3), strides=shape.strides, pads=(1, 1, 1, 1), groups=2)
    for choice in (CHOICES[0], CHOICES[3], CHOICES[7], CHOICES[10], *CHOICES[-4:-1]):
        check(isa, *make_graph(shape), choice)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("isa", harness.INTEGER_ISAS)
def test_every_choice(isa, choice):
    for name in ("same", "strided", "pointwise_batch"):
        check(isa, *make_graph(SHAPES[name]), choice)


@pytest.mark.parametrize("choice", [c for c in CHOICES if c.format == "bytes"], ids=str)
@pytest.mark.parametrize("isa", harness.INTEGER_ISAS)
def test_a_last_tile_of_one_vector(isa, choice):
    """65 pixels are tiles of whole vectors of bytes and a single vector of sums, on every processor."""
    shape = make_shape(2, 12, 5, 13, 10, (1, 1))
    for numbers in ({}, {"residual": ("uint8", 9), "activation": Activation("relu")}, {"y": None}):
        check(isa, *make_graph(shape, **numbers), choice)


NUMBERS = {
    "signed": {"x": ("int8", -5), "y": ("int8", 11)},
    "zero_255": {"x": ("uint8", 255), "y": ("uint8", 255)},
    "zero_0": {"x": ("uint8", 0), "y": ("uint8", 0)},
    "no_bias": {"bias": False},
    "relu": {"activation": Activation("relu"), "y": ("uint8", 40)},
    "clip": {"activation": Activation("clip", -1.0, 2.0)},
    "residual": {"residual": ("uint8", 9)},
    "signed_residual_relu": {"residual": ("int8", 3), "y": ("int8", -20), "activation": Activation("relu")},
    "inner": {"residual": ("uint8", 9), "inner": (0.03, 120, "uint8")},
    "inner_relu": {"residual": ("uint8", 9), "inner": (0.03, -3, "int8"), "activation": Activation("relu")},
    "leaky": {"activation": Activation("leaky_relu", 0.1)},
    "prelu": {"activation": Activation("prelu"), "residual": ("uint8", 100)},
    "float": {"y": None},
    "float_residual_relu": {"y": None, "residual": ("uint8", 100), "activation": Activation("relu")},
    "float_inner": {"y": None, "residual": ("int8", 5), "inner": (0.03, 120, "uint8")},
    "sums_beyond_32_bits": {"scale": 1e9},
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("isa", harness.INTEGER_ISAS)
def test_every_way_to_end(isa, name):
    for shape in (SHAPES["same"], SHAPES["pointwise_batch"]):
        for choice in (CHOICES[0], CHOICES[7], CHOICES[-3]):
            check(isa, *make_graph(shape, **NUMBERS[name]), choice)


AARCH64 = {"plain": (), "sdot": ("dotprod",), "usdot": ("dotprod", "i8mm")}


@needs_emulator
@pytest.mark.parametrize("name", AARCH64)
def test_aarch64(name):
    target = cross_target("neon", more=AARCH64[name])
    numbers = {"residual": ("uint8", 9), "inner": (0.03, 120, "uint8"), "x": ("int8", -5)}
    for choice in (
        Choice("dense", "direct", 4, 3),
        Choice("panel", "pack", 4, 2),
        Choice("rows", "direct", 4, 2),
        Choice("bytes", "direct", 4, 4),
        Choice("bytes", "pack", 1, 4),
    ):
        graph, arrays = make_graph(SHAPES["same"], **numbers)
        np.testing.assert_array_equal(emulate(graph, arrays, choice, target), expected(graph, arrays))
