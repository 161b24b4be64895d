"""Operators that move the elements of one tensor against numpy and ONNX Runtime; views where nothing has to move."""

from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur.engine.lowering.shape_ops  # noqa: F401  (registers lowerings)
from engine.harness import ISAS, Memory, assembly, empty_context
from engine.peers import dtypes_of_moved, filled, lowered, moved, onnx_runtime, shapes_of_moved
from secateur.engine.kernels.strided_copy import StridedCopy
from secateur.engine.kernels.transpose import Transpose
from secateur.engine.lowering.context import lowerings
from secateur.graph.ir import Graph, Node, TensorType


@pytest.mark.parametrize("isa", ISAS)
@given(shape=shapes_of_moved, dtype=dtypes_of_moved, data=st.data(), pad=st.integers(0, 2))
@settings(max_examples=80, deadline=None)
def test_transpose(isa: str, shape, dtype: str, data, pad: int) -> None:
    perm = tuple(data.draw(st.permutations(range(len(shape)))))
    x = moved(shape, dtype)
    expected = x.transpose(perm)
    (y,) = lowered("Transpose", [x], [expected.shape], {"perm": perm}, isa, pad=pad, dtypes=[dtype])
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(1, 64, 14, 14), (2, 5, 33, 20), (1, 3, 40, 50), (1, 19, 1, 31)])
@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (1, 0, 2, 3)])
def test_transposed_maps(isa: str, shape, perm) -> None:
    x = moved(shape)
    for pad in (0, 1):
        (y,) = lowered("Transpose", [x], [x.transpose(perm).shape], {"perm": perm}, isa, pad=pad)
        np.testing.assert_array_equal(y, x.transpose(perm))


@pytest.mark.parametrize("isa", ISAS)
@given(shape=shapes_of_moved, dtype=dtypes_of_moved, data=st.data(), pad=st.integers(0, 2), parts=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_split(isa: str, shape, dtype: str, data, pad: int, parts: int) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    sizes = tuple(data.draw(st.integers(1, 6)) for _ in range(parts))
    arrays = [moved((*shape[:axis], size, *shape[axis + 1 :]), dtype) for size in sizes]
    wanted, attributes = [array.shape for array in arrays], {"axis": axis, "sizes": sizes}
    found = lowered("Split", [np.concatenate(arrays, axis)], wanted, attributes, isa, pad=pad, dtypes=[dtype] * parts)
    for part, array in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(part, array)


@pytest.mark.parametrize("isa", ISAS)
@given(shape=shapes_of_moved, dtype=dtypes_of_moved, data=st.data(), pad=st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_slice(isa: str, shape, dtype: str, data, pad: int) -> None:
    axes = tuple(data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True, max_size=3)))
    starts = tuple(data.draw(st.integers(0, shape[axis] - 1)) for axis in axes)
    steps = tuple(data.draw(st.sampled_from([1, 1, 2, 3, -1, -2])) for _ in axes)
    ends = tuple(shape[axis] if step > 0 else -shape[axis] - 1 for axis, step in zip(axes, steps, strict=True))
    cut = [slice(None)] * len(shape)
    for axis, start, step in zip(axes, starts, steps, strict=True):
        cut[axis] = slice(start, None, step)
    x = moved(shape, dtype)
    expected = x[tuple(cut)]
    attributes = {"axes": axes, "starts": starts, "ends": ends, "steps": steps}
    (y,) = lowered("Slice", [x], [expected.shape], attributes, isa, pad=pad, dtypes=[dtype])
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("isa", ISAS)
@given(data=st.data(), pad=st.integers(0, 2), dtype=dtypes_of_moved)
@settings(max_examples=60, deadline=None)
def test_reshape(isa: str, data, pad: int, dtype: str) -> None:
    factors = data.draw(st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=6))

    def grouped() -> tuple[int, ...]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(factors)), max_size=4)))
        edges = [0, *cuts, len(factors)]
        return tuple(prod(factors[a:b]) for a, b in pairwise(edges))

    x, shape = moved(grouped(), dtype), grouped()
    (y,) = lowered("Reshape", [x], [shape], {"shape": shape}, isa, pad=pad, dtypes=[dtype])
    np.testing.assert_array_equal(y, x.reshape(shape))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize(("shape", "block"), [((2, 8, 5, 6), 2), ((1, 18, 4, 20), 3), ((1, 4, 1, 1), 2)])
def test_depth_to_space_and_back(isa: str, mode: str, shape, block: int) -> None:
    x = moved(shape)
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
    x = moved(shape, dtype)
    n, c = shape[:2]
    expected = x.reshape(n, groups, c // groups, -1).swapaxes(1, 2).reshape(shape)
    (y,) = lowered("ChannelShuffle", [x], [shape], {"groups": groups}, isa, pad=1, dtypes=[dtype])
    np.testing.assert_array_equal(y, expected)


def test_channels_of_planes_are_views() -> None:
    x = moved((1, 8, 6, 7))
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


@pytest.mark.parametrize("kernel", [Transpose(), StridedCopy()])
def test_neon_code_has_no_calls(kernel) -> None:
    assert "\tbl\t" not in assembly(kernel, "neon")
