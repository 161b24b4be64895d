"""Activations that are rounded by the range of each batch, when it is there.

    q, s, z = DynamicQuantizeLinear(x) ;   y = (integer product of q - z and w) * (s * s_w) + b

Nothing is calibrated and nothing saturates; the range of every input is found at every call. Convolutions, and products
with constant matrices, become ConvInteger and MatMulInteger; everything between them stays float.
"""

from collections.abc import Collection, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from secateur.errors import QuantizationError
from secateur.quantization.numbers import WEIGHTS, Numbers, scale_of_tensor, to_integers
from secateur.quantization.points import points_of
from secateur.quantization.prepare import drop_unread_, prepared
from secateur.quantization.rewriting import constant_of, free_name, int_attribute, is_op, operand, store_constant


def quantize_dynamic(
    model: onnx.ModelProto,
    weights: Numbers = WEIGHTS,
    *,
    per_channel: bool = True,
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """The model with activations rounded batch by batch; weights are stored as int8.

    keep_float    layers that stay float: globs of node names, kinds, `first`, `last`
    raises        ModelError, QuantizationError  weights of more than 8 bits, or that are not signed and symmetric
    """
    if weights.bits > 8 or not weights.signed or not weights.symmetric:
        raise QuantizationError("integer products take weights of at most 8 bits, signed and symmetric.")
    plain = prepared(model)
    # Kept layers are found as for static integers; transposed convolutions have no integer operator.
    points = points_of(plain, keep_float=[*keep_float, "conv_transpose"])
    written = ir.from_proto(plain)
    _Writer(written.graph, weights, per_channel).write({name for point in points.weights for name in point.nodes})
    drop_unread_(written.graph)
    return ir.to_proto(written)


class _Writer:
    def __init__(self, graph: ir.Graph, weights: Numbers, per_channel: bool) -> None:
        self.graph, self.weights, self.per_channel = graph, weights, per_channel
        self._inputs: dict[ir.Value, list[ir.Value]] = {}
        self._weights: dict[tuple[str, bool], tuple[ir.Value, ir.Value]] = {}

    def write(self, names: Collection[str]) -> None:
        for node in [node for node in self.graph if node.name in names]:
            self._layer(node)

    def _layer(self, node: ir.Node) -> None:
        value, weight, bias = node.inputs[0], node.inputs[1], operand(node, 2)
        assert value is not None and weight is not None
        integers, step, zero = self._rounded(value)
        stored, steps = self._weight(node, weight)
        name = node.name or ""
        convolves = is_op(node, "Conv")
        attributes = [attr for key, attr in node.attributes.items() if convolves or key not in ("transA", "transB")]
        kind = "ConvInteger" if convolves else "MatMulInteger"
        product = self._node(kind, [integers, stored, zero], f"{name}.product", ir.DataType.INT32, attributes)
        whole = self._node("Cast", [product.outputs[0]], f"{name}.sums", ir.DataType.FLOAT, [ir.AttrInt64("to", 1)])
        factor = self._node("Mul", [step, steps], f"{name}.step", ir.DataType.FLOAT)
        told = self._node("Mul", [whole.outputs[0], factor.outputs[0]], f"{name}.told", ir.DataType.FLOAT)
        nodes = [product, whole, factor, told]
        if bias is not None:
            array = constant_of(bias)
            assert array is not None
            spread = array.reshape(1, -1, *(1,) * (self._rank(node) - 2)) if convolves else array
            term = store_constant(self.graph, f"{bias.name}.spread", spread)
            nodes.append(self._node("Add", [told.outputs[0], term], f"{name}.sum", ir.DataType.FLOAT))
        self.graph.insert_before(node, nodes)
        before, after = node.outputs[0], nodes[-1].outputs[0]
        after.name, before.name, after.shape = before.name, None, before.shape
        before.replace_all_uses_with(after, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)

    def _rounded(self, value: ir.Value) -> list[ir.Value]:
        """Integers, step and zero point of a value; readers of the same value share them."""
        if value not in self._inputs:
            node = ir.node("DynamicQuantizeLinear", [value], num_outputs=3, name=f"{value.name}.DynamicQuantizeLinear")
            kinds = (("quantized", ir.DataType.UINT8), ("step", ir.DataType.FLOAT), ("zero", ir.DataType.UINT8))
            for output, (what, kind) in zip(node.outputs, kinds, strict=True):
                output.name, output.type = free_name(self.graph, f"{value.name}.{what}"), ir.TensorType(kind)
            producer = value.producer()
            if producer is None:
                self.graph.insert_before(self.graph[0], node)
            else:
                self.graph.insert_after(producer, node)
            self._inputs[value] = list(node.outputs)
        return self._inputs[value]

    def _weight(self, node: ir.Node, weight: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Integers, for products (inputs, outputs), and steps that meet the channels of the result."""
        turned = is_op(node, "Gemm") and bool(int_attribute(node, "transB", 0))
        key = (weight.name or "", turned)
        if key not in self._weights:
            array = constant_of(weight)
            assert array is not None
            array = array.T if turned else array
            axis = 0 if is_op(node, "Conv") else 1
            scale = scale_of_tensor(array, self.weights, axis if self.per_channel else None)
            steps = scale.step
            if is_op(node, "Conv") and steps.ndim:
                steps = steps.reshape(1, -1, *(1,) * (array.ndim - 2))
            self._weights[key] = (
                store_constant(self.graph, f"{weight.name}.quantized", to_integers(array, scale)),
                store_constant(self.graph, f"{weight.name}.step", np.asarray(steps)),
            )
        return self._weights[key]

    def _rank(self, node: ir.Node) -> int:
        array = constant_of(node.inputs[1])
        assert array is not None
        return array.ndim

    def _node(
        self, kind: str, inputs: Sequence[ir.Value], name: str, dtype: ir.DataType, attributes: Sequence[ir.Attr] = ()
    ) -> ir.Node:
        node = ir.Node("", kind, inputs, attributes, name=f"{name}.{kind}")
        value = node.outputs[0]
        value.name, value.type = free_name(self.graph, name), ir.TensorType(dtype)
        return node
