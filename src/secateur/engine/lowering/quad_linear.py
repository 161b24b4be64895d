"""QLinear nodes, and QConv nodes whose maps become one pixel: products of 8-bit integers with a matrix of weights.

The kernels are those of float products: slabs of outputs in lanes, dense or with the nonzero quads of each output.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secateur.engine.emit.activations import supported
from secateur.engine.facts import LayerFacts
from secateur.engine.layout import Flat, Quads
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.linear import emit_slabs
from secateur.engine.lowering.linear_choice import choose_way
from secateur.engine.lowering.quad_relayout import per_channel, to_bytes, to_quads
from secateur.engine.lowering.refusals import elements
from secateur.engine.lowering.relayout import to_planes
from secateur.engine.lowering.requantized import bias_of, requantized
from secateur.engine.weights.pattern import DENSE, FILL, Pattern, detect
from secateur.engine.weights.quads import reach, weight_quads
from secateur.graph.ir import Graph, Node


def _refuses(node: Node, graph: Graph) -> str | None:
    if not supported(node.attributes["activation"]):
        return f"the activation {node.attributes['activation']} has no kernel"
    return elements(node, graph)


@lowers("QLinear", refuses=_refuses)
def integer_linear(node: Node, context: Context) -> None:
    """QLinear of the normal form: inputs (x, w, bias, residual)."""
    graph = context.graph
    rows = graph.type(node.inputs[0]).size // graph.shape(node.inputs[1])[1]
    emit_integer_product(context, node, rows, "linear")


def emit_integer_product(
    context: Context, node: Node, rows: int, kind: str, slope: NDArray[np.float32] | None = None
) -> None:
    """Steps and facts of a node that is (rows, inputs) times (outputs, inputs) transposed.

    kind    what the report calls it
    """
    graph = context.graph
    weight: NDArray[np.int8] = graph.constants[node.inputs[1]]
    weight = weight.reshape(len(weight), -1)
    bias = graph.constants[node.input(2)] if node.input(2) else None
    words = weight_quads(weight)
    x = to_bytes(context, context.tensor(node.inputs[0]))
    x = per_channel(context, Tensor(Flat((rows, weight.shape[1], 1, 1)), x.buffer, x.offset))
    residual = to_bytes(context, context.tensor(node.input(3))) if node.input(3) else None
    y = context.place(node.outputs[0])
    ends = requantized(node, graph, reach(weight, bias))
    # Bytes are cut from numbers of 32 bits, not packed.
    ends = replace(ends, how=replace(ends.how, clamped=ends.how.quads))
    out = y if isinstance(y.layout, Flat) else context.temporary(Flat(y.shape), item=1 if ends.how.quads else 4)
    pattern = detect(words)
    way, reason = choose_way(context, node.name, rows, words, pattern)
    stored, kernel = emit_slabs(
        *(context, node.name, rows, words, bias_of(context.target, node, graph, weight)),
        *(x, out, way.block, Epilogue(residual, ends.activation, slope, ends)),
    )
    if isinstance(y.layout, Quads):
        to_quads(context, out, y.layout, y)
    elif out is not y:
        to_planes(context, out, target=y)
    facts = integer_facts(node, graph, kind, pattern, kernel, rows * weight.size, stored)
    context.layers.append(replace(facts, reason=facts.reason or reason))


def integer_facts(
    node: Node, graph: Graph, kind: str, pattern: Pattern, kernel: str, macs: int, stored: int
) -> LayerFacts:
    """What the report tells of a QConv or QLinear.

    kind      of layer, in words
    stored    bytes of its weights as the kernel reads them
    """
    weight = graph.constants[node.inputs[1]]
    density = float(np.count_nonzero(weight) / max(weight.size, 1))
    shape, output = weight.shape, graph.shape(node.outputs[0])
    work = round(macs * density)
    zeros, reason = zeros_of_quads(pattern, density), ""
    if pattern.kind == "dense" and density <= DENSE and pattern.single is None:
        reason = f"{100 * (1 - density):.0f} % zeros leave hardly four neighbouring input channels without a weight"
    facts = LayerFacts(node.name, kind, shape, output, density, zeros, kernel, None, macs, work, stored, reason)
    return replace(facts, bits=8)


def zeros_of_quads(pattern: Pattern, density: float) -> str:
    """What the zeros of 8-bit weights look like, in words.

    pattern    of the quads
    density    nonzeros / weights
    """
    single = pattern.single
    if density > DENSE:
        return "dense"
    zeros = f"{100 * (1 - density):.1f} %"
    if pattern.kind == "dense" or density < FILL * pattern.density:
        if single and single.kind == "blocks":
            return str(single)
        return f"unstructured {zeros}, {100 * pattern.sparsity:.0f} % of fours"
    return f"{pattern.n}x4-in {zeros}" if pattern.n > 1 else f"4-in {zeros}"
