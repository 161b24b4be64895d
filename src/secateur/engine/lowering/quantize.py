"""Quantize and Dequantize nodes: floats to 8-bit integers and back.

Maps go from planes to quads and from quads to planes, other values stay dense.
"""

import numpy as np

from secateur.engine.kernels.quad_rows import MISSING
from secateur.engine.kernels.quantize import (
    DequantizeDense,
    DequantizePlanes,
    QuantizeDense,
    QuantizePlanes,
)
from secateur.engine.layout import INTEGERS, Flat, Planes, Quads, stored_zero
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.parts import parts_of, parts_of_rows
from secateur.engine.lowering.quad_tables import by_quads
from secateur.engine.lowering.refusals import elements
from secateur.engine.lowering.relayout import (
    plane_offsets,
    to_flat,
    to_planes,
)
from secateur.engine.program import Argument
from secateur.graph.ir import Graph, Node


def _refuses(node: Node, graph: Graph) -> str | None:
    if node.domain != "secateur":
        return "its numbers are computed while the network runs, or differ from channel to channel"
    kinds = {graph.type(name).dtype for name in (node.inputs[0], node.outputs[0])}
    if "float32" not in kinds or not kinds & set(INTEGERS):
        return f"it converts {' to '.join(sorted(kinds))}"
    return elements(node, graph)


@lowers("Quantize", refuses=_refuses)
def quantize(node: Node, context: Context) -> None:
    """Integers nearest to the floats, in units of the scale."""
    dtype = context.graph.type(node.outputs[0]).dtype
    scale, zero = float(node.attributes["scale"]), int(node.attributes["zero"])
    x, y = context.tensor(node.inputs[0]), context.place(node.outputs[0])
    limits = np.iinfo(dtype)
    numbers: dict[str, Argument] = {
        "scale": scale,
        "zero": stored_zero(zero, dtype),
        "low": float(int(limits.min) - zero),
        "high": float(int(limits.max) - zero),
    }
    if not isinstance(y.layout, Quads):
        _dense(context, QuantizeDense(), to_flat(context, x), y, numbers)
        return
    words = y.words
    (sources, source_row), (targets, target_row) = plane_offsets(x), plane_offsets(words)
    # Padding of floats is zero, which becomes the zero point: rows that lie the same way are one long row.
    whole = isinstance(x.layout, Planes) and source_row == target_row
    tables: dict[str, Argument] = {
        "x": x.address,
        "y": y.address,
        "sources": by_quads(sources, y.shape[0]),
        "targets": targets,
    }
    _emit(context, QuantizePlanes(), tables | numbers, x, y, (source_row, target_row), whole)


@lowers("Dequantize", refuses=_refuses)
def dequantize(node: Node, context: Context) -> None:
    """The floats that integers stand for."""
    dtype = context.graph.type(node.inputs[0]).dtype
    x, y = context.tensor(node.inputs[0]), context.place(node.outputs[0])
    emit_dequantize(context, x, y, float(node.attributes["scale"]), stored_zero(int(node.attributes["zero"]), dtype))


def emit_dequantize(context: Context, x: Tensor, y: Tensor, scale: float, zero: int) -> None:
    """The step for 8-bit integers x as floats y; `zero` as it is stored."""
    numbers: dict[str, Argument] = {"scale": scale, "zero": zero}
    if not isinstance(x.layout, Quads):
        out = context.temporary(Flat(y.shape)) if isinstance(y.layout, Planes) else y
        _dense(context, DequantizeDense(), x, out, numbers)
        if out is not y:
            to_planes(context, out, target=y)
        return
    (sources, source_row), (targets, target_row) = plane_offsets(x.words), plane_offsets(y)
    whole = isinstance(y.layout, Planes) and source_row == target_row and x.layout.fill == zero
    tables: dict[str, Argument] = {
        "x": x.address,
        "y": y.address,
        "sources": sources,
        "targets": by_quads(targets, x.shape[0], MISSING),
    }
    _emit(context, DequantizePlanes(), tables | numbers, x, y, (source_row, target_row), whole)


def _emit(
    context: Context,
    kernel: QuantizePlanes | DequantizePlanes,
    arguments: dict[str, Argument],
    x: Tensor,
    y: Tensor,
    distances: tuple[int, int],
    whole: bool,
) -> None:
    """The step for maps; with `whole` planes are single rows."""
    n, c, h, w = y.shape
    planes = n * -(-c // 4)
    if whole:
        h, w = 1, (h - 1) * distances[0] + w
    rows, parts = parts_of_rows(context, planes, h)
    sizes: dict[str, Argument] = {
        "parts": parts,
        "rows": rows,
        "h": h,
        "w": w,
        "source_row": distances[0],
        "target_row": distances[1],
    }
    context.emit(context.layer, kernel, arguments | sizes, planes * parts, reads=(x,), writes=(y,))


def _dense(
    context: Context, kernel: QuantizeDense | DequantizeDense, x: Tensor, y: Tensor, numbers: dict[str, Argument]
) -> None:
    """The step for dense arrays."""
    size = y.layout.size
    block, blocks = parts_of(context, 1, size)
    sizes: dict[str, Argument] = {"x": x.address, "y": y.address, "size": size, "block": block}
    context.emit(context.layer, kernel, sizes | numbers, blocks, reads=(x,), writes=(y,))
