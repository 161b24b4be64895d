"""Kernels on 8-bit integers give on AArch64 what the numpy oracle says, with dotprod and without."""

import numpy as np
import pytest

from engine.aarch64 import needs_emulator, run_steps
from engine.harness import Memory, empty_context
from engine.lowering.test_conv import SHAPES as CONVOLUTIONS
from engine.lowering.test_conv import make_shape
from engine.lowering.test_quad_convolution import make_graph
from engine.lowering.test_quad_depthwise import SHAPES
from engine.quads import given, value
from secateur.engine.choice import Choice
from secateur.engine.compiler import compile_kernels
from secateur.engine.emit.integers import dot_lowers, has_dot
from secateur.engine.lowering.context import Decision
from secateur.engine.lowering.families import lowerings
from secateur.engine.lowering.fills import stored_fills
from secateur.engine.object_file import read_object
from secateur.engine.pitches import map_pads
from secateur.engine.target import Target, cross_target
from secateur.graph.ir import Activation, Graph, Node, TensorType
from secateur.graph.quantized import compute

TARGETS = {
    "plain": cross_target("neon"),
    "dotprod": cross_target("neon", more=("dotprod",)),
    "i8mm": cross_target("neon", more=("dotprod", "i8mm")),
}
RANDOM = np.random.default_rng(29)


def test_every_way_to_multiply_is_among_them():
    assert [(has_dot(target), dot_lowers(target)) for target in TARGETS.values()] == [
        (False, 0),
        (True, 128),
        (True, 0),
    ]


def on_aarch64(graph: Graph, arrays: dict[str, np.ndarray], target: Target, choice: Choice | None = None) -> np.ndarray:
    """The only node of a graph, lowered and run."""
    (node,) = graph.nodes
    context, memory = empty_context("neon", graph, dict(map_pads(graph))), Memory()
    context.target, context.fills, context.layer = target, stored_fills(graph), node.name
    if choice is not None:
        context.choose = lambda *arguments: Decision(choice)
    for name, array in arrays.items():
        context.places[name] = given(context, memory, name, array)
    lowerings[node.op].lower(node, context)
    buffers = {b for step in context.steps for b in (*step.reads, *step.writes)}
    start = {b.name: memory.array(b) for b in buffers if b.name in arrays or b.fill}
    results = run_steps(context.steps, start, target=target)
    y = context.tensor(graph.outputs[0])
    assert y.buffer is not None
    memory.array(y.buffer).view(np.uint8)[:] = results[y.buffer.name].view(np.uint8)
    return value(memory, y, graph.type(graph.outputs[0]).dtype)


def of_node(operator: str, inputs: list[np.ndarray], output: tuple[str, tuple[int, ...]], attributes: dict) -> Graph:
    names = [f"x{i}" for i in range(len(inputs))]
    types = {name: TensorType(array.shape, array.dtype.name) for name, array in zip(names, inputs, strict=True)}
    types["y"] = TensorType(output[1], output[0])
    return Graph(
        (Node("node", operator, tuple(names), ("y",), attributes, "secateur"),), tuple(names), ("y",), types, {}, 20
    )


@needs_emulator
@pytest.mark.parametrize("how", TARGETS)
@pytest.mark.parametrize("name", ["batch", "strided", "5x5"])
def test_depthwise(how, name):
    graph, arrays = make_graph(SHAPES[name], density=1.0, residual=("uint8", 9), activation=Activation("relu"))
    (node,) = graph.nodes
    expected = compute(node, [{**arrays, **graph.constants}.get(n) for n in node.inputs], "uint8")
    np.testing.assert_array_equal(on_aarch64(graph, arrays, TARGETS[how]), expected)


@needs_emulator
@pytest.mark.parametrize("how", TARGETS)
@pytest.mark.parametrize(
    "choice", [Choice("dense", "direct", 4, 2), Choice("panel", "pack", 4, 2), Choice("bytes", "direct", 4, 4)], ids=str
)
def test_convolution(how, choice):
    graph, arrays = make_graph(CONVOLUTIONS["same"], residual=("int8", 9), activation=Activation("relu"))
    (node,) = graph.nodes
    expected = compute(node, [{**arrays, **graph.constants}.get(n) for n in node.inputs], "uint8")
    np.testing.assert_array_equal(on_aarch64(graph, arrays, TARGETS[how], choice), expected)


