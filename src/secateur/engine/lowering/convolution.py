"""Conv nodes: their numbers, the zeros in their weights, the choice, the steps, the facts."""

import numpy as np

from secateur.engine.facts import LayerFacts
from secateur.engine.lowering.context import Context, lowers
from secateur.engine.lowering.conv import emit_conv
from secateur.engine.lowering.conv_shape import ConvShape, conv_shape
from secateur.engine.lowering.depthwise import emit_depthwise, is_depthwise
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.in_place import place_over
from secateur.engine.lowering.linear import emit_linear
from secateur.engine.lowering.pairs import multiplied, paired_maps
from secateur.engine.lowering.refusals import convolution
from secateur.engine.weights.pattern import detect
from secateur.graph.ir import Node

# Elements of a matrix that has the weights of all groups, and zeros between them.
MOST_BETWEEN_GROUPS = 1 << 22


@lowers("Conv", refuses=convolution)
def conv(node: Node, context: Context) -> None:
    """Conv of the normal form: inputs (x, w, bias, residual, slope)."""
    graph = context.graph
    shape = conv_shape(node, graph)
    weight = graph.constants[node.inputs[1]]
    bias = graph.constants[node.input(2)] if node.input(2) else None
    slope = graph.constants[node.input(4)].reshape(-1) if node.input(4) else None
    residual = context.tensor(node.input(3)) if node.input(3) else None
    activation = node.attributes.get("activation")
    if slope is not None and slope.size == 1:
        slope = np.full(shape.o, slope[0], np.float32)
    if is_product(shape) and (shape.groups == 1 or context.zeros):
        matrix, epilogue = weight.reshape(shape.o, -1), Epilogue(residual, activation, slope)
        kind = "linear" if shape.groups == 1 else operator(shape)
        emit_linear(context, node, shape.n, matrix, bias, epilogue, weight.shape, kind, shape.groups)
        return
    own, words = multiplied(context, shape, weight)
    if is_depthwise(shape):
        pattern, decision = detect(weight, shape.groups), None
    else:
        pattern, decision = context.decide(node.name, own, words)
        pattern = detect(weight, shape.groups) if own.pairs else pattern
    # Sums may replace the residual operand that they are added to, whose cache lines are at hand; but not what the
    # convolution still reads, and not while sums of a block of positions wait in the output.
    blocked = decision is not None and decision.choice.block is not None
    over = () if blocked or node.input(3) in ("", node.inputs[0]) else (node.input(3),)
    y = place_over(context, node, over)
    epilogue = Epilogue(residual, activation, slope)
    if decision is None:
        x = context.tensor(node.inputs[0])
        kernel = emit_depthwise(context, node.name, shape, weight, bias, x, y, epilogue).name
        stored = weight.nbytes
    else:
        x = paired_maps(context, node.inputs[0]) if own.pairs else context.tensor(node.inputs[0])
        streams, kernel = emit_conv(context, node.name, own, words, bias, x, y, decision.choice, epilogue)
        stored = streams.nbytes
    context.layers.append(
        LayerFacts(
            layer=node.name,
            operator=operator(shape),
            shape=weight.shape,
            output=graph.shape(node.outputs[0]),
            density=pattern.density,
            pattern=str(pattern),
            kernel=kernel,
            choice=decision.choice if decision else None,
            macs=shape.macs,
            work=round(shape.macs * pattern.density),
            weight_bytes=stored,
            reason=decision.reason if decision else "",
            candidates=decision.candidates if decision else (),
            bits=16 if own.pairs and decision else 32,
        )
    )


def is_product(shape: ConvShape) -> bool:
    """The kernel covers the whole map, so that one pixel remains: a product of matrices.

    Groups are parts of one matrix with zeros between them (3 to 20 times as fast as planes of one pixel).
    """
    whole = shape.kernel == (shape.h, shape.w) and shape.dilations == (1, 1) and shape.pads == (0, 0, 0, 0)
    return whole and (shape.groups == 1 or shape.o * shape.c * shape.h * shape.w <= MOST_BETWEEN_GROUPS)


def operator(shape: ConvShape) -> str:
    """The kind of convolution in words."""
    if shape.groups == 1:
        return "conv"
    return "depthwise" if shape.groups == shape.c == shape.o else "grouped conv"
