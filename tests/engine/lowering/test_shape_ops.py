"""Operators that move elements against numpy and ONNX Runtime; views where nothing has to move."""

from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur.engine.lowering.elementwise
import secateur.engine.lowering.shape_ops  # noqa: F401  (both register lowerings)
from engine.harness import ISAS, Memory, assembly, empty_context, run
from engine.peers import filled, lowered, onnx_runtime
from secateur.engine.kernels.strided_copy import StridedCopy
from secateur.engine.kernels.transpose import Transpose
from secateur.engine.lowering.context import Context, lowerings
from secateur.engine.lowering.shape_ops import concat_views
from secateur.graph.ir import Activation, Graph, Node, TensorType

RANDOM = np.random.default_rng(13)
DTYPES = st.sampled_from(["float32", "int64", "int32"])


def random(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    values = RANDOM.standard_normal(shape) * 1000
    return values.astype(dtype)


shapes = st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple)


@pytest.mark.parametrize("isa", ISAS)
@given(shape=shapes, dtype=DTYPES, data=st.data(), pad=st.integers(0, 2))
@settings(max_examples=80, deadline=None)
def test_transpose(isa: str, shape, dtype: str, data, pad: int) -> None:
    perm = tuple(data.draw(st.permutations(range(len(shape)))))
    x = random(shape, dtype)
    expected = x.transpose(perm)
    (y,) = lowered("Transpose", [x], [expected.shape], {"perm": perm}, isa, pad=pad, dtypes=[dtype])
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(1, 64, 14, 14), (2, 5, 33, 20), (1, 3, 40, 50), (1, 19, 1, 31)])
@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (1, 0, 2, 3)])
def test_transposed_maps(isa: str, shape, perm) -> None:
    x = random(shape)
    for pad in (0, 1):
        (y,) = lowered("Transpose", [x], [x.transpose(perm).shape], {"perm": perm}, isa, pad=pad)
        np.testing.assert_array_equal(y, x.transpose(perm))


@pytest.mark.parametrize("isa", ISAS)
@given(shape=shapes, dtype=DTYPES, data=st.data(), pad=st.integers(0, 2), parts=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_concat_and_split(isa: str, shape, dtype: str, data, pad: int, parts: int) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    sizes = tuple(data.draw(st.integers(1, 6)) for _ in range(parts))
    arrays = [random((*shape[:axis], size, *shape[axis + 1 :]), dtype) for size in sizes]
    whole = np.concatenate(arrays, axis)
    constants = [0] if data.draw(st.booleans()) else []
    (y,) = lowered("Concat", arrays, [whole.shape], {"axis": axis}, isa, pad=pad, dtypes=[dtype], constants=constants)
    np.testing.assert_array_equal(y, whole)
    wanted, attributes = [array.shape for array in arrays], {"axis": axis, "sizes": sizes}
    for part, array in zip(
        lowered("Split", [whole], wanted, attributes, isa, pad=pad, dtypes=[dtype] * parts), arrays, strict=True
    ):
        np.testing.assert_array_equal(part, array)


@pytest.mark.parametrize("isa", ISAS)
@given(shape=shapes, dtype=DTYPES, data=st.data(), pad=st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_slice(isa: str, shape, dtype: str, data, pad: int) -> None:
    axes = tuple(data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True, max_size=3)))
    starts = tuple(data.draw(st.integers(0, shape[axis] - 1)) for axis in axes)
    steps = tuple(data.draw(st.sampled_from([1, 1, 2, 3, -1, -2])) for _ in axes)
    ends = tuple(shape[axis] if step > 0 else -shape[axis] - 1 for axis, step in zip(axes, steps, strict=True))
    cut = [slice(None)] * len(shape)
    for axis, start, step in zip(axes, starts, steps, strict=True):
        cut[axis] = slice(start, None, step)
    x = random(shape, dtype)
    expected = x[tuple(cut)]
    attributes = {"axes": axes, "starts": starts, "ends": ends, "steps": steps}
    (y,) = lowered("Slice", [x], [expected.shape], attributes, isa, pad=pad, dtypes=[dtype])
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("isa", ISAS)
@given(data=st.data(), pad=st.integers(0, 2), dtype=DTYPES)
@settings(max_examples=60, deadline=None)
def test_reshape(isa: str, data, pad: int, dtype: str) -> None:
    factors = data.draw(st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=6))

    def grouped() -> tuple[int, ...]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(factors)), max_size=4)))
        edges = [0, *cuts, len(factors)]
        return tuple(prod(factors[a:b]) for a, b in pairwise(edges))

    x, shape = random(grouped(), dtype), grouped()
    (y,) = lowered("Reshape", [x], [shape], {"shape": shape}, isa, pad=pad, dtypes=[dtype])
    np.testing.assert_array_equal(y, x.reshape(shape))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize(("shape", "block"), [((2, 8, 5, 6), 2), ((1, 18, 4, 20), 3), ((1, 4, 1, 1), 2)])