@needs_emulator
@pytest.mark.parametrize("how", TARGETS)
def test_a_last_tile_of_one_vector(how):
    graph, arrays = make_graph(make_shape(1, 12, 5, 13, 10, (1, 1)), residual=("int8", 9))
    (node,) = graph.nodes
    expected = compute(node, [{**arrays, **graph.constants}.get(n) for n in node.inputs], "uint8")
    found = on_aarch64(graph, arrays, TARGETS[how], Choice("bytes", "pack", 2, 4))
    np.testing.assert_array_equal(found, expected)


SHAPE = (2, 6, 5, 9)
NUMBERS = {"a_scale": 0.02, "a_zero": 130, "b_scale": 0.03, "b_zero": 7, "y_scale": 0.04, "y_zero": 118}
POOL = {"x_scale": 0.02, "x_zero": 130, "y_scale": 0.03, "y_zero": 7}
CASES = {
    "QAdd": (("uint8", "uint8"), SHAPE, NUMBERS | {"activation": Activation("relu")}),
    "QMul": (("uint8", "int8"), SHAPE, NUMBERS | {"activation": None}),
    "QActivate": (("int8",), SHAPE, {"table": RANDOM.integers(0, 256, 256, np.uint8)}),
    "QGlobalPool": (("uint8",), (2, 6, 1, 1), POOL | {"kind": "average"}),
    "QConcat": (("uint8", "int8"), (2, 12, 5, 9), {
        "axis": 1, "scales": (0.02, 0.03), "zeros": (7, -9), "y_scale": 0.03, "y_zero": 12,
    }),
    "Dequantize": (("int8",), SHAPE, {"scale": 0.3, "zero": -5}),
}  # fmt: skip


@needs_emulator
@pytest.mark.parametrize("operator", CASES)
def test_operators(operator):
    kinds, out, attributes = CASES[operator]
    inputs = [RANDOM.integers(0, 256, SHAPE, np.uint8).view(kind) for kind in kinds]
    dtype = "float32" if operator == "Dequantize" else "uint8"
    graph = of_node(operator, inputs, (dtype, out), attributes)
    expected = compute(graph.nodes[0], inputs, dtype)
    np.testing.assert_array_equal(
        on_aarch64(graph, dict(zip(graph.inputs, inputs, strict=True)), TARGETS["plain"]), expected
    )


@needs_emulator
def test_quantize():
    x = np.concatenate([RANDOM.standard_normal(530) * 3, [0.5, 1.5, 2.5, -0.5, 1e30, -1e30, 3e9, -3e9, 1e9, 0]])
    x = x.astype(np.float32).reshape(2, 6, 5, 9)
    for dtype, zero in (("uint8", 7), ("int8", -3)):
        graph = of_node("Quantize", [x], (dtype, x.shape), {"scale": 1.0, "zero": zero, "dtype": dtype})
        expected = compute(graph.nodes[0], [x], dtype)
        np.testing.assert_array_equal(on_aarch64(graph, {"x0": x}, TARGETS["plain"]), expected)


@pytest.mark.parametrize("isa", ["neon", "avx2", "avx512"])
def test_objects_have_no_undefined_symbols(isa):
    """Emission for every target, which needs no emulator."""
    for more in (
        ((), ("dotprod",))
        if isa == "neon"
        else ((), ("avxvnni",))
        if isa == "avx2"
        else ((), ("avx512vnni", "avx512vbmi"))
    ):
        target = cross_target(isa, more=more)
        graph, arrays = make_graph(SHAPES["batch"], density=1.0)
        context = empty_context("neon", graph, dict(map_pads(graph)))
        context.target, context.fills, context.layer = target, stored_fills(graph), "node"
        for name, array in arrays.items():
            context.places[name] = given(context, Memory(), name, array)
        lowerings["QConv"].lower(graph.nodes[0], context)
        inputs = [np.zeros(SHAPE, np.uint8)]
        table = of_node("QActivate", inputs, ("uint8", SHAPE), {"table": np.arange(256, dtype=np.uint8)})
        other = empty_context("neon", table)
        other.target, other.layer = target, "node"
        other.places["x0"] = given(other, Memory(), "x0", inputs[0])
        lowerings["QActivate"].lower(table.nodes[0], other)
        kernels = [step.kernel for step in (*context.steps, *other.steps)]
        assert not read_object(compile_kernels(kernels, target)).undefined
