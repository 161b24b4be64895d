"""A float ONNX file and a table of scales as one quantized file: QuantizeLinear and DequantizeLinear around floats.

1. Behind every value of the table stands QuantizeLinear, then DequantizeLinear, which its readers read. What only asks
   for its shape reads the integers.
2. A weight is stored as integers behind a DequantizeLinear with a step for each output channel.
3. The bias of a layer whose input and weight have scales is int32 with the step `input x weight`. Where it would not
   fit, the weight's step is raised until it does.
4. A node that stays float reads what is not rounded, unless an integer operator computes it.
5. An output of the model keeps its name.
6. Numbers of fewer bits than their bytes hold are clipped to their range before they are rounded.
7. Between DequantizeLinear and a layer that stays float stands a Clip without bounds: ONNX Runtime would otherwise
   round the layer's float weights by itself, with one step for the tensor, where it stands between the two kinds.

Runtimes turn float operators between the two into integer kernels; the file means the same without that.

Source: ALGORITHMS.md H9.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from secateur.errors import QuantizationError
from secateur.quantization.numbers import Scale, to_floats, to_integers
from secateur.quantization.points import is_rectifier
from secateur.quantization.prepare import drop_unread_, with_opset
from secateur.quantization.rewriting import constant_of, free_name, is_op, operand, store_constant
from secateur.quantization.roles import Roles
from secateur.quantization.table import ScaleTable

QDQ_OPSET = 13
# Sixteen and four bits are types of QuantizeLinear since this opset.
MORE_TYPES_OPSET = 21
# A bias of more steps than these is not exact any more as a float32, and sums may overflow.
MOST_BIAS_STEPS = 2**30


def write_qdq(model: onnx.ModelProto, table: ScaleTable, *, packed: bool = False) -> onnx.ModelProto:
    """The quantized form of a prepared model (prepare.py), which is left as it is.

    packed    weights of 4 bits and fewer are stored as int4, two in a byte (opset 21)
    raises    QuantizationError  a value or weight of the table that the model does not have, or a scale that does not
              fit it
    """
    wide = any(scale.numbers.bits > 8 for scale in (*table.values.values(), *table.weights.values()))
    model = with_opset(model, MORE_TYPES_OPSET if wide or packed else QDQ_OPSET)
    written = ir.from_proto(model)
    _Writer(written, settled(model, table), packed).write()
    # Version 10 of the format has opset 21 and its types.
    written.ir_version = max(written.ir_version or 0, 10 if wide or packed else 8)
    return ir.to_proto(written)


def settled(model: onnx.ModelProto, table: ScaleTable) -> ScaleTable:
    """The table with steps of weights raised where a bias would have more than 2^30 of them (rule 3).

    A channel whose weights are all zero gets the step with which its bias has 2^20 steps: any step is right for the
    weights, and the bias is told as exactly as float32 does.
    """
    graph = ir.from_proto(model).graph
    weights = dict(table.weights)
    for node in graph:
        weight, bias = operand(node, 1), constant_of(operand(node, 2))
        name = "" if weight is None else weight.name or ""
        source = operand(node, 0)
        if name not in weights or bias is None or source is None or source.name not in table.values:
            continue
        scale, array = weights[name], constant_of(weight)
        if array is None:
            continue
        step = np.float64(table.values[source.name or ""].step)
        sizes = np.abs(bias.astype(np.float64).reshape(-1))
        if scale.axis is None:
            least = np.asarray(sizes.max(initial=0.0) / (step * MOST_BIAS_STEPS))
        else:
            # Transposed convolutions: the same step for the same channel of every group.
            sizes = sizes.reshape(-1, len(scale.step)).max(axis=0)
            others = tuple(axis for axis in range(array.ndim) if axis != scale.axis)
            dead = ~array.any(axis=others)
            least = sizes / (step * MOST_BIAS_STEPS)
            exact = np.where(sizes > 0, sizes / (step * 2**20), scale.step)
            weights[name] = replace(scale, step=np.where(dead, _as_step(exact), scale.step))
            scale = weights[name]
        if (scale.step < least).any():
            weights[name] = replace(scale, step=np.maximum(scale.step, _as_step(least)))
    return replace(table, weights=weights)


def _as_step(numbers: NDArray[np.floating]) -> NDArray[np.float32]:
    """As float32, not smaller than the number and large enough to divide by."""
    rounded = np.nextafter(np.asarray(numbers, np.float64).astype(np.float32), np.float32(np.inf))
    return np.maximum(rounded, np.finfo(np.float32).tiny)


class _Writer:
    def __init__(self, model: ir.Model, table: ScaleTable, packed: bool) -> None:
        self.graph, self.table, self.packed = model.graph, table, packed
        self.roles = Roles(model.graph)
        self.values = {value.name: value for value in self.graph.inputs}
        self.values.update({value.name: value for node in self.graph for value in node.outputs})
        self._scales: dict[tuple[str, ...], tuple[ir.Value, ir.Value]] = {}
        self._check()

    def write(self) -> None:
        # Biases first: they go by the names of the values that layers read, which change afterwards.
        for node in list(self.graph):
            self._bias(node)
        for name, scale in self.table.weights.items():
            self._weight(name, scale)
        for name, scale in self.table.values.items():
            self._value(self.values[name], scale)
        drop_unread_(self.graph)

    def _check(self) -> None:
        for name, scale in self.table.values.items():
            if name not in self.values:
                raise QuantizationError(f"the model computes no value '{name}', which the table has a scale for.")
            if scale.axis is not None:
                raise QuantizationError(f"{name}: activations have one step for the tensor; the table gives channels.")
        for name, scale in self.table.weights.items():
            array = constant_of(self.graph.initializers.get(name))
            if array is None:
                raise QuantizationError(f"the model stores no weight '{name}', which the table has a scale for.")
            if scale.axis is not None and (scale.axis >= array.ndim or array.shape[scale.axis] != len(scale.step)):
                raise QuantizationError(
                    f"{name}: has the shape {array.shape}; the table gives {len(scale.step)} steps along its axis "
                    f"{scale.axis}."
                )

    def _value(self, value: ir.Value, scale: Scale) -> None:
        name, graph = value.name or "", self.graph
        uses = [(node, index) for node, index in value.uses() if not self._reads_float(node, value)]
        shapes = [(node, index) for node, index in uses if is_op(node, "Shape", "Size")]
        readers = [use for use in uses if use not in shapes]
        gives = value.is_graph_output()
        if not readers and not gives:
            return
        producer = value.producer()
        source = value
        if gives:
            # The output that the model gives is what the integers tell, under the name it had.
            value.name = free_name(graph, f"{name}.unrounded")
        nodes: list[ir.Node] = []
        numbers = scale.numbers
        if numbers.bits not in (8, 16):
            nodes.append(self._clip(source, scale, name))
            source = nodes[-1].outputs[0]
        step, zero = self._constants(name, scale)
        nodes.append(_node("QuantizeLinear", [source, step, zero], f"{name}.quantized", value, zero.dtype))
        integers = nodes[-1].outputs[0]
        title = name if gives else f"{name}.dequantized"
        nodes.append(_node("DequantizeLinear", [integers, step, zero], title, value, value.dtype or ir.DataType.FLOAT))
        if producer is None:
            graph.insert_before(graph[0], nodes)
        else:
            graph.insert_after(producer, nodes)
        told, barrier = nodes[-1].outputs[0], None
        kept = [use for use in readers if _has_float_weight(use[0])]
        if kept:
            barrier = _node("Clip", [told], f"{name}.kept", value, value.dtype)
            self.graph.insert_after(nodes[-1], barrier)
        for node, index in readers:
            node.replace_input_with(index, barrier.outputs[0] if barrier and (node, index) in kept else told)
        for node, index in shapes:
            node.replace_input_with(index, integers)
        if gives:
            graph.outputs[graph.outputs.index(value)] = nodes[-1].outputs[0]

    def _reads_float(self, reader: ir.Node, value: ir.Value) -> bool:
        """Rule 4."""
        if reader.name not in self.table.floats:
            return False
        producer = value.producer()
        if producer is not None and is_rectifier(producer) and producer.inputs[0] is not None:
            producer = producer.inputs[0].producer() or producer
        return producer is None or producer.name in self.table.floats or self.roles[producer] in ("function", "other")

    def _clip(self, source: ir.Value, scale: Scale, name: str) -> ir.Node:
        low, high = (
            store_constant(self.graph, f"{name}.{end}", number)
            for end, number in zip(("low", "high"), scale.range, strict=True)
        )
        return _node("Clip", [source, low, high], f"{name}.clipped", source, source.dtype or ir.DataType.FLOAT)

    def _weight(self, name: str, scale: Scale) -> None:
        value = self.graph.initializers[name]
        array = constant_of(value)
        assert array is not None
        users = [use for use in value.uses() if use.node.name not in self.table.floats and use.idx == 1]
        if not users:
            return
        integers = to_integers(array, scale)
        stored = store_constant(self.graph, f"{name}.quantized", _packed(integers, scale) if self.packed else integers)
        step, zero = self._constants(name, scale, stored.dtype)
        told = self._dequantized(stored, step, zero, scale.axis, f"{name}.dequantized", array.shape)
        for node, index in users:
            node.replace_input_with(index, told)

    def _bias(self, node: ir.Node) -> None:
        weight, bias, source = operand(node, 1), operand(node, 2), operand(node, 0)
        array = constant_of(bias)
        name = "" if weight is None else weight.name or ""
        known = source is not None and source.name in self.table.values and name in self.table.weights
        if not known or array is None or bias is None or source is None or node.name in self.table.floats:
            return
        weights = self.table.weights[name].step.astype(np.float32)
        if weights.ndim:
            weights = np.tile(weights, len(array) // len(weights))
        steps = self.table.values[source.name or ""].step * weights
        integers, steps = bias_integers(array, steps)
        stored = store_constant(self.graph, f"{bias.name}.quantized", integers)
        step = store_constant(self.graph, f"{bias.name}.step", steps)
        told = self._dequantized(stored, step, None, 0 if steps.ndim else None, f"{bias.name}.dequantized", array.shape)
        node.replace_input_with(2, told)

    def _dequantized(
        self, stored: ir.Value, step: ir.Value, zero: ir.Value | None, axis: int | None, name: str, shape: Iterable[int]
    ) -> ir.Value:
        attributes = {} if axis is None else {"axis": axis}
        operands = [stored, step] if zero is None else [stored, step, zero]
        name = free_name(self.graph, name)
        node = ir.node("DequantizeLinear", operands, attributes, name=f"{name}.DequantizeLinear")
        value = node.outputs[0]
        value.name, value.shape, value.type = name, ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
        self.graph.insert_before(self.graph[0], node)
        return value

    def _constants(self, name: str, scale: Scale, dtype: ir.DataType | None = None) -> tuple[ir.Value, ir.Value]:
        """Step and zero point as initializers; values that share a scale share them."""
        kind = dtype or ir.DataType.from_numpy(np.dtype(scale.numbers.dtype))
        key = (scale.step.tobytes().hex(), scale.zero.tobytes().hex(), kind.name)
        if key not in self._scales:
            zero = scale.zero.astype(scale.numbers.dtype)
            tensor = zero if kind.name in ("INT8", "UINT8", "INT16", "UINT16") else ir.tensor(zero.astype(kind.numpy()))
            self._scales[key] = (
                store_constant(self.graph, f"{name}.step", scale.step),
                store_constant(self.graph, f"{name}.zero", tensor),
            )
        return self._scales[key]


def bias_integers(
    bias: NDArray[np.float32], steps: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """int32 biases of these steps, and the steps; one that is too small for float32 is the smallest."""
    steps = np.maximum(np.asarray(steps, np.float32), np.finfo(np.float32).tiny)
    integers = np.rint(bias.astype(np.float64) / steps)
    return np.clip(integers, -(2**31), 2**31 - 1).astype(np.int32), steps


def told_by(model: onnx.ModelProto, table: ScaleTable) -> Mapping[str, NDArray[np.float32]]:
    """Name of a weight -> what its integers tell."""
    graph = ir.from_proto(model).graph
    found: dict[str, NDArray[np.float32]] = {}
    for name, scale in settled(model, table).weights.items():
        array = constant_of(graph.initializers.get(name))
        if array is not None:
            found[name] = to_floats(to_integers(array, scale), scale)
    return found


def _has_float_weight(node: ir.Node) -> bool:
    """Whether a node is a layer whose constant weight is float (weights that become integers have by now)."""
    return is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul") and constant_of(operand(node, 1)) is not None


def _node(kind: str, inputs: list[ir.Value], name: str, like: ir.Value, dtype: ir.DataType | None) -> ir.Node:
    node = ir.node(kind, inputs, name=f"{name}.{kind}")
    value = node.outputs[0]
    value.name, value.shape = name, like.shape
    value.type = None if dtype is None else ir.TensorType(dtype)
    return node


def _packed(integers: NDArray[np.integer], scale: Scale) -> NDArray[np.integer] | ir.TensorProtocol:
    if scale.numbers.bits > 4:
        return integers
    kind = ir.DataType.INT4 if scale.numbers.signed else ir.DataType.UINT4
    return ir.tensor(integers.astype(kind.numpy()))
