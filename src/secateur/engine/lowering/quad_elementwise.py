"""QAdd, QMul, QActivate: operators on single 8-bit integers.

Rows are walked over as those of floats are (lowering.elementwise), with quads as elements: whole tensors where the
result of what stands for 0 stands for 0, planes with masks otherwise. Dense arrays end with a whole quad.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secateur.engine.emit.activations import supported
from secateur.engine.kernels.quad_elementwise import QuadElementwise
from secateur.engine.layout import INTEGERS, Quads, fill_word, stored_zero
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.elementwise import walk_over
from secateur.engine.lowering.in_place import place_over
from secateur.engine.lowering.masks import mask_table
from secateur.engine.lowering.parts import parts_of
from secateur.engine.lowering.quad_relayout import as_rows, per_channel, to_bytes, to_quads
from secateur.engine.lowering.refusals import elements
from secateur.engine.program import Argument
from secateur.graph.ir import Activation, Graph, Node
from secateur.graph.quantized.arithmetic import compute, factor, moved
from secateur.graph.quantized.grid import Grid, bounds, is_linear

# Sums of two products with less than this are within 32 bits.
MOST_FACTOR = 2.0**22


def _refuses(node: Node, graph: Graph) -> str | None:
    kinds = {graph.type(name).dtype for name in (*node.inputs, *node.outputs)}
    if not kinds <= set(INTEGERS):
        return f"it works on {', '.join(sorted(kinds - set(INTEGERS)))}"
    if any(name in graph.constants for name in node.inputs):
        return "an operand is constant"
    if not supported(node.attributes.get("activation")):
        return f"the activation {node.attributes['activation']} has no kernel"
    return elements(node, graph)


def _refuses_two(node: Node, graph: Graph) -> str | None:
    reason = _refuses(node, graph)
    if reason is not None:
        return reason
    out = graph.shape(node.outputs[0])
    for name in node.inputs:
        shape = graph.shape(name)
        if shape != out and (len(out) != 4 or shape not in ((*out[:2], 1, 1), (1, out[1], 1, 1))):
            return f"an operand {shape} is broadcast to {out} otherwise than a number per channel"
    if max(_factors(node)) >= MOST_FACTOR:
        return "its operands have far larger scales than its result"
    return None


@lowers("QActivate", refuses=_refuses)
def activate(node: Node, context: Context) -> None:
    """A table with an entry for every byte."""
    from_, to = (context.graph.type(name).dtype for name in (node.inputs[0], node.outputs[0]))
    entries = _as_stored(node.attributes["table"], from_, to)
    x, y = context.tensor(node.inputs[0]), _place(context, node, node.inputs)
    emit_table(context, node, x, y, entries)


@lowers("QAdd", "QMul", refuses=_refuses_two)
def arithmetic(node: Node, context: Context) -> None:
    """Sums and products of two values, or of a value and a number per channel."""
    graph, attributes = context.graph, node.attributes
    activation: Activation | None = attributes.get("activation")
    dtype = graph.type(node.outputs[0]).dtype
    grid = Grid(float(attributes["y_scale"]), int(attributes["y_zero"]), dtype)
    linear = is_linear(activation)
    low, high = bounds(activation if linear else None, grid)
    zeros = [
        stored_zero(int(attributes[f"{key}_zero"]), graph.type(name).dtype)
        for key, name in zip("ab", node.inputs, strict=True)
    ]
    names = ("a_factor", "b_factor") if node.op == "QAdd" else ("factor",)
    numbers: dict[str, Argument] = dict(zip(names, _factors(node), strict=True))
    numbers |= {
        "a_zero": zeros[0],
        "b_zero": zeros[1],
        "unit": float(np.float32(1) / grid.step),
        "zero": stored_zero(grid.zero, dtype),
        "low": stored_zero(low, dtype),
        "high": stored_zero(high, dtype),
    }
    kernel = QuadElementwise(
        "add" if node.op == "QAdd" else "mul",
        (),
        None if linear else activation,
        clamped=(low, high) != (grid.lowest, grid.highest),
    )
    operands = [context.tensor(name) for name in node.inputs]
    _emit(context, node, kernel, operands, _place(context, node, node.inputs), numbers, _keeps_fill(context, node))


def equal_numbers(node: Node, index: int, graph: Graph) -> bool:
    """Whether an operand of a QConcat has the numbers of its result."""
    attributes = node.attributes
    given = np.float32(attributes["scales"][index]), attributes["zeros"][index], graph.type(node.inputs[index]).dtype
    return given == (np.float32(attributes["y_scale"]), attributes["y_zero"], graph.type(node.outputs[0]).dtype)


def emit_table(context: Context, node: Node, x: Tensor, y: Tensor, entries: NDArray[np.uint8]) -> None:
    """The step that replaces every byte by a table's entry, both as they are stored.

    x, y    quads, or dense bytes that end with a whole quad
    """
    fills = [t.layout.fill for t in (x, y) if isinstance(t.layout, Quads)]
    keeps_fill = len(fills) == 2 and int(entries[fills[0]]) == fills[1]
    _emit(context, node, QuadElementwise("table", ()), [x], y, {"table": entries}, keeps_fill)


def moved_table(given: Grid, wanted: Grid) -> NDArray[np.uint8]:
    """For every byte as it is stored, the nearest number of another grid."""
    numbers = np.arange(256, dtype=np.uint8).view(given.dtype)
    return _as_stored(moved(numbers, given.scale, given.zero, wanted), given.dtype, wanted.dtype)


def _as_stored(entries: NDArray[np.generic], from_: str, to: str) -> NDArray[np.uint8]:
    """A table over bytes of numbers as one over bytes as they are stored."""
    places = np.arange(256) ^ stored_zero(0, from_)
    return np.ascontiguousarray(entries).view(np.uint8)[places] ^ np.uint8(stored_zero(0, to))


def _place(context: Context, node: Node, operands: Sequence[str]) -> Tensor:
    """Where the result goes: over an operand that nobody needs any more, if it can."""
    shape = context.graph.shape(node.outputs[0])
    # A dense array may be a part of another one, and its last quad have bytes of that.
    quads = isinstance(context.layout_of(node.outputs[0]), Quads)
    return place_over(context, node, tuple(name for name in operands if quads and context.graph.shape(name) == shape))


def _factors(node: Node) -> tuple[float, ...]:
    """What differences from zero points, or products of them, are multiplied by."""
    attributes = node.attributes
    a, b = np.float32(attributes["a_scale"]), np.float32(attributes["b_scale"])
    linear = is_linear(attributes.get("activation"))
    if node.op == "QMul":
        return (float(factor(a * b, attributes["y_scale"]) if linear else a * b),)
    unit = attributes["y_scale"]
    return tuple(float(factor(scale, unit) if linear else scale) for scale in (a, b))


def _keeps_fill(context: Context, node: Node) -> bool:
    """Whether padding of the operands becomes that of the result, so that whole tensors may be computed at once."""
    graph = context.graph
    layouts = [context.layout_of(name) for name in (*node.inputs, *node.outputs)]
    if not all(isinstance(layout, Quads) for layout in layouts):
        return False
    fills = [np.array([layout.fill], np.uint8) for layout in layouts if isinstance(layout, Quads)]
    kinds = [graph.type(name).dtype for name in (*node.inputs, *node.outputs)]
    given = [
        (fill ^ np.uint8(0x80 if kind == "int8" else 0)).view(kind) for fill, kind in zip(fills, kinds, strict=True)
    ]
    return bool((compute(node, given[:-1], kinds[-1]) == given[-1]).all())


def _emit(
    context: Context,
    node: Node,
    kernel: QuadElementwise,
    operands: Sequence[Tensor],
    y: Tensor,
    numbers: dict[str, Argument],
    keeps_fill: bool,
) -> None:
    """The step of a node; the kernel gets its kinds of operands, and its masks."""
    tensors = [_operand(context, tensor, y) for tensor in operands]
    target = y.words if isinstance(y.layout, Quads) else as_rows(y)
    walk = walk_over([target, *tensors], keeps_fill)
    kernel = replace(kernel, operands=walk.kinds[1:], masked=walk.masked)
    part, parts = parts_of(context, walk.starts.shape[1], walk.length)
    arguments: dict[str, Argument] = {
        "y": target.address,
        "targets": walk.starts[0],
        "length": walk.length,
        "parts": parts,
        "part": part,
        "masks": mask_table(target.planes, context.target.lanes) if walk.masked else 0,
        "fill": fill_word(y.layout.fill) if isinstance(y.layout, Quads) else 0,
    }
    for i, tensor in enumerate(tensors):
        arguments |= {f"x{i}": tensor.address, f"offsets{i}": walk.starts[i + 1]}
    units = walk.starts.shape[1] * parts
    context.emit(node.name, kernel, arguments | numbers, units, reads=tuple(tensors), writes=(target,))


def _operand(context: Context, tensor: Tensor, y: Tensor) -> Tensor:
    """An operand as quads: planes of the output's geometry, a quad per channels of an image, or a dense row."""
    if not isinstance(y.layout, Quads):
        return as_rows(to_bytes(context, tensor))
    if isinstance(tensor.layout, Quads):
        return tensor.words
    if tensor.shape[2:] == y.shape[2:]:
        return to_quads(context, tensor, y.layout).words
    return per_channel(context, tensor)
