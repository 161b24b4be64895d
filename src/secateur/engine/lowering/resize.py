"""Resize of the last one or two axes of tensors (n, c, ...): nearest, linear and cubic.

Positions are computed in float32 (half_pixel_symmetric partly in float64), in the order of ONNX Runtime's operations:
at ties the last bit decides which element is nearest.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.resize import Resize
from secateur.engine.layout import Flat, quads
from secateur.engine.lowering import quad_moves
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.parts import parts_of_rows
from secateur.engine.lowering.quad_relayout import to_bytes, to_quads
from secateur.engine.lowering.refusals import normal, normal_float32
from secateur.engine.lowering.relayout import plane_offsets
from secateur.graph.ir import Graph, Node

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")

TIE = 1e-6


def _refuses(node: Node, graph: Graph) -> str | None:
    bytes_ = quad_moves.are_bytes(graph, node)
    reason = normal(node, graph) if bytes_ else normal_float32(node, graph)
    if reason is not None:
        return reason
    attributes = node.attributes
    if bytes_ and (attributes["mode"] != "nearest" or len(graph.shape(node.inputs[0])) != 4):
        return "it interpolates between 8-bit integers, or along one axis of them"
    shape, sizes = graph.shape(node.inputs[0]), attributes["sizes"]
    if len(shape) not in (3, 4) or tuple(sizes[:2]) != shape[:2] or tuple(attributes["scales"][:2]) != (1.0, 1.0):
        return "it resizes other axes than height and width"
    if attributes["mode"] not in TAPS or attributes["coordinate"] not in COORDINATES or attributes["antialias"]:
        return (
            f"it resizes by {attributes['mode']}, {attributes['coordinate']}" + ", antialias" * attributes["antialias"]
        )
    return None if attributes["nearest_mode"] in NEAREST else f"it rounds by {attributes['nearest_mode']}"


@lowers("Resize", refuses=_refuses)
def resize(node: Node, context: Context) -> None:
    """Resize height and width, or the only axis behind the channels."""
    x, y = context.tensor(node.inputs[0]), context.place(node.outputs[0])
    if quad_moves.are_bytes(context.graph, node):
        # A map of one pixel is dense.
        source = x if quad_moves.is_map(x) else to_quads(context, x, quads(_sizes(x.shape), 0))
        target = y if quad_moves.is_map(y) else context.temporary(quads(_sizes(y.shape), 0))
        _emit(context, node, source.words, target.words)
        if target is not y:
            to_bytes(context, target, y)
    else:
        _emit(context, node, _as_maps(x), _as_maps(y))


def _emit(context: Context, node: Node, x: Tensor, y: Tensor) -> None:
    attributes = node.attributes
    scales = (1.0, *attributes["scales"][2:])[-2:]
    (h, w), (out_h, out_w) = x.shape[2:], y.shape[2:]
    (lines, line_weights), (columns, column_weights) = (
        axis_taps(attributes, *sizes) for sizes in zip((h, w), (out_h, out_w), scales, strict=True)
    )
    taps = TAPS[attributes["mode"]]
    doubled = taps == 1 and out_w == 2 * w and bool((columns[0] == np.arange(out_w) // 2).all())
    (sources, source_row), (targets, target_row) = plane_offsets(x), plane_offsets(y)
    rows, parts = parts_of_rows(context, len(sources), out_h)
    stride = -(-out_w // 16) * 16
    padding = ((0, 0), (0, stride - out_w))
    context.emit(
        node.name,
        Resize(taps, doubled),
        {
            "x": x.address,
            "y": y.address,
            "sources": sources,
            "targets": targets,
            "row_places": np.ascontiguousarray(lines.T) * source_row,
            "row_weights": line_weights.T.copy(),
            "columns": np.pad(columns, padding).astype(np.int32),
            "column_weights": np.pad(column_weights, padding),
            "parts": parts,
            "rows": rows,
            "w": w,
            "out_h": out_h,
            "out_w": out_w,
            "target_row": target_row,
            "stride": stride,
        },
        len(sources) * parts,
        reads=(x,),
        writes=(y,),
        scratch=(w + 16) * 4,
    )


def axis_taps(how: Mapping[str, Any], size: int, out: int, scale: float) -> tuple[Ints, Floats]:
    """Indices and weights, (taps, out), of the elements that each output along one axis depends on."""
    at = positions(how["coordinate"], size, out, np.float32(scale))
    if how["mode"] == "nearest":
        index = np.clip(_nearest(how["nearest_mode"], at), 0, size - 1)
        return index[None], np.ones((1, out), np.float32)
    if how["mode"] == "linear":
        at = np.clip(at, np.float32(0), np.float32(size - 1))
        low = at.astype(np.int64)
        high = np.minimum(low + 1, size - 1)
        share = np.where(low == high, np.float32(0.5), at - low.astype(np.float32)).astype(np.float32)
        return np.stack([low, high]), np.stack([1 - share, share])
    return _cubic(at, size, how["cubic_coeff_a"], bool(how["exclude_outside"]))


def positions(coordinate: str, size: int, out: int, scale: np.float32) -> Floats:
    """Where each output lies on the input's axis."""
    x = np.arange(out, dtype=np.float32)
    half = np.float32(0.5)
    match coordinate:
        case "asymmetric":
            return x / scale
        case "align_corners":
            return x * np.float32(size - 1) / np.float32(out - 1) if out > 1 else x * 0
        case "pytorch_half_pixel" if out == 1:
            return x * 0
        case "half_pixel_symmetric":
            adjustment = np.float32(out) / (scale * np.float32(size))
            offset = np.float32(size) / 2 * (1 - adjustment)
            wide = offset.astype(np.float64) + (x.astype(np.float64) + 0.5) / np.float64(scale) - 0.5
            return wide.astype(np.float32)
        case _:
            return (x + half) / scale - half


def _nearest(mode: str, at: Floats) -> Ints:
    low = np.floor(at)
    if mode in ("floor", "ceil"):
        return (low if mode == "floor" else np.ceil(at)).astype(np.int64)
    # Positions this close to a half are ties for ONNX Runtime (measured on version 1.31).
    tie = np.abs(at - (low + np.float32(0.5))) < TIE
    up = np.where(tie, mode == "round_prefer_ceil", at - low > 0.5)
    return low.astype(np.int64) + up


def _cubic(at: Floats, size: int, a: float, exclude_outside: bool) -> tuple[Ints, Floats]:
    low = np.floor(at).astype(np.int64)
    s = (at - low).astype(np.float64)

    def near(d: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    weights = np.stack([far(1 + s), near(s), near(1 - s), far(2 - s)])
    index = low + np.arange(-1, 3)[:, None]
    if exclude_outside:
        weights = np.where((index >= 0) & (index < size), weights, 0)
        weights /= weights.sum(0)
    return np.clip(index, 0, size - 1), weights.astype(np.float32)


def _as_maps(tensor: Tensor) -> Tensor:
    """A tensor (n, c, w) as (n, c, 1, w)."""
    if len(tensor.shape) == 4:
        return tensor
    n, c, w = tensor.shape
    return Tensor(Flat((n, c, 1, w)), tensor.buffer, tensor.offset, tensor.constant)


def _sizes(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    n, c, h, w = shape
    return n, c, h, w
