"""What ONNX Runtime computes for single operators, and nodes of the normal form lowered by themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import strategies as st
from onnx import helper

from engine.harness import Memory, empty_context, run
from secateur.engine.layout import Planes
from secateur.engine.lowering.context import Context, Tensor, lowerings
from secateur.engine.program import Buffer
from secateur.graph.ir import Graph, Node, TensorType

RANDOM = np.random.default_rng(13)
# What operators that only move elements are tried with.
dtypes_of_moved = st.sampled_from(["float32", "int64", "int32"])
shapes_of_moved = st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple)


def moved(shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
    """Random elements for operators that move them."""
    values = RANDOM.standard_normal(tuple(shape)) * 1000
    return values.astype(dtype)


def onnx_runtime(
    operator: str,
    inputs: Sequence[np.ndarray | None],
    attributes: Mapping[str, Any] | None = None,
    outputs: int = 1,
    opset: int = 20,
) -> list[np.ndarray]:
    """The outputs of one ONNX operator."""
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(inputs)]
    node = helper.make_node(operator, names, [f"y{i}" for i in range(outputs)], **(attributes or {}))
    given = {name: array for name, array in zip(names, inputs, strict=True) if array is not None}
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    results = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    graph = helper.make_graph([node], "g", values, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, given)


def lowered(
    operator: str,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[tuple[int, ...]],
    attributes: Mapping[str, Any],
    isa: str,
    *,
    constants: Sequence[int] = (),
    pad: int = 0,
    split: int = 2,
    dtypes: Sequence[str] | None = None,
) -> list[np.ndarray]:
    """What the steps of one node of the normal form compute.

    outputs    shapes
    constants  indices of inputs that are constants of the graph
    pad        zero columns per row of all maps
    split      ranges that units are split into
    dtypes     of the outputs; float32 when not given
    """
    names, results = [f"x{i}" for i in range(len(inputs))], [f"y{i}" for i in range(len(outputs))]
    types = {name: TensorType(a.shape, str(a.dtype)) for name, a in zip(names, inputs, strict=True)}
    types |= {
        name: TensorType(shape, dtype)
        for name, shape, dtype in zip(results, outputs, dtypes or ["float32"] * len(outputs), strict=True)
    }
    node = Node("node", operator, tuple(names), tuple(results), attributes, "secateur")
    fixed = {names[i]: inputs[i] for i in constants}
    variable = tuple(name for name in names if name not in fixed)
    graph = Graph((node,), variable, tuple(results), types, fixed, 20)
    reason = lowerings[operator].refuses(node, graph)
    assert reason is None, reason
    given = {name: array for name, array in zip(names, inputs, strict=True) if name in variable}
    in_planes = _run(graph, given, isa, pad, split, frozenset())
    if any(len(kind.shape) == 4 for kind in types.values()):
        dense = _run(graph, given, isa, pad, split, frozenset(types))
        for one, other in zip(in_planes, dense, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg="planes and dense differ")
    return in_planes


def _run(
    graph: Graph, given: Mapping[str, np.ndarray], isa: str, pad: int, split: int, flat: frozenset[str]
) -> list[np.ndarray]:
    pads = {kind.shape[2:]: pad for kind in graph.types.values() if len(kind.shape) == 4}
    context, memory = empty_context(isa, graph, pads), Memory()
    context.flat = flat
    for name, array in given.items():
        context.places[name] = filled(context, memory, name, array)
    (node,) = graph.nodes
    context.layer = node.name
    lowerings[node.op].lower(node, context)
    run(context.steps, memory, isa, split)
    return [value(memory, context.tensor(name), graph.type(name).dtype) for name in graph.outputs]


def filled(context: Context, memory: Memory, name: str, array: np.ndarray) -> Tensor:
    """An input in memory; between guards of NaN, which a dense input has directly behind its last element."""
    layout = context.layout_of(name)
    tensor = context.temporary(layout, name, array.itemsize)
    if not isinstance(layout, Planes):
        buffer = Buffer(name, layout.size, item=array.itemsize)
        tensor = Tensor(layout, buffer)
        memory.array(buffer).view(np.uint8)[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    else:
        memory.put(tensor, array)
    return tensor


def value(memory: Memory, tensor: Tensor, dtype: str) -> np.ndarray:
    """A tensor of any type as an array."""
    if tensor.constant is not None:
        return tensor.constant
    if dtype == "float32":
        return memory.get(tensor)
    assert tensor.buffer is not None
    items = memory.array(tensor.buffer)[tensor.offset : tensor.offset + tensor.layout.size]
    return items.view(dtype).reshape(tensor.shape)
