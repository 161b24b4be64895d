"""MatMul of two values that are computed while the network runs."""

import numpy as np

from secateur.engine.kernels.matmul import MatMul
from secateur.engine.lowering.context import Context, lowers
from secateur.engine.lowering.refusals import normal_float32
from secateur.engine.lowering.walk import starts_of, strides_in, strides_of
from secateur.graph.ir import Graph, Node

# Register tiles by number of registers: sums, vectors of b and one broadcast element.
_TILES = {32: ((6, 4), (8, 3), (12, 2)), 16: ((4, 3), (6, 2))}


def _refuses(node: Node, graph: Graph) -> str | None:
    reason = normal_float32(node, graph)
    if reason is None and min(len(graph.shape(name)) for name in node.inputs) < 2:
        return "an operand is a vector"
    return reason


@lowers("MatMul", refuses=_refuses)
def matmul(node: Node, context: Context) -> None:
    """Products of all pairs of matrices, broadcast as numpy does."""
    a, b = (context.tensor(name) for name in node.inputs)
    y = context.place(node.outputs[0])
    outer, (height, width) = y.shape[:-2], y.shape[-2:]
    steps = [[*strides_in(operand, (*outer, *operand.shape[-2:]))] for operand in (a, b)]
    batches = np.array([step[:-2] for step in (*steps, strides_of(y))], np.int64).reshape(3, -1)
    starts = starts_of(outer, batches)
    rows, vectors = _tile(context, height, width)
    blocks = -(-height // rows)
    context.emit(
        node.name,
        MatMul(rows, vectors),
        {
            "a": a.address,
            "b": b.address,
            "y": y.address,
            "blocks": blocks,
            "a_starts": starts[0],
            "b_starts": starts[1],
            "y_starts": starts[2],
            "height": height,
            "depth": a.shape[-1],
            "width": width,
            "a_step": strides_of(a)[-2],
            "b_step": strides_of(b)[-2],
            "y_step": strides_of(y)[-2],
        },
        starts.shape[1] * blocks,
        reads=(a, b),
        writes=(y,),
    )


def _tile(context: Context, height: int, width: int) -> tuple[int, int]:
    """The tile that computes the fewest elements outside the product."""
    lanes = context.target.lanes

    def computed(tile: tuple[int, int]) -> int:
        rows, columns = tile[0], tile[1] * lanes
        return -(-height // rows) * rows * -(-width // columns) * columns

    return min(_TILES[context.target.registers], key=computed)
