"""QConcat nodes: values of different numbers become those of the result, by tables, and are put behind each other."""

from dataclasses import replace

from secateur.engine.layout import INTEGERS, Flat, Planes, Quads, stored_zero
from secateur.engine.lowering.concat import emit_concat
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.quad_elementwise import emit_table, equal_numbers, moved_table
from secateur.engine.lowering.refusals import elements
from secateur.graph.ir import Graph, Node
from secateur.graph.quantized.arithmetic import output_grid
from secateur.graph.quantized.grid import Grid


def _refuses(node: Node, graph: Graph) -> str | None:
    kinds = {graph.type(name).dtype for name in (*node.inputs, *node.outputs)}
    if not kinds <= set(INTEGERS) or any(name in graph.constants for name in node.inputs):
        return f"it works on {', '.join(sorted(kinds))}, or an operand is constant"
    return elements(node, graph)


@lowers("QConcat", refuses=_refuses)
def concat(node: Node, context: Context) -> None:
    """Parts with the numbers of the result may lie there already."""
    emit_concat(context, node, [_part(context, node, index) for index in range(len(node.inputs))])


def _part(context: Context, node: Node, index: int) -> Tensor:
    graph, attributes = context.graph, node.attributes
    x = context.tensor(node.inputs[index])
    if equal_numbers(node, index, graph):
        return x
    given = Grid(attributes["scales"][index], attributes["zeros"][index], graph.type(node.inputs[index]).dtype)
    wanted = output_grid(attributes, graph.type(node.outputs[0]).dtype)
    if isinstance(x.layout, Quads):
        assert isinstance(x.layout.words, Planes)
        words = x.layout.words
        fill = stored_zero(wanted.zero, wanted.dtype)
        made = context.temporary(
            replace(x.layout, words=replace(words, fill=fill, image_stride=words.c * words.plane_stride))
        )
    else:
        made = context.temporary(Flat(x.shape), item=1)
    emit_table(context, node, x, made, moved_table(given, wanted))
    return made
