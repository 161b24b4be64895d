"""QPool and QGlobalPool nodes: maxima and averages of 8-bit integers.

An average over windows is a depthwise convolution with weights of one; where windows reach over the edge and padding
does not count, every position has a scale of its own. Maxima are those of bytes, which become other numbers by a table.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from secateur.engine.emit.integers import dot_lowers
from secateur.engine.kernels.quad_mean import QuadMean
from secateur.engine.kernels.requantize import NUMBERS, Requantize
from secateur.engine.layout import INTEGERS, Flat, Quads, quads, quads_of, stored_zero
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.depthwise import MOST_TAPS
from secateur.engine.lowering.moves import View, move
from secateur.engine.lowering.pooling import emit_global_pool, emit_pool
from secateur.engine.lowering.quad_depthwise import emit_quad_depthwise, ones, with_padding
from secateur.engine.lowering.quad_elementwise import emit_table, moved_table
from secateur.engine.lowering.quad_relayout import to_bytes, to_quads
from secateur.engine.lowering.refusals import elements
from secateur.engine.lowering.relayout import plane_offsets
from secateur.engine.lowering.requantized import Requantized
from secateur.graph.ir import Graph, Node
from secateur.graph.pool_padding import Pads, counted_pads
from secateur.graph.quantized.arithmetic import output_grid
from secateur.graph.quantized.grid import Grid

# Averages of which this many times the numbers' range certainly is within 32 bits.
MOST_RATIO = 2.0**22


def _refuses(node: Node, graph: Graph) -> str | None:
    kinds = {graph.type(name).dtype for name in (node.inputs[0], node.outputs[0])}
    attributes = node.attributes
    if not kinds <= set(INTEGERS) or len(graph.shape(node.inputs[0])) != 4:
        return f"it works on {', '.join(sorted(kinds))} of rank {len(graph.shape(node.inputs[0]))}"
    if attributes["x_scale"] / attributes["y_scale"] >= MOST_RATIO:
        return "its operand has a far larger scale than its result"
    taps = prod(attributes["kernel"]) if "kernel" in attributes else 1
    if attributes["kind"] == "average" and taps > MOST_TAPS:
        return f"it averages windows of {taps} numbers"
    return elements(node, graph)


@lowers("QPool", refuses=_refuses)
def pool(node: Node, context: Context) -> None:
    """Maximum or average over windows."""
    if node.attributes["kind"] == "average":
        _average(node, context)
        return
    x, y = _as_quads(context, node), context.place(node.outputs[0])
    layout = x.layout
    assert isinstance(layout, Quads)
    zero = y.layout.fill if isinstance(y.layout, Quads) else 0
    out = y if isinstance(y.layout, Quads) else context.temporary(quads(_map(y.shape), zero))
    made = out if _unchanged(node, context) else context.temporary(quads(_map(y.shape), layout.fill))
    emit_pool(context, node, x.words, made.words, "max_u8")
    if made is not out:
        emit_table(context, node, made, out, _table(node, context))
    if out is not y:
        to_bytes(context, out, y)


def _average(node: Node, context: Context) -> None:
    graph, attributes = context.graph, node.attributes
    from_, to = (graph.type(name).dtype for name in (node.inputs[0], node.outputs[0]))
    zero = stored_zero(int(attributes["x_zero"]), from_)
    x = with_padding(context, _as_quads(context, node), zero)
    y = context.place(node.outputs[0])
    n, c, h, w = x.shape
    out_h, out_w = y.shape[2:]
    kernel, strides, pads, dilations = (attributes[key] for key in ("kernel", "strides", "pads", "dilations"))
    shape = ConvShape(n, c, h, w, c, kernel, strides, pads, dilations, c, out_h, out_w)
    grid = output_grid(attributes, to)
    factors = np.float32(attributes["x_scale"]) / (grid.step * _counts(shape, counted_pads(attributes)))
    same = bool((factors == factors[0, 0]).all())
    bias = -(zero - dot_lowers(context.target)) * shape.kernel[0] * shape.kernel[1]
    ends = Requantized(
        Requantize(clamped=False),
        np.full(c, factors[0, 0], np.float32),
        np.zeros(len(NUMBERS), np.float32),
        stored_zero(grid.zero, to),
        None,
    )
    emit_quad_depthwise(
        *(context, node.name, shape, ones(shape.kernel, c), np.full(c, bias, np.int32), x, y, None, ends),
        shares=None if same else factors.astype(np.float32),
    )


@lowers("QGlobalPool", refuses=_refuses)
def global_pool(node: Node, context: Context) -> None:
    """Maximum or average of whole maps."""
    graph, attributes = context.graph, node.attributes
    from_, to = (graph.type(name).dtype for name in (node.inputs[0], node.outputs[0]))
    x, y = _as_quads(context, node), context.place(node.outputs[0])
    n, c, h, w = x.shape
    count = quads_of(c)
    # One quad per plane: the bytes of the result, where each image begins with a quad.
    fits = n == 1 or c % 4 == 0
    row = Tensor(Flat((n, count, 1, 1)), y.buffer, y.offset) if fits else context.temporary(Flat((n, count, 1, 1)))
    if attributes["kind"] == "max":
        emit_global_pool(context, node.name, x.words, row, "max_u8")
        if not _unchanged(node, context):
            bytes_ = Tensor(Flat((4 * n * count,)), row.buffer, row.offset)
            emit_table(context, node, bytes_, bytes_, _table(node, context))
    else:
        zero = stored_zero(int(attributes["x_zero"]), from_)
        x = with_padding(context, x, zero)
        grid = output_grid(attributes, to)
        sources, pitch = plane_offsets(x.words)
        length = (h - 1) * pitch + w
        arguments = {
            "x": x.address,
            "y": row.address,
            "sources": sources,
            "length": length,
            "below": zero * length,
            "scale": float(np.float32(attributes["x_scale"]) / (grid.step * np.float32(h * w))),
            "zero": stored_zero(grid.zero, to),
        }
        context.emit(node.name, QuadMean(), arguments, n * count, reads=(x,), writes=(row,))
    if not fits:
        move(context, View(row, (4 * count, 1)), View(y, (c, 1)), (n, c), 1)


def _as_quads(context: Context, node: Node) -> Tensor:
    """The operand in quads, which a map of one pixel is not."""
    x = context.tensor(node.inputs[0])
    if isinstance(x.layout, Quads):
        return x
    dtype = context.graph.type(node.inputs[0]).dtype
    return to_quads(context, x, quads(_map(x.shape), stored_zero(int(node.attributes["x_zero"]), dtype)))


def _map(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    n, c, h, w = shape
    return n, c, h, w


def _unchanged(node: Node, context: Context) -> bool:
    """Whether results of a maximum are numbers as its operands are."""
    attributes = node.attributes
    from_, to = (context.graph.type(name).dtype for name in (node.inputs[0], node.outputs[0]))
    same = np.float32(attributes["x_scale"]) == np.float32(attributes["y_scale"])
    return bool(same) and attributes["x_zero"] == attributes["y_zero"] and from_ == to


def _table(node: Node, context: Context) -> NDArray[np.uint8]:
    """The numbers of the result for those of the operand, as stored."""
    attributes = node.attributes
    from_, to = (context.graph.type(name).dtype for name in (node.inputs[0], node.outputs[0]))
    given = Grid(float(attributes["x_scale"]), int(attributes["x_zero"]), from_)
    return moved_table(given, output_grid(attributes, to))


def _counts(shape: ConvShape, counted: Pads) -> NDArray[np.float32]:
    """(height, width) numbers that each window averages; the padding in `counted` is among them."""
    sides: list[NDArray[np.float32]] = []
    for axis, (size, out) in enumerate(((shape.h, shape.out_h), (shape.w, shape.out_w))):
        starts = np.arange(out)[:, None] * shape.strides[axis] - shape.pads[axis]
        at = starts + np.arange(shape.kernel[axis]) * shape.dilations[axis]
        inside = (at >= -counted[axis]) & (at < size + counted[axis + 2])
        sides.append(inside.sum(1).astype(np.float32))
    return sides[0][:, None] * sides[1]
