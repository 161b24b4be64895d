"""Writing a result over an operand that nobody needs any more."""

from secateur.engine.layout import Flat
from secateur.engine.lowering.context import Context, Tensor
from secateur.graph.ir import Node


def place_over(context: Context, node: Node, operands: tuple[str, ...]) -> Tensor:
    """The place of a node's only output: that of the first of `operands` whose memory is free and lies so, else new.

    An operand is free when no value that overlaps it is read by a later node, is an output of the graph, or is another
    operand that lies differently (a slice of it that is broadcast).
    """
    output = node.outputs[0]
    kind = context.graph.type(output)
    if output not in context.views and output not in context.places:
        wanted = context.layout_of(output)
        for name in operands:
            tensor = context.tensor(name)
            same = tensor.layout == wanted and context.graph.type(name).dtype == kind.dtype
            others = [context.tensor(other) for other in node.reads()]
            alone = all(other == tensor or not _overlap(tensor, other) for other in others if other.constant is None)
            inside = tensor.buffer is not None and not tensor.buffer.external
            if same and inside and alone and _free(context, node, tensor):
                context.places[output] = tensor
                return tensor
    return context.place(output)


def _free(context: Context, node: Node, tensor: Tensor) -> bool:
    sharing = {name for name, other in context.places.items() if _overlap(tensor, other)}
    if not sharing.isdisjoint(context.graph.outputs):
        return False
    for later in reversed(context.graph.nodes):
        if later is node:
            return True
        if not sharing.isdisjoint(later.reads()):
            return False
    raise AssertionError(f"{node.name} is not a node of the graph")


def _overlap(a: Tensor, b: Tensor) -> bool:
    if a.buffer is None or b.buffer is None or a.buffer.name != b.buffer.name:
        return False
    if any(not isinstance(t.layout, Flat) and t.layout.n > 1 for t in (a, b)):
        return True  # images of several tensors may be interleaved
    return a.offset < b.offset + b.layout.size and b.offset < a.offset + a.layout.size
