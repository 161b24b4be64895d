"""Sides of a Resize by scales, as ONNX Runtime and torch compute them.

    side of the output = floor(side of the input * scale), a product in float32: 10 * 0.7 is 7

ONNX's shape inference multiplies in float64, where the float32 nearest to 0.7 lies below it, and says 6.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from secateur.graph.shape_arithmetic import Value

_LARGEST = 2.0**62


def fix_resize(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto], known: Mapping[str, Value]) -> None:
    """Correct the type of a Resize's output, in place; nothing where its scales or sizes of its input are not known."""
    if node.op_type not in ("Resize", "Upsample") or node.domain not in ("", "ai.onnx"):
        return
    if not node.input or not node.output:
        return
    x, y = (types.get(name) for name in (node.input[0], node.output[0]))
    scales = _scales(node, known)
    if x is None or y is None or scales is None or not y.tensor_type.HasField("shape"):
        return
    sides, outs = x.tensor_type.shape.dim, y.tensor_type.shape.dim
    axes = next((list(entry.ints) for entry in node.attribute if entry.name == "axes"), range(len(sides)))
    if len(axes) != len(scales) or len(sides) != len(outs):
        return
    for axis, scale in zip(axes, scales, strict=True):
        if -len(sides) <= axis < len(sides) and sides[axis].HasField("dim_value"):
            product = np.float32(sides[axis].dim_value) * scale
            if 0 <= product < _LARGEST:
                outs[axis].dim_value = int(product)


def _scales(node: onnx.NodeProto, known: Mapping[str, Value]) -> np.ndarray | None:
    """One float32 per axis, None where the file gives sizes or the scales are computed while it runs."""
    given = next((list(entry.floats) for entry in node.attribute if entry.name == "scales"), None)
    if given is not None:
        return np.array(given, np.float32)
    # Before opset 11 there was no region of interest between the tensor and the scales.
    name = node.input[min(len(node.input) - 1, 2)]
    value = known.get(name) if len(node.input) > 1 else None
    return None if value is None or value.size == 0 else np.asarray(value, np.float32).reshape(-1)
