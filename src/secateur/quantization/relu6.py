"""ReLU6 under scales of channels: without its upper bound, or with one for every channel.

clip(s x, 0, 6) = s clip(x, 0, 6 / s)
"""

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from secateur.errors import QuantizationError
from secateur.graph.constants import Constants, attribute
from secateur.quantization.subjects import copy_of


def with_relu(model: onnx.ModelProto, clips: Collection[str]) -> onnx.ModelProto:
    """The model with these Clip operators without their upper bounds."""
    changed = copy_of(model)
    for node in changed.graph.node:
        if node.op_type == "Clip" and node.output[0] in clips:
            _make_relu_(changed, node)
    return changed


def _make_relu_(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    node.op_type = "Relu" if _bound(model, node, 1, "min") == 0.0 else "Identity"
    del node.input[1:]
    del node.attribute[:]


def _bound(model: onnx.ModelProto, node: onnx.NodeProto, operand: int, name: str) -> float | None:
    """A bound of a Clip, an operand or, before opset 11, an attribute; None where it has none, or it is computed."""
    if len(node.input) > operand and node.input[operand]:
        constant = Constants(model.graph).find(node.input[operand])
        return None if constant is None else float(constant.array.reshape(-1)[0])
    given = attribute(node, name, None)
    return None if given is None else float(given)


def bound_channels_(model: onnx.ModelProto, output: str, scale: NDArray[np.float64], axes: int) -> None:
    """The Clip that writes `output` gets an upper bound for every channel: Relu, then Min with bounds / scale.

    axes    of the value behind its channels
    """
    nodes = model.graph.node
    index = next(index for index, node in enumerate(nodes) if output in node.output)
    node = nodes[index]
    bound = _bound(model, node, 2, "max")
    if bound is None:
        raise QuantizationError(f"'{node.name or output}': the upper bound of this Clip is computed.")
    bounds = (bound / scale).astype(np.float32)
    tensor = numpy_helper.from_array(bounds.reshape(-1, *(1,) * axes), f"{output}_bounds")
    model.graph.initializer.append(tensor)
    model.ir_version = max(model.ir_version, 4)
    _make_relu_(model, node)
    node.output[0] = f"{output}_unbounded"
    nodes.insert(index + 1, helper.make_node("Min", [node.output[0], tensor.name], [output], f"{output}_bound"))
