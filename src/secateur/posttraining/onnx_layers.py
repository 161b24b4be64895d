"""The layers of an ONNX file, their weights and biases read and written where its operators find them.

1. Layers and their names are those of the file's census (graph/onnx_census.py); operators that read one tensor are uses
   of one layer (onnx_uses.py).
2. Where there is no constant bias, one is made: a third operand, or an addition behind the operator.
3. A tensor that others read too is left to them, and the layer gets one of its own.
4. A layer that cannot be read and written so is left out, with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from secateur.errors import PosttrainingError
from secateur.graph.constants import attribute
from secateur.graph.onnx_census import layer_name, names_apart
from secateur.graph.shapes import Shapes
from secateur.posttraining.onnx_tensors import Array, NotConstantError, OnnxTensors, Place
from secateur.posttraining.onnx_uses import LeftOutError, Use, outputs_of, use_of, weight_of, weight_operand
from secateur.sparsity import Layer


@dataclass
class OnnxLayer:
    """A layer and the operators that use its weight."""

    layer: Layer
    uses: list[Use] = field(default_factory=lambda: list[Use]())


class OnnxLayers:
    """All layers of a file that can be worked on.

    layers      by name
    left_out    name -> why the layer is not among them
    """

    def __init__(self, model: onnx.ModelProto, shapes: Shapes) -> None:
        self._tensors, self._shapes = OnnxTensors(model), shapes
        found: dict[str, list[tuple[int, onnx.NodeProto, int]]] = {}
        for index, node in enumerate(model.graph.node):
            operand = weight_operand(node, self._tensors)
            root = None if operand is None else self._tensors.root(node.input[operand])
            if operand is not None and root is not None:
                found.setdefault(root, []).append((index, node, operand))
        names = names_apart(layer_name(uses[0][1], uses[0][0], root) for root, uses in found.items())
        self.layers: dict[str, OnnxLayer] = {}
        self.left_out: dict[str, str] = {}
        for name, uses in zip(names, found.values(), strict=True):
            try:
                shared = (layer_name(node, index, "") for index, node, _ in uses[1:])
                found_layer = self._layer(name, [(node, operand) for _, node, operand in uses])
                found_layer.layer = replace(found_layer.layer, shared=tuple(s for s in shared if s not in names))
                self.layers[name] = found_layer
            except (LeftOutError, NotConstantError) as reason:
                self.left_out[name] = str(reason)

    def weight(self, name: str) -> NDArray[np.float32]:
        """A copy, filter first (a transposed convolution as it is stored)."""
        return weight_of(self.layers[name].uses[0], self._tensors)

    def bias(self, use: Use) -> NDArray[np.float32] | None:
        """(C_out,) what is added to the outputs of one use, None when nothing constant is."""
        if use.bias is None:
            return None
        node, operand = use.bias
        array = self._tensors.array(node.input[operand]).astype(np.float32)
        beta = attribute(node, "beta", 1.0) if node.op_type == "Gemm" else 1.0
        return np.array(np.broadcast_to(array.reshape(-1), (outputs_of(use, self._tensors),)) * np.float32(beta))

    def store_weight_(self, name: str, weight: NDArray[np.float32]) -> None:
        """Write a weight for all its uses; shaped as `weight` gives it."""
        groups: dict[str, list[Use]] = {}
        for use in self.layers[name].uses:
            groups.setdefault(use.node.input[use.weight], []).append(use)
        for operand, uses in groups.items():
            first = uses[0]
            shape, dtype = self._tensors.array(operand).shape, self._tensors.type_of(operand)
            array = weight if first.alpha == 1 else weight / np.float32(first.alpha)
            array = (array.T if first.swapped else array).reshape(shape)
            self._tensors.write_([(use.node, use.weight) for use in uses], array.astype(dtype))

    def store_bias_(self, use: Use, bias: NDArray[np.float32]) -> None:
        """Write the bias of one use, (C_out,)."""
        values = bias.astype(self._tensors.type_of(use.node.input[use.weight]))
        if use.geometry.kind == "linear" and use.weight == 0:
            values = values[:, None]
        if use.bias is None:
            use.bias = self._new_bias(use, values)
            return
        node, operand = use.bias
        if node.op_type == "Gemm" and attribute(node, "beta", 1.0) != 1.0:
            kept = [candidate for candidate in node.attribute if candidate.name != "beta"]
            del node.attribute[:]
            node.attribute.extend(kept)
        before = self._tensors.array(node.input[operand]).shape
        if len(values.shape) < len(before):  # the sum keeps its number of axes
            values = values.reshape(before) if values.size == prod(before) else _with_axes(values, len(before))
        self._tensors.write_([(node, operand)], values)

    def _layer(self, name: str, places: Sequence[Place]) -> OnnxLayer:
        made = [use_of(node, operand, self._tensors, self._shapes) for node, operand in places]
        weights = [weight_of(use, self._tensors) for use in made]
        if any(other.shape != weights[0].shape or not np.array_equal(other, weights[0]) for other in weights[1:]):
            raise LeftOutError("its tensor is used in different ways, such as both ways round")
        first = made[0].geometry
        return OnnxLayer(Layer(name, first.kind, weights[0].shape, first.groups), made)

    def _new_bias(self, use: Use, bias: Array) -> Place:
        node = use.node
        missing = len(node.input) < 3 or not node.input[2]
        if node.op_type != "MatMul" and missing:
            name = self._tensors.add_(f"{node.output[0]}_bias", bias)
            del node.input[2:]
            node.input.append(name)
            return node, 2
        if node.op_type == "FusedConv":
            raise PosttrainingError(
                f"operator FusedConv '{node.name}': its bias is computed, so it cannot be replaced."
            )
        if use.geometry.kind != "linear":
            bias = bias.reshape(-1, *(1 for _ in use.geometry.kernel))
        graph, output = self._tensors.model.graph, node.output[0]
        product = self._tensors.unused(f"{output}_product")
        node.output[0] = product
        addition = helper.make_node(
            "Add",
            [product, self._tensors.add_(f"{output}_bias", bias)],
            [output],
            self._tensors.unused(f"{node.name}_bias"),
        )
        index = next(index for index, other in enumerate(graph.node) if product in other.output)
        graph.node.insert(index + 1, addition)
        return graph.node[index + 1], 1


def _with_axes(values: Array, axes: int) -> Array:
    return values.reshape((*(1 for _ in range(axes - values.ndim)), *values.shape))