def test_depth_to_space_and_back(isa: str, mode: str, shape, block: int) -> None:
    x = random(shape)
    attributes = {"blocksize": block, "mode": mode}
    (peer,) = onnx_runtime("DepthToSpace", [x], attributes)
    (back,) = onnx_runtime("SpaceToDepth", [peer], {"blocksize": block})
    for pad in (0, 1):
        np.testing.assert_array_equal(lowered("DepthToSpace", [x], [peer.shape], attributes, isa, pad=pad)[0], peer)
        ours = lowered("SpaceToDepth", [peer], [back.shape], {"blocksize": block}, isa, pad=pad)[0]
        np.testing.assert_array_equal(ours, back)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(2, 12, 7, 9), (1, 6, 1, 1), (2, 8, 5), (1, 4)])
@pytest.mark.parametrize("groups", [2, 1])
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_channel_shuffle(isa: str, shape, groups: int, dtype: str) -> None:
    x = random(shape, dtype)
    n, c = shape[:2]
    expected = x.reshape(n, groups, c // groups, -1).swapaxes(1, 2).reshape(shape)
    (y,) = lowered("ChannelShuffle", [x], [shape], {"groups": groups}, isa, pad=1, dtypes=[dtype])
    np.testing.assert_array_equal(y, expected)


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
    x = random((batch, 3, 6, 7))
    results, context = run_graph(graph, isa, x)
    assert [step.layer for step in context.steps] == ["a", "b"]
    np.testing.assert_array_equal(results["y"], np.maximum(np.concatenate([x, x], 1), 0))


@pytest.mark.parametrize("isa", ISAS)
def test_nested_concats_and_inputs_that_have_to_be_copied(isa: str) -> None:
    nodes = [relu("a", "x"), concat("b", "x", "a"), relu("c", "b"), concat("d", "b", "c", "b")]
    graph = whole_graph(nodes, {"x": 3, "a": 3, "b": 6, "c": 6, "d": 18}, ("d", "b"), 2)
    x = random((2, 3, 6, 7))
    results, _ = run_graph(graph, isa, x)
    b = np.concatenate([x, np.maximum(x, 0)], 1)
    np.testing.assert_array_equal(results["b"], b)
    np.testing.assert_array_equal(results["d"], np.concatenate([b, np.maximum(b, 0), b], 1))


@pytest.mark.parametrize("isa", ISAS)
def test_growing_concats_share_one_buffer(isa: str) -> None:
    """DenseNet: every layer reads the concatenation of all before it."""
    nodes = [relu("a", "x"), relu("b", "a"), concat("ab", "a", "b"), relu("c", "ab"), concat("abc", "a", "b", "c")]
    graph = whole_graph(nodes, {"x": 3, "a": 3, "b": 3, "ab": 6, "c": 6, "abc": 12}, ("abc", "ab"), 2)
    x = random((2, 3, 6, 7))
    results, context = run_graph(graph, isa, x)
    assert len({context.places[name].buffer for name in ("a", "b", "ab", "c", "abc")}) == 1
    assert [step.layer for step in context.steps] == ["a", "b", "c"]
    y = np.maximum(x, 0)
    np.testing.assert_array_equal(results["abc"], np.concatenate([y] * 4, 1))


def test_channels_of_planes_are_views() -> None:
    x = random((1, 8, 6, 7))
    for operator, attributes in (
        ("Slice", {"axes": (1,), "starts": (2,), "ends": (6,), "steps": (1,)}),
        ("Identity", {}),
        ("Reshape", {"shape": (2, 4, 6, 7)}),
    ):
        shape = {"Slice": (1, 4, 6, 7), "Identity": (1, 8, 6, 7), "Reshape": (2, 4, 6, 7)}[operator]
        node = Node("y", operator, ("x",), ("y",), attributes, "secateur")
        types = {"x": TensorType(x.shape, "float32"), "y": TensorType(shape, "float32")}
        graph = Graph((node,), ("x",), ("y",), types, {}, 20)
        context = empty_context(ISAS[0], graph, {(6, 7): 1})
        context.places["x"] = filled(context, Memory(), "x", x)
        lowerings[operator].lower(node, context)
        assert not context.steps
        assert context.places["y"].buffer == context.places["x"].buffer


def test_bytes_are_refused() -> None:
    node = Node("y", "Concat", ("a", "b"), ("y",), {"axis": 0}, "secateur")
    types = {name: TensorType((4,), "bool") for name in ("a", "b", "y")}
    reason = lowerings["Concat"].refuses(node, Graph((node,), ("a", "b"), ("y",), types, {}, 20))
    assert reason is not None
    assert "bool" in reason


@pytest.mark.parametrize("kernel", [Transpose(), StridedCopy()])
def test_neon_code_has_no_calls(kernel) -> None:
    assert "\tbl\t" not in assembly(kernel, "neon")
