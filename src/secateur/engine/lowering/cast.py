"""Cast between the types that kernels know."""

from secateur.engine.kernels.convert import TYPES
from secateur.engine.layout import INTEGERS, Flat, stored_zero
from secateur.engine.lowering.context import Context, lowers
from secateur.engine.lowering.quantize import emit_dequantize
from secateur.engine.lowering.refusals import elements
from secateur.engine.lowering.relayout import convert, to_flat, to_planes
from secateur.graph.ir import Graph, Node


def _refuses(node: Node, graph: Graph) -> str | None:
    kinds = [graph.type(name).dtype for name in (node.inputs[0], node.outputs[0])]
    if kinds[0] in INTEGERS and kinds[1] == "float32":
        return elements(node, graph)
    if any(kind not in TYPES for kind in kinds):
        return f"it converts {kinds[0]} to {kinds[1]}"
    return elements(node, graph)


@lowers("Cast", refuses=_refuses)
def cast(node: Node, context: Context) -> None:
    """Elements of another type."""
    from_, to = (context.graph.type(name).dtype for name in (node.inputs[0], node.outputs[0]))
    if from_ in INTEGERS:
        emit_dequantize(
            context, context.tensor(node.inputs[0]), context.place(node.outputs[0]), 1.0, stored_zero(0, from_)
        )
        return
    x, y = to_flat(context, context.tensor(node.inputs[0])), context.place(node.outputs[0])
    out = y if isinstance(y.layout, Flat) else context.temporary(Flat(y.shape))
    convert(context, x, out, from_, to)
    if out is not y:
        to_planes(context, out, target=y)
