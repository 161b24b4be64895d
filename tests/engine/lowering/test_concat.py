"""Concatenations against numpy; parts that are computed where they lie in the result."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur.engine.lowering.elementwise  # noqa: F401  (registers lowerings)
from engine.harness import ISAS, Memory, empty_context, run
from engine.peers import dtypes_of_moved, filled, lowered, moved, shapes_of_moved
from secateur.engine.lowering.concat import concat_views
from secateur.engine.lowering.context import Context, lowerings
from secateur.graph.ir import Activation, Graph, Node, TensorType


@pytest.mark.parametrize("isa", ISAS)
@given(shape=shapes_of_moved, dtype=dtypes_of_moved, data=st.data(), pad=st.integers(0, 2), parts=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_concat(isa: str, shape, dtype: str, data, pad: int, parts: int) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    sizes = tuple(data.draw(st.integers(1, 6)) for _ in range(parts))
    arrays = [moved((*shape[:axis], size, *shape[axis + 1 :]), dtype) for size in sizes]
    whole = np.concatenate(arrays, axis)
    constants = [0] if data.draw(st.booleans()) else []
    (y,) = lowered("Concat", arrays, [whole.shape], {"axis": axis}, isa, pad=pad, dtypes=[dtype], constants=constants)
    np.testing.assert_array_equal(y, whole)


def relu(name: str, source: str) -> Node:
    return Node(name, "Activate", (source,), (name,), {"activation": Activation("relu")}, "secateur")


def concat(name: str, *parts: str) -> Node:
    return Node(name, "Concat", parts, (name,), {"axis": 1}, "secateur")


def whole_graph(nodes: list[Node], channels: dict[str, int], outputs: tuple[str, ...], batch: int) -> Graph:
    types = {name: TensorType((batch, c, 6, 7), "float32") for name, c in channels.items()}
    return Graph(tuple(nodes), ("x",), outputs, types, {}, 20)


def run_graph(graph: Graph, isa: str, x: np.ndarray) -> tuple[dict[str, np.ndarray], Context]:
    context, memory = empty_context(isa, graph, {(6, 7): 1}), Memory()
    context.views.update(concat_views(graph, context))
    context.places["x"] = filled(context, memory, "x", x)
    for node in graph.nodes:
        context.layer = node.name
        lowerings[node.op].lower(node, context)
    run(context.steps, memory, isa, 2)
    return {name: memory.get(context.places[name]) for name in graph.outputs}, context


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [1, 3])
def test_parts_of_a_concat_are_computed_in_place(isa: str, batch: int) -> None:
    nodes = [relu("a", "x"), relu("b", "x"), concat("y", "a", "b")]
    graph = whole_graph(nodes, {"x": 3, "a": 3, "b": 3, "y": 6}, ("y",), batch)
    x = moved((batch, 3, 6, 7))
    results, context = run_graph(graph, isa, x)
    assert [step.layer for step in context.steps] == ["a", "b"]
    np.testing.assert_array_equal(results["y"], np.maximum(np.concatenate([x, x], 1), 0))


@pytest.mark.parametrize("isa", ISAS)
def test_nested_concats_and_inputs_that_have_to_be_copied(isa: str) -> None:
    nodes = [relu("a", "x"), concat("b", "x", "a"), relu("c", "b"), concat("d", "b", "c", "b")]
    graph = whole_graph(nodes, {"x": 3, "a": 3, "b": 6, "c": 6, "d": 18}, ("d", "b"), 2)
    x = moved((2, 3, 6, 7))
    results, _ = run_graph(graph, isa, x)
    b = np.concatenate([x, np.maximum(x, 0)], 1)
    np.testing.assert_array_equal(results["b"], b)
    np.testing.assert_array_equal(results["d"], np.concatenate([b, np.maximum(b, 0), b], 1))


@pytest.mark.parametrize("isa", ISAS)
def test_growing_concats_share_one_buffer(isa: str) -> None:
    """DenseNet: every layer reads the concatenation of all before it."""
    nodes = [relu("a", "x"), relu("b", "a"), concat("ab", "a", "b"), relu("c", "ab"), concat("abc", "a", "b", "c")]
    graph = whole_graph(nodes, {"x": 3, "a": 3, "b": 3, "ab": 6, "c": 6, "abc": 12}, ("abc", "ab"), 2)
    x = moved((2, 3, 6, 7))
    results, context = run_graph(graph, isa, x)
    assert len({context.places[name].buffer for name in ("a", "b", "ab", "c", "abc")}) == 1
    assert [step.layer for step in context.steps] == ["a", "b", "c"]
    y = np.maximum(x, 0)
    np.testing.assert_array_equal(results["abc"], np.concatenate([y] * 4, 1))


def test_bytes_are_refused() -> None:
    node = Node("y", "Concat", ("a", "b"), ("y",), {"axis": 0}, "secateur")
    types = {name: TensorType((4,), "bool") for name in ("a", "b", "y")}
    reason = lowerings["Concat"].refuses(node, Graph((node,), ("a", "b"), ("y",), types, {}, 20))
    assert reason is not None
    assert "bool" in reason
