"""When a result may be written over an operand."""

import numpy as np

from engine.harness import ISAS, empty_context
from secateur.engine.layout import Flat
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.in_place import place_over
from secateur.engine.program import Buffer
from secateur.graph.ir import Graph, Node, TensorType

X, SMALL = (1, 4, 6, 6), (1, 1, 6, 6)


def node(name: str, *inputs: str) -> Node:
    return Node(name, "Add", inputs, (name,), {}, "secateur")


def context_of(
    nodes: list[Node], outputs: tuple[str, ...], shapes: dict[str, tuple[int, ...]] | None = None
) -> Context:
    names = {"x"} | {name for n in nodes for name in (*n.inputs, *n.outputs)}
    types = {name: TensorType((shapes or {}).get(name, X), "float32") for name in names}
    graph = Graph(tuple(nodes), ("x",), outputs, types, {}, 20)
    context = empty_context(ISAS[0], graph)
    context.place("x")
    return context


def test_over_a_value_that_nobody_reads_later() -> None:
    nodes = [node("y", "x", "x")]
    context = context_of(nodes, ("y",))
    assert place_over(context, nodes[0], ("x",)) is context.places["x"]
    assert context.places["y"] is context.places["x"]


def test_a_later_reader_keeps_the_value() -> None:
    nodes = [node("y", "x", "x"), node("z", "x", "y")]
    context = context_of(nodes, ("z",))
    assert place_over(context, nodes[0], ("x",)).buffer != context.places["x"].buffer
    assert place_over(context, nodes[1], ("x", "y")) is context.places["x"]


def test_an_output_of_the_graph_keeps_its_value() -> None:
    nodes = [node("y", "x", "x")]
    context = context_of(nodes, ("y", "x"))
    assert place_over(context, nodes[0], ("x",)).buffer != context.places["x"].buffer


def test_a_view_that_is_read_later_keeps_the_value() -> None:
    nodes = [node("y", "x", "x"), node("z", "view", "y")]
    context = context_of(nodes, ("z",))
    context.places["view"] = context.places["x"]
    assert place_over(context, nodes[0], ("x",)).buffer != context.places["x"].buffer


def test_a_slice_that_lies_elsewhere_in_the_buffer_does_not() -> None:
    nodes = [node("low", "a", "a"), node("z", "b", "low")]
    context = context_of(nodes, ("z",))
    layout = context.places["x"].planes
    whole = Buffer("whole", 2 * layout.size)
    context.places["a"], context.places["b"] = Tensor(layout, whole), Tensor(layout, whole, layout.size)
    assert place_over(context, nodes[0], ("a",)) is context.places["a"]


def test_another_operand_that_overlaps_but_lies_differently_keeps_the_value() -> None:
    nodes = [node("y", "x", "slice")]
    context = context_of(nodes, ("y",), {"slice": SMALL})
    x = context.places["x"]
    context.places["slice"] = Tensor(x.planes.channels(1), x.buffer, x.planes.plane_stride)
    assert place_over(context, nodes[0], ("x",)).buffer != x.buffer


def test_arrays_of_the_caller_are_never_written() -> None:
    nodes = [node("y", "x", "x")]
    context = context_of(nodes, ("y",), {"x": (3,), "y": (3,)})
    context.places["x"] = Tensor(Flat((3,)), Buffer("x", 3, external="x"))
    assert place_over(context, nodes[0], ("x",)).buffer != context.places["x"].buffer


def test_constants_are_never_written() -> None:
    nodes = [node("y", "x", "x")]
    context = context_of(nodes, ("y",), {"x": (3,), "y": (3,)})
    context.places["x"] = Tensor(Flat((3,)), constant=np.zeros(3, np.float32))
    assert place_over(context, nodes[0], ("x",)).buffer is not None
