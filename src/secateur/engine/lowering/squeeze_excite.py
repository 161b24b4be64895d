"""SqueezeExcite nodes: means of planes, two products of few rows, planes times their gates.

Gates are so few that nothing is won by computing them elsewhere; the time is that of reading x twice and writing it
once, in place where nobody else needs it. A residual sum and an activation behind the gate cost no pass of their own.
"""

from secateur.engine.emit.activations import supported
from secateur.engine.layout import Flat
from secateur.engine.lowering.context import Context, lowers
from secateur.engine.lowering.elementwise import emit_elementwise
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.linear import emit_product
from secateur.engine.lowering.pooling import emit_global_pool
from secateur.engine.lowering.refusals import normal_float32
from secateur.graph.ir import Graph, Node


def _refuses(node: Node, graph: Graph) -> str | None:
    unknown = [a for a in map(node.attributes.get, ("hidden", "gate", "activation")) if not supported(a)]
    return f"the activation {unknown[0]} has no kernel" if unknown else normal_float32(node, graph)


@lowers("SqueezeExcite", refuses=_refuses)
def squeeze_excite(node: Node, context: Context) -> None:
    """SqueezeExcite of the normal form: inputs (x, w1, b1, w2, b2, residual)."""
    graph, attributes = context.graph, node.attributes
    x = context.tensor(node.inputs[0])
    n, c = x.shape[:2]
    row = context.temporary(Flat((n, c)))
    emit_global_pool(context, node.name, x, row, "sum")
    parts = zip(attributes["layers"], ("squeeze", "excite"), ("hidden", "gate"), (1, 3), strict=True)
    for layer, operator, key, index in parts:
        weight = graph.constants[node.inputs[index]]
        bias = graph.constants[node.input(index + 1)] if node.input(index + 1) else None
        result = context.temporary(Flat((n, len(weight), 1, 1)))
        epilogue = Epilogue(activation=attributes[key])
        emit_product(context, layer, row, result, n, weight, bias, epilogue, weight.shape, operator)
        row = result
    residual = node.input(5)
    operands = [node.inputs[0], row, *([residual] if residual else [])]
    emit_elementwise(context, node, "ScaleShift" if residual else "Mul", operands, attributes["activation"])
