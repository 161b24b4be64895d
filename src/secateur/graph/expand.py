"""Every node of the normal form as ONNX operators again, in the graph's own opset.

The result computes the same numbers, up to rounding where the opset has no operator of that name (gelu before 20).
Tests compare with it, and ONNX Runtime gets it where the engine has no kernel.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from secateur.errors import ModelError
from secateur.graph.expand_activation import expand_activation
from secateur.graph.expand_moves import MOVES, expand_moves
from secateur.graph.expand_quantized import QUANTIZED, expand_quantized
from secateur.graph.expand_writer import Writer
from secateur.graph.ir import Activation, Graph, Node
from secateur.graph.rewrite import DOMAIN, Draft


def expand(graph: Graph) -> Graph:
    """The graph without nodes of the normal form. Values keep their names. raises ModelError for an unknown one."""
    if not any(node.domain == DOMAIN for node in graph.nodes):
        return graph
    draft = Draft(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.domain != DOMAIN:
            nodes.append(node)
            continue
        if node.op not in _EXPANDERS:
            raise ModelError(f"node '{node.name}' has the operator '{node.op}', which is none of the normal form.")
        writer = Writer(draft, node, nodes)
        _EXPANDERS[node.op](writer)
    return draft.finish(nodes)


def _convolution(writer: Writer) -> None:
    node, draft = writer.node, writer.draft
    keys = ("strides", "pads", "dilations", "group", "output_padding")
    attributes = {key: node.attributes[key] for key in keys if key in node.attributes}
    kernel = draft.shape(node.inputs[1])[2:]
    residual = node.input(3) if node.op == "Conv" else ""
    value = writer.target(residual)
    writer.emit(node.op, (*node.inputs[:2], node.input(2)), value, kernel_shape=kernel, **attributes)
    _residual(writer, value, residual, node.input(4))


def _residual(writer: Writer, value: str, residual: str, slope: str = "") -> None:
    """Add the residual, apply the activation; `value` is the output itself when there is neither."""
    if residual:
        result = writer.target()
        writer.emit("Add", (value, residual), result)
        value = result
    if value != writer.out:
        writer.finish(value, slope)


def _linear(writer: Writer) -> None:
    node, draft = writer.node, writer.draft
    bias, residual = node.input(2), node.input(3)
    weight = draft.constant(f"{node.inputs[1]}/t", draft.constants[node.inputs[1]].T)
    value = writer.target(bias, residual)
    writer.emit("MatMul", (node.inputs[0], weight), value)
    if bias:
        result = writer.target(residual)
        writer.emit("Add", (value, bias), result)
        value = result
    _residual(writer, value, residual)


def _activate(writer: Writer) -> None:
    writer.finish(writer.node.inputs[0], writer.node.input(1))


def _binary(writer: Writer) -> None:
    value = writer.target()
    writer.emit(writer.node.op, writer.node.inputs, value)
    _residual(writer, value, "")


def _pool(writer: Writer) -> None:
    node, attributes = writer.node, writer.node.attributes
    given = {"kernel_shape": attributes["kernel"], "strides": attributes["strides"], "pads": attributes["pads"]}
    if any(dilation != 1 for dilation in attributes["dilations"]):
        given["dilations"] = attributes["dilations"]
    if attributes["kind"] == "average":
        given["count_include_pad"] = int(attributes["count_include_pad"])
        rows, columns = attributes.get("uncounted", (0, 0))
        if rows or columns:
            top, left, bottom, right = attributes["pads"]
            given["pads"] = (top, left, bottom - rows, right - columns)
            given["ceil_mode"] = int(_ends_by_ceil_mode(writer, given["pads"]))
    writer.emit("AveragePool" if attributes["kind"] == "average" else "MaxPool", node.inputs, writer.out, **given)


def _ends_by_ceil_mode(writer: Writer, pads: Sequence[int]) -> bool:
    """Whether windows that end behind counted padding are there because of ceil_mode, not in a map that is smaller."""
    attributes, draft = writer.node.attributes, writer.draft
    sides, outs = draft.shape(writer.node.inputs[0])[2:], draft.shape(writer.out)[2:]
    reach = [(k - 1) * d + 1 for k, d in zip(attributes["kernel"], attributes["dilations"], strict=True)]
    rests = [side + pads[axis] + pads[axis + 2] - reach[axis] for axis, side in enumerate(sides)]
    # ONNX divides towards zero: a window that is larger than the map is one.
    floors = tuple(int(rest / stride) + 1 for rest, stride in zip(rests, attributes["strides"], strict=True))
    return writer.opset < 19 or floors != tuple(outs)


def _global_pool(writer: Writer) -> None:
    op = "GlobalAveragePool" if writer.node.attributes["kind"] == "average" else "GlobalMaxPool"
    writer.emit(op, writer.node.inputs, writer.out)


def _resize(writer: Writer) -> None:
    node, attributes = writer.node, writer.node.attributes
    given = {
        "mode": attributes["mode"],
        "coordinate_transformation_mode": attributes["coordinate"],
        "cubic_coeff_a": attributes["cubic_coeff_a"],
        "exclude_outside": attributes["exclude_outside"],
    }
    if attributes["mode"] == "nearest":
        given["nearest_mode"] = attributes["nearest_mode"]
    if attributes["antialias"]:
        given["antialias"] = 1
    # Before 13 the second and third operand could not be left out: an empty array stood for "not given".
    empty = writer.draft.constant(f"{node.name}/e", np.zeros(0, np.float32)) if writer.opset < 13 else ""
    if attributes["by"] == "scales":
        scales = writer.draft.constant(f"{node.name}/s", np.array(attributes["scales"], np.float32))
        writer.emit("Resize", (node.inputs[0], empty, scales), writer.out, **given)
    else:
        sizes = writer.integers(attributes["sizes"])
        writer.emit("Resize", (node.inputs[0], empty, empty, sizes), writer.out, **given)


def _softmax(writer: Writer) -> None:
    node, axis = writer.node, int(writer.node.attributes["axis"])
    shape = writer.draft.shape(writer.out)
    if writer.opset >= 13 or math.prod(shape[axis + 1 :]) == 1:
        writer.emit(node.op, node.inputs, writer.out, axis=axis)
        return
    # Before 13 all sides from the axis on were one: the axis has to stand last.
    perm = [index for index in range(len(shape)) if index != axis] + [axis]
    moved = [shape[index] for index in perm]
    value = writer.step("Transpose", node.inputs, moved, perm=tuple(perm))
    value = writer.step(node.op, (value,), moved, axis=len(shape) - 1)
    writer.emit("Transpose", (value,), writer.out, perm=tuple(int(index) for index in np.argsort(perm)))


def _layer_normalization(writer: Writer) -> None:
    node, axis = writer.node, int(writer.node.attributes["axis"])
    epsilon = float(node.attributes["epsilon"])
    x, scale, bias = node.inputs[0], node.inputs[1], node.input(2)
    if writer.opset >= 17:
        writer.emit("LayerNormalization", (x, scale, bias), writer.out, axis=axis, epsilon=epsilon)
        return
    shape = writer.draft.shape(x)
    axes = tuple(range(axis, len(shape)))
    reduced = (*shape[:axis], *(1,) * len(axes))
    mean = writer.step("ReduceMean", (x,), reduced, axes=axes, keepdims=1)
    centred = writer.step("Sub", (x, mean))
    square = writer.step("Mul", (centred, centred))
    variance = writer.step("ReduceMean", (square,), reduced, axes=axes, keepdims=1)
    shifted = writer.step("Add", (variance, writer.number(epsilon)), reduced)
    value = writer.step("Div", (centred, writer.step("Sqrt", (shifted,), reduced)))
    if bias:
        value = writer.step("Mul", (value, scale))
        writer.emit("Add", (value, bias), writer.out)
    else:
        writer.emit("Mul", (value, scale), writer.out)


def _matmul(writer: Writer) -> None:
    writer.emit("MatMul", writer.node.inputs, writer.out)


def _reduce_mean(writer: Writer) -> None:
    axes, keep = tuple(writer.node.attributes["axes"]), int(writer.node.attributes["keepdims"])
    if writer.opset < 18:
        writer.emit("ReduceMean", writer.node.inputs, writer.out, axes=axes, keepdims=keep)
    else:
        writer.emit("ReduceMean", (writer.node.inputs[0], writer.integers(axes)), writer.out, keepdims=keep)


def _scale_shift(writer: Writer) -> None:
    x, *pair = writer.node.inputs
    sides = (-1, *(1,) * (len(writer.draft.shape(x)) - 2))
    scale, shift = (writer.draft.constant(f"{p}/c", writer.draft.constants[p].reshape(sides)) for p in pair)
    writer.emit("Add", (writer.step("Mul", (x, scale)), shift), writer.out)


def _squeeze_excite(writer: Writer) -> None:
    node, draft = writer.node, writer.draft
    x, w1, b1, w2, b2, residual = (node.input(index) for index in range(6))
    n, c = draft.shape(x)[:2]
    gate = writer.step("GlobalAveragePool", (x,), (n, c, 1, 1))
    for weight, bias, activation in ((w1, b1, node.attributes["hidden"]), (w2, b2, node.attributes["gate"])):
        outputs, inputs = draft.shape(weight)
        cube = draft.constant(f"{weight}/k", draft.constants[weight].reshape(outputs, inputs, 1, 1))
        gate = writer.step("Conv", (gate, cube, bias), (n, outputs, 1, 1), kernel_shape=(1, 1))
        gate = _activated(writer, gate, activation)
    value = writer.target(residual)
    writer.emit("Mul", (x, gate), value)
    _residual(writer, value, residual)


def _activated(writer: Writer, value: str, activation: Activation | None) -> str:
    """The activation of a value that is not yet the node's output."""
    if activation is None:
        return value
    result = writer.draft.value(f"{value}/a", writer.draft.shape(value))
    expand_activation(writer.writing(result), value, activation)
    return result


_EXPANDERS: dict[str, Callable[[Writer], None]] = {
    "Activate": _activate,
    "Add": _binary,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Div": _binary,
    "GlobalPool": _global_pool,
    "LayerNormalization": _layer_normalization,
    "Linear": _linear,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "Max": _binary,
    "Min": _binary,
    "Mul": _binary,
    "Pool": _pool,
    "Pow": _binary,
    "ReduceMean": _reduce_mean,
    "Resize": _resize,
    "ScaleShift": _scale_shift,
    "Softmax": _softmax,
    "SqueezeExcite": _squeeze_excite,
    "Sub": _binary,
    **dict.fromkeys(MOVES, expand_moves),
    **dict.fromkeys(QUANTIZED, expand_quantized),
}
