"""What follows a sum of integers: bias, residual, activation, rounding."""

import numpy as np

from secateur.graph.ir import Activation, Graph, Node
from secateur.graph.passes.fold_scale import per_channel
from secateur.graph.quantized.build import units
from secateur.graph.quantized.grid import Grid, bounds, is_linear
from secateur.graph.quantized.sources import Sources, grid_of, scales_of_channels
from secateur.graph.rewrite import Draft, fuse_pairs, is_fused, merged

_SUMS = ("QConv", "QLinear")
RESIDUAL = 3


def quantized_epilogue(graph: Graph) -> Graph:
    """Fuse into QConv and QLinear what follows them, in this order, each at most once.

    1. Add with a constant per output, which joins the bias, rounded to multiples of x_scale w_scale.
    2. Add with a dequantized value of the same shape, its residual; or a QAdd with the value that it writes: the
       numbers of that value become the inner ones.
    3. An activation. A prelu, which brings slopes, is fused into QConv only.
    4. Quantize.
    5. What stands in between has no other reader and is no output of the graph.
    6. QuantizeLinear with one scale per channel and one zero point, behind a QConv without residual whose activation
       only bounds and cuts off nothing above the numbers: its scales go into those of the weight, and the output has
       the scale 1.
    7. A relu or clip that cuts off nothing the output could hold is dropped.
    """
    sources = Sources(graph)

    def merge(draft: Draft, head: Node, tail: Node) -> Node | None:
        if is_fused(head, "QConv") and tail.op == "QuantizeLinear":
            return _quantized_by_channel(draft, head, tail)
        if not is_fused(head, *_SUMS) or not is_fused(tail, "Add", "QAdd", "Activate", "Quantize"):
            return None
        if head.attributes["y_scale"] is not None:
            return _inner(draft, head, tail) if tail.op == "QAdd" else None
        if tail.op == "Quantize":
            return quantized(draft, head, tail)
        if head.attributes["activation"] is not None or tail.op == "QAdd":
            return None
        if tail.op == "Activate":
            return _activated(head, tail)
        other = next(name for name in tail.inputs if name != head.outputs[0])
        if draft.array(other) is not None:
            return None if head.input(RESIDUAL) else _biased(draft, head, tail, other)
        found = sources.integers(draft, other)
        if found is None or head.input(RESIDUAL) or not _same_shape(draft, tail):
            return None
        grid = found[1]
        inputs = (*(head.input(index) for index in range(RESIDUAL)), found[0])
        activation = tail.attributes["activation"]
        return merged(head, tail, inputs, r_scale=grid.scale, r_zero=grid.zero, activation=activation)

    return fuse_pairs(graph, merge)


def quantized(draft: Draft, head: Node, tail: Node) -> Node:
    """A node with a float32 result and the Quantize behind it as one; rule 7."""
    grid = grid_of(draft, tail)
    activation = needed(head.attributes["activation"], grid)
    return merged(head, tail, y_scale=grid.scale, y_zero=grid.zero, activation=activation)


def _quantized_by_channel(draft: Draft, head: Node, tail: Node) -> Node | None:
    """Rule 6."""
    found = scales_of_channels(draft, tail, tail.outputs[0])
    given = head.attributes
    activation: Activation | None = given["activation"]
    if found is None or given["y_scale"] is not None or head.input(RESIDUAL) or not is_linear(activation):
        return None
    scales, grid = found
    if activation is not None and activation.kind == "clip":
        ends = [bounds(activation, Grid(float(scale), grid.zero, grid.dtype)) for scale in scales]
        if any(high != grid.highest or (activation.alpha != 0 and low != grid.lowest) for low, high in ends):
            return None
        activation = Activation("relu") if activation.alpha == 0 else None
    w_scale = (given["w_scale"] / scales).astype(np.float32)
    return merged(head, tail, w_scale=w_scale, y_scale=1.0, y_zero=grid.zero, activation=needed(activation, grid))


def needed(activation: Activation | None, grid: Grid) -> Activation | None:
    """The activation, None where the numbers of the result end where it would cut."""
    if is_linear(activation) and bounds(activation, grid) == (grid.lowest, grid.highest):
        return None
    return activation


def _same_shape(draft: Draft, tail: Node) -> bool:
    return len({draft.shape(name) for name in (*tail.inputs, *tail.outputs)}) == 1


def _inner(draft: Draft, head: Node, tail: Node) -> Node | None:
    """Rule 2 for a QAdd."""
    if head.input(RESIDUAL) or head.attributes["activation"] is not None or not _same_shape(draft, tail):
        return None
    other = "b" if tail.inputs[0] == head.outputs[0] else "a"
    given = tail.attributes
    return merged(
        head,
        tail,
        (*(head.input(index) for index in range(RESIDUAL)), tail.inputs["ab".index(other)]),
        inner=(head.attributes["y_scale"], head.attributes["y_zero"], draft.types[head.outputs[0]].dtype),
        r_scale=given[f"{other}_scale"],
        r_zero=given[f"{other}_zero"],
        **{key: given[key] for key in ("activation", "y_scale", "y_zero")},
    )


def _activated(head: Node, tail: Node) -> Node | None:
    """Rule 3."""
    activation: Activation = tail.attributes["activation"]
    if activation.kind != "prelu":
        return merged(head, tail, activation=activation)
    if head.op != "QConv":
        return None
    inputs = (*head.inputs[:2], head.input(2), head.input(RESIDUAL), tail.inputs[1])
    return merged(head, tail, inputs, activation=activation)


def _biased(draft: Draft, head: Node, tail: Node, other: str) -> Node | None:
    """Rule 1."""
    operand, shape = draft.constants[other], draft.shape(head.outputs[0])
    axis = 1 if head.op == "QConv" else len(shape) - 1
    vector = per_channel(operand, shape, axis) if draft.shape(tail.outputs[0]) == shape else None
    if vector is None or not np.isfinite(vector).all():
        return None
    grid = Grid(head.attributes["x_scale"], head.attributes["x_zero"], draft.types[head.inputs[0]].dtype)
    total = np.rint(vector.astype(np.float64) / units(grid, head.attributes["w_scale"]))
    if head.input(2):
        total = total + draft.constants[head.inputs[2]]
    if not np.all(np.abs(total) < 2**31):
        return None
    bias = draft.constant(f"{head.name}.bias", total.astype(np.int32))
    return merged(head, tail, (*head.inputs[:2], bias), activation=tail.attributes["activation"])
