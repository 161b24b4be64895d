"""ReLU6 under scales of channels: without its upper bound, or with one for every channel.

clip(s x, 0, 6) = s clip(x, 0, 6 / s)
"""

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from secateur.errors import QuantizationError
from secateur.graph.constants import Constants
from secateur.quantization.subjects import copy_of


def with_relu(model: onnx.ModelProto, clips: Collection[str]) -> onnx.ModelProto:
    """The model with these Clip operators without their upper bounds."""
    changed = copy_of(model)
    for node in changed.graph.node:
        if node.op_type == "Clip" and node.output[0] in clips:
            _make_relu_(changed, node)
    return changed


def _make_relu_(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    constants = Constants(model.graph)
    bound = constants.find(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    from_zero = bound is not None and float(bound.array.reshape(-1)[0]) == 0.0
    node.op_type = "Relu" if from_zero else "Identity"
    del node.input[1:]
    del node.attribute[:]


def bound_channels_(model: onnx.ModelProto, output: str, scale: NDArray[np.float64], axes: int) -> None:
    """The Clip that writes `output` gets an upper bound for every channel: Relu, then Min with bounds / scale.

    axes    of the value behind its channels
    """
    nodes = model.graph.node
    index = next(index for index, node in enumerate(nodes) if output in node.output)
    node = nodes[index]
    constant = Constants(model.graph).find(node.input[2])
    if constant is None:
        raise QuantizationError(f"'{node.name or output}': the upper bound of this Clip is computed.")
    bound = (float(constant.array.reshape(-1)[0]) / scale).astype(np.float32)
    tensor = numpy_helper.from_array(bound.reshape(-1, *(1,) * axes), f"{output}_bounds")
    model.graph.initializer.append(tensor)
    model.ir_version = max(model.ir_version, 4)
    _make_relu_(model, node)
    node.output[0] = f"{output}_unbounded"
    nodes.insert(index + 1, helper.make_node("Min", [node.output[0], tensor.name], [output], f"{output}_bound"))
