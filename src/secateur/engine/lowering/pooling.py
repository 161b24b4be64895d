"""Pool and GlobalPool nodes."""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.global_pool import GlobalPool
from secateur.engine.kernels.pool import ROWS, Pool
from secateur.engine.layout import Planes, planes
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.masks import mask_table
from secateur.engine.lowering.parts import parts_of_rows
from secateur.engine.lowering.refusals import normal_float32
from secateur.engine.lowering.relayout import plane_offsets
from secateur.graph.ir import Node
from secateur.graph.pool_padding import counted_pads

UNROLLED_WIDTHS = (2, 3)


@lowers("Pool", refuses=normal_float32)
def pool(node: Node, context: Context) -> None:
    """Maximum or average over windows."""
    kind = "sum" if node.attributes["kind"] == "average" else "max"
    emit_pool(context, node, context.tensor(node.inputs[0]), context.place(node.outputs[0]), kind)


def emit_pool(context: Context, node: Node, x: Tensor, y: Tensor, kind: str) -> None:
    """The step for windows of x.

    kind    of the kernel: max, max_u8 or sum
    """
    attributes = node.attributes
    (kh, kw), (sh, sw), (dh, dw) = (attributes[key] for key in ("kernel", "strides", "dilations"))
    top, left, _, _ = attributes["pads"]
    h, w = x.shape[2:]
    out_h, out_w = y.shape[2:]
    above, before, below, behind = counted_pads(attributes)
    step = sw if sw in (1, 2) else 0
    kernel = Pool(kind, step, kw if step and kw in UNROLLED_WIDTHS else 0)
    (sources, source_row), (targets, target_row) = plane_offsets(x), plane_offsets(y)
    rows, parts = parts_of_rows(context, len(sources), out_h)
    row_size = max(left + w + 16, -(-out_w // 16) * 16 * max(step, 1) + out_w * sw * (not step) + (kw - 1) * dw + 16)
    row_size = -(-row_size // 16) * 16
    context.emit(
        node.name,
        kernel,
        {
            "x": x.address,
            "y": y.address,
            "sources": sources,
            "targets": targets,
            "row_shares": _shares(out_h, sh, kh, dh, top, (-above, h + below)),
            "column_shares": _shares(out_w, sw, kw, dw, left, (-before, w + behind)),
            "parts": parts,
            "rows": rows,
            "row_size": row_size,
            "h": h,
            "w": w,
            "out_h": out_h,
            "out_w": out_w,
            "source_row": source_row,
            "target_row": target_row,
            "kernel_h": kh,
            "kernel_w": kw,
            "stride_h": sh,
            "stride_w": sw,
            "dilation_h": dh,
            "dilation_w": dw,
            "top": top,
            "left": left,
        },
        len(sources) * parts,
        reads=(x,),
        writes=(y,),
        scratch=ROWS * row_size * 4,
    )


@lowers("GlobalPool", refuses=normal_float32)
def global_pool(node: Node, context: Context) -> None:
    """Maximum or average of whole maps."""
    x, y = context.tensor(node.inputs[0]), context.place(node.outputs[0])
    emit_global_pool(context, node.name, x, y, "sum" if node.attributes["kind"] == "average" else "max")


def emit_global_pool(context: Context, layer: str, x: Tensor, y: Tensor, kind: str) -> None:
    """One number for every map of x (n, c, h, w), one after the other in y.

    kind    of the kernel: max, max_u8 or sum
    """
    h, w = x.shape[2:]
    layout = x.layout if isinstance(x.layout, Planes) else planes((1, 1, h, w))
    sources, row = plane_offsets(x)
    context.emit(
        layer,
        GlobalPool(kind),
        {
            "x": x.address,
            "y": y.address,
            "sources": sources,
            "masks": mask_table(layout, context.target.lanes),
            "length": (h - 1) * row + w,
            "count": float(h * w),
        },
        len(sources),
        reads=(x,),
        writes=(y,),
    )


def _shares(
    outputs: int, stride: int, kernel: int, dilation: int, pad: int, counted: tuple[int, int]
) -> NDArray[np.float32]:
    """1 / rows (or columns) of a window that count, for each output; rounded up to whole vectors.

    counted    the first row (or column) that counts, and the one behind the last
    """
    starts = np.arange(-(-outputs // 16) * 16)[:, None] * stride - pad
    at = starts + np.arange(kernel) * dilation
    inside = (at >= counted[0]) & (at < counted[1])
    return (1 / np.maximum(inside.sum(1), 1)).astype(np.float32)
