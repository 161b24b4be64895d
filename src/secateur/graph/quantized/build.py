"""How QConv and QLinear nodes are made."""

from typing import Any

import numpy as np

from secateur.graph.ir import ABSENT, Node
from secateur.graph.quantized.grid import Grid
from secateur.graph.quantized.sources import Sources, Weight
from secateur.graph.rewrite import Draft, fused

EMPTY: dict[str, Any] = {
    "inner": None,
    "r_scale": None,
    "r_zero": 0,
    "activation": None,
    "y_scale": None,
    "y_zero": 0,
}


def sum_node(
    draft: Draft, sources: Sources, op: str, like: Node, x: str, grid: Grid, weight: Weight, bias: str, **window: Any
) -> Node | str:
    """A QConv or QLinear in the place of `like` whose result is float32, or why there is none.

    x, grid    the integers that it reads, and their numbers
    bias       a constant in the file's words, ABSENT for none
    window     further attributes
    """
    scale = np.ascontiguousarray(np.broadcast_to(weight.scale, (len(weight.values),)))
    w_name = f"{like.name}.weight"
    b_name = ABSENT
    if bias:
        numbers = sources.bias(draft, bias, units(grid, scale))
        if isinstance(numbers, str):
            return numbers
        if numbers.any():
            b_name = draft.constant(f"{like.name}.bias", numbers)
    inputs = (x, draft.constant(w_name, weight.values), b_name)
    attributes = {**window, "x_scale": grid.scale, "x_zero": grid.zero, "w_scale": scale}
    return fused(op, like, inputs, like.outputs[:1], **attributes, **EMPTY)


def units(grid: Grid, scale: Any) -> Any:
    """What one of a row's sum stands for, as float64: the scale of its bias."""
    return (grid.step * scale.astype(np.float32)).astype(np.float64)
