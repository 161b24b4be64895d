"""Nodes on 8-bit integers, lowered by themselves, and what graph.quantized.arithmetic says that they compute.

(ours,) = lowered("QAdd", [a, b], [("uint8", a.shape)], attributes, isa)
check("QAdd", [a, b], ("uint8", a.shape), attributes, isa)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.harness import Memory, empty_context, run
from secateur.engine.layout import Planes, Quads, quads_of, stored_zero
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.families import lowerings
from secateur.engine.lowering.fills import stored_fills
from secateur.engine.program import Buffer
from secateur.graph.ir import Graph, Node, TensorType
from secateur.graph.quantized import compute

Output = tuple[str, tuple[int, ...]]


def check(
    operator: str, inputs: Sequence[np.ndarray], output: Output, attributes: Mapping[str, Any], isa: str, **how: Any
) -> None:
    """One output, bit for bit."""
    node = Node("node", operator, (), (), attributes, "secateur")
    expected = compute(node, inputs, output[0])
    (ours,) = lowered(operator, inputs, [output], attributes, isa, **how)
    assert expected.shape == ours.shape
    np.testing.assert_array_equal(ours, expected)


def lowered(
    operator: str,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[Output],
    attributes: Mapping[str, Any],
    isa: str,
    *,
    constants: Sequence[int] = (),
    pad: int = 0,
    split: int = 2,
    flat: bool = False,
) -> list[np.ndarray]:
    """What the steps of one node compute.

    constants   indices of inputs that are constants
    pad         columns of padding of all maps
    flat        no value lies in planes or quads
    """
    names, results = [f"x{i}" for i in range(len(inputs))], [f"y{i}" for i in range(len(outputs))]
    types = {name: TensorType(a.shape, str(a.dtype)) for name, a in zip(names, inputs, strict=True)}
    types |= {name: TensorType(shape, kind) for name, (kind, shape) in zip(results, outputs, strict=True)}
    node = Node("node", operator, tuple(names), tuple(results), attributes, "secateur")
    fixed = {names[i]: inputs[i] for i in constants}
    graph = Graph((node,), tuple(n for n in names if n not in fixed), tuple(results), types, fixed, 20)
    reason = lowerings[operator].refuses(node, graph)
    assert reason is None, reason
    pads = {kind.shape[2:]: pad for kind in types.values() if len(kind.shape) == 4}
    context, memory = empty_context(isa, graph, pads), Memory()
    context.fills = stored_fills(graph)
    context.flat = frozenset(types) if flat else frozenset()
    for name, array in zip(names, inputs, strict=True):
        if name not in fixed:
            context.places[name] = given(context, memory, name, array)
    context.layer = node.name
    lowerings[operator].lower(node, context)
    run(context.steps, memory, isa, split)
    return [value(memory, context.tensor(name), graph.type(name).dtype) for name in results]


def given(context: Context, memory: Memory, name: str, array: np.ndarray) -> Tensor:
    """A value in memory, where the program has it."""
    layout = context.layout_of(name)
    if isinstance(layout, Planes):
        tensor = context.temporary(layout, name)
        memory.put(tensor, array)
        return tensor
    if array.dtype == np.float32:
        tensor = Tensor(layout, Buffer(name, array.size))
        memory.array(tensor.buffer)[:] = array.reshape(-1)
        return tensor
    stored = array.view(np.uint8) ^ np.uint8(stored_zero(0, str(array.dtype)))
    tensor = context.temporary(layout, name, 1)
    if isinstance(layout, Quads):
        n, c, h, w = array.shape
        wide = np.full((n, 4 * quads_of(c), h, w), 93, np.uint8)
        wide[:, :c] = stored
        quads = np.ascontiguousarray(wide.reshape(n, -1, 4, h, w).transpose(0, 1, 3, 4, 2))
        memory.put(tensor.words, quads.view(np.float32)[..., 0])
    else:
        memory.array(tensor.buffer)[: array.size] = stored.reshape(-1)
    return tensor


def value(memory: Memory, tensor: Tensor, dtype: str) -> np.ndarray:
    """A value of a program as an array."""
    if dtype == "float32":
        return memory.get(tensor)
    layout = tensor.layout
    if isinstance(layout, Quads):
        words = memory.get(tensor.words)
        n, quads, h, w = words.shape
        wide = words.view(np.uint8).reshape(n, quads, h, w, 4).transpose(0, 1, 4, 2, 3).reshape(n, 4 * quads, h, w)
        stored = wide[:, : layout.c]
    else:
        stored = memory.array(tensor.buffer)[tensor.offset :][: layout.size].reshape(layout.shape)
    return (stored ^ np.uint8(stored_zero(0, dtype))).view(dtype)
