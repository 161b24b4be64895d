"""Pooling whose last window would begin behind the tensor.

ONNX's shape inference before opset 22 counts that window; the operator's definition since 22, and ONNX Runtime in every
opset, leave it out. A pool with such a window is written without ceil_mode, which is the same pool; where that cannot
be, because windows end in padding that ceil_mode adds and averages do not count, the type of its output is corrected.
"""

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import helper


def fix_ceil_mode(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto]) -> bool:
    """Rewrite a pool with a window too many, or correct its type, in place; whether its types are to be found again."""
    if node.op_type not in ("MaxPool", "AveragePool") or node.domain not in ("", "ai.onnx"):
        return False
    if not node.input or not node.output:
        return False
    x, y = (types.get(name) for name in (node.input[0], node.output[0]))
    if x is None or y is None:
        return False
    sides, outs = (tuple(side.dim_value for side in proto.tensor_type.shape.dim[2:]) for proto in (x, y))
    return _rewrite(node, sides, outs, y)


def _rewrite(node: onnx.NodeProto, sides: tuple[int, ...], outs: tuple[int, ...], y: onnx.TypeProto) -> bool:
    rank = len(sides)
    given: dict[str, Any] = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    kernel = given.get("kernel_shape", ())
    strides, dilations = given.get("strides", (1,) * rank), given.get("dilations", (1,) * rank)
    pads = list(given.get("pads", (0,) * 2 * rank))
    if not given.get("ceil_mode", 0) or given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return False
    if not len(kernel) == len(strides) == len(dilations) == len(outs) == rank or len(pads) != 2 * rank:
        return False
    last = [(out - 1) * stride for out, stride in zip(outs, strides, strict=True)]
    outside = [begin >= side + pads[axis] for axis, (begin, side) in enumerate(zip(last, sides, strict=True))]
    if not any(outside):
        return False
    for axis in range(rank):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        if not outside[axis]:
            more = last[axis] + reach - sides[axis] - pads[axis]
            if more > pads[axis + rank] and given.get("count_include_pad", 0):
                # Padding that ceil_mode adds is not counted; written as padding it would be.
                for at, (side, stride) in enumerate(zip(sides, strides, strict=True)):
                    windows = (side + pads[at] - 1) // stride + 1
                    y.tensor_type.shape.dim[at + 2].dim_value = min(outs[at], windows)
                return False
            pads[axis + rank] = max(more, pads[axis + rank])
    kept = [attribute for attribute in node.attribute if attribute.name not in ("ceil_mode", "pads", "auto_pad")]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", pads)])
    return True
