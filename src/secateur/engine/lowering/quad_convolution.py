"""QConv nodes: convolutions of 8-bit integers, in quads of input channels.

    sum (x - x_zero) w + bias  =  sum (x_stored - below) w  +  (bias - (x_zero_stored - below) sum w)

The second bracket is a constant of each output channel. Padding holds the zero point, so it drops out of both.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import Flat, quads
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.conv import emit_conv
from secateur.engine.lowering.conv_shape import ConvShape, conv_shape
from secateur.engine.lowering.convolution import is_product, operator
from secateur.engine.lowering.depthwise import is_depthwise
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.in_place import place_over
from secateur.engine.lowering.quad_depthwise import emit_quad_depthwise, with_padding
from secateur.engine.lowering.quad_linear import emit_integer_product, integer_facts
from secateur.engine.lowering.quad_relayout import to_bytes, to_quads
from secateur.engine.lowering.refusals import convolution
from secateur.engine.lowering.relayout import to_planes
from secateur.engine.lowering.requantized import bias_of, requantized, zero_of
from secateur.engine.weights.pattern import detect
from secateur.engine.weights.quads import reach, weight_quads
from secateur.graph.ir import Graph, Node


def _refuses(node: Node, graph: Graph) -> str | None:
    reason = convolution(node, graph)
    if reason is not None:
        return reason
    shape = conv_shape(node, graph)
    if is_depthwise(shape):
        if node.attributes["y_scale"] is None:
            return "its result is float32, and each channel has its own input"
    elif shape.groups > 1 and (shape.c // shape.groups % 4 or shape.o // shape.groups % 4):
        return "its groups have no whole quads of channels"
    return None


@lowers("QConv", refuses=_refuses)
def quad_convolution(node: Node, context: Context) -> None:
    """QConv of the normal form: inputs (x, w, bias, residual, slope)."""
    graph = context.graph
    weight: NDArray[np.int8] = graph.constants[node.inputs[1]]
    bias = graph.constants[node.input(2)].reshape(-1) if node.input(2) else None
    slope = graph.constants[node.input(4)].reshape(-1) if node.input(4) else None
    shape = conv_shape(node, graph)
    if slope is not None and slope.size == 1:
        slope = np.full(shape.o, slope[0], np.float32)
    if is_product(shape) and shape.groups == 1:
        emit_integer_product(context, node, shape.n, "linear", slope)
        return
    if is_depthwise(shape):
        _depthwise(node, context, shape, weight, bias, slope)
        return
    words = weight_quads(weight)
    pattern, decision = context.decide(node.name, shape.in_quads, words)
    x = _source(context, node, shape)
    over = () if node.input(3) in ("", node.inputs[0]) else (node.input(3),)
    y = place_over(context, node, over)
    ends = requantized(node, graph, reach(weight, bias))
    residual = None
    if node.input(3):
        residual = _words(context, context.tensor(node.input(3)), zero_of(node, graph, 3, "r_zero"))
    single = isinstance(y.layout, Flat) and ends.how.quads
    result = context.temporary(quads((shape.n, shape.o, shape.out_h, shape.out_w), ends.zero)) if single else y
    streams, kernel = emit_conv(
        *(context, node.name, shape.in_quads, words),
        bias_of(context.target, node, graph, weight),
        *(x, result.words if ends.how.quads else result, decision.choice),
        Epilogue(residual, ends.activation, slope, ends),
    )
    if single:
        to_bytes(context, result, y)
    facts = integer_facts(node, graph, operator(shape), pattern, kernel, shape.macs, streams.nbytes)
    reason = facts.reason or decision.reason
    context.layers.append(replace(facts, choice=decision.choice, reason=reason, candidates=decision.candidates))


def _depthwise(
    node: Node,
    context: Context,
    shape: ConvShape,
    weight: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    slope: NDArray[np.float32] | None,
) -> None:
    """A channel per group."""
    graph = context.graph
    x = with_padding(context, _quads(context, node, 0, "x_zero"), zero_of(node, graph, 0, "x_zero"))
    residual = _quads(context, node, 3, "r_zero") if node.input(3) else None
    kernel = emit_quad_depthwise(
        *(context, node.name, shape, weight, bias_of(context.target, node, graph, weight)),
        *(x, context.place(node.outputs[0]), residual, requantized(node, graph, reach(weight, bias)), slope),
    )
    pattern = detect(weight, shape.groups)
    macs, stored = shape.macs, weight.nbytes
    context.layers.append(integer_facts(node, graph, operator(shape), pattern, kernel.name, macs, stored))


def _source(context: Context, node: Node, shape: ConvShape) -> Tensor:
    """The input as quads whose padding holds the zero point of this node."""
    x, zero = context.tensor(node.inputs[0]), zero_of(node, context.graph, 0, "x_zero")
    words = _words(context, x, zero)
    if words.fill == zero or not any(shape.pads):
        return words
    return to_planes(context, words, replace(words.planes, fill=zero))


def _words(context: Context, tensor: Tensor, zero: int) -> Tensor:
    """A tensor of 8-bit integers as 4-byte elements.

    zero    the byte that stands for 0 where it has to be made
    """
    return _in_quads(context, tensor, zero).words


def _quads(context: Context, node: Node, index: int, attribute: str) -> Tensor:
    """An operand in quads."""
    return _in_quads(context, context.tensor(node.inputs[index]), zero_of(node, context.graph, index, attribute))


def _in_quads(context: Context, tensor: Tensor, zero: int) -> Tensor:
    if isinstance(tensor.layout, Flat):
        n, c, h, w = tensor.layout.shape
        return to_quads(context, tensor, quads((n, c, h, w), zero))
    return tensor
