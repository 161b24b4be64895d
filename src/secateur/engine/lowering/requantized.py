"""The constants with which sums of 8-bit products become results (graph.quantized.arithmetic, kernels.requantize)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.engine.emit.integers import dot_lowers
from secateur.engine.kernels.requantize import NUMBERS, Requantize
from secateur.engine.layout import stored_zero
from secateur.engine.program import Argument
from secateur.engine.target import Target
from secateur.engine.weights.quads import row_sums
from secateur.graph.ir import Activation, Graph, Node
from secateur.graph.quantized import Grid, bounds, is_linear, row_factors
from secateur.graph.quantized.arithmetic import factor

# A byte below the bits of this float makes it 2^23 plus the byte.
BIG = 1 << 23
# Sums in units of the output that an integer of 32 bits certainly holds.
_MOST = 1 << 30


@dataclass(frozen=True)
class Requantized:
    """How sums become results.

    how         steps of the kernel
    scales      (O,) float32
    numbers     table of NUMBERS
    zero        the output's zero point as stored; 0 for floats
    activation  what is left to be applied: bounds of integers are in the numbers
    """

    how: Requantize
    scales: NDArray[np.float32]
    numbers: NDArray[np.float32]
    zero: int
    activation: Activation | None

    def arguments(self, width: int) -> dict[str, Argument]:
        """What a kernel gets that writes outputs one by one, in slabs of `width` in all."""
        scales = np.zeros(width, np.float32)
        scales[: len(self.scales)] = self.scales
        return {"scales": scales, "numbers": self.numbers, "zero": self.zero * 0x10001, "fill": 0}


def requantized(node: Node, graph: Graph, reach: NDArray[np.int64]) -> Requantized:
    """The constants of a node.

    reach    (O,) the largest magnitude that the sum of an output channel can have, bias included
    """
    attributes = node.attributes
    activation: Activation | None = attributes["activation"]
    dtype = graph.type(node.outputs[0]).dtype
    integers = attributes["y_scale"] is not None
    linear = integers and is_linear(activation)
    unit = attributes["y_scale"] if linear else None
    values: dict[str, float] = dict.fromkeys(NUMBERS, 0.0)
    if attributes["inner"] is not None:
        inner = Grid(*attributes["inner"])
        values["inner_low"], values["inner_high"] = inner.lowest - inner.zero, inner.highest - inner.zero
        values["inner_scale"] = _in_units(inner.scale, unit)
        scales = row_factors(attributes, inner.scale)
    else:
        scales = row_factors(attributes, unit)
    if node.input(3):
        values["r_zero"] = BIG + stored_zero(attributes["r_zero"], graph.type(node.input(3)).dtype)
        values["r_scale"] = _in_units(attributes["r_scale"], unit)
    zero, clamped = 0, False
    if integers:
        grid = Grid(attributes["y_scale"], attributes["y_zero"], dtype)
        zero = stored_zero(grid.zero, dtype)
        low, high = bounds(activation, grid) if linear else (grid.lowest, grid.highest)
        values["factor"] = float(factor(1.0, grid.step))
        values["low"], values["high"] = low - grid.zero, high - grid.zero
        clamped = not linear or (low, high) != (grid.lowest, grid.highest)
        clamped = clamped or _largest(attributes, values, scales, reach) > _MOST
    how = Requantize(integers, attributes["inner"] is not None, integers and not linear, clamped)
    numbers = np.array([values[name] for name in NUMBERS], np.float32)
    return Requantized(how, scales.astype(np.float32), numbers, zero, None if linear else activation)


def _largest(
    attributes: Mapping[str, Any], values: Mapping[str, float], scales: NDArray[np.float32], reach: NDArray[np.int64]
) -> float:
    """The largest magnitude of a result before it is rounded, without activation."""
    own = float((reach * scales.astype(np.float64)).max(initial=0.0))
    if attributes["inner"] is not None:
        own = 255 * values["inner_scale"]
    return own + 255 * values["r_scale"]


def _in_units(scale: float, unit: float | None) -> float:
    return float(np.float32(scale) if unit is None else factor(scale, unit))


def bias_of(target: Target, node: Node, graph: Graph, weight: NDArray[np.int8]) -> NDArray[np.int32]:
    """(O,) what sums of a QConv or QLinear start from, so that products with bytes as stored may be added to them."""
    given = graph.constants[node.input(2)].reshape(-1).astype(np.int64) if node.input(2) else 0
    lowered = zero_of(node, graph, 0, "x_zero") - dot_lowers(target)
    # Kernels count modulo 2^32; only the whole sum has to fit.
    return (given - lowered * row_sums(weight)).astype(np.uint32).view(np.int32)


def zero_of(node: Node, graph: Graph, index: int, attribute: str) -> int:
    """The zero point of an operand, as stored."""
    return stored_zero(int(node.attributes[attribute]), graph.type(node.inputs[index]).dtype)


def plainly(outputs: int) -> Requantized:
    """Results in bytes without bounds of their own, as after a ReLU: what tuning ends layers with."""
    scales, numbers = np.full(outputs, 1e-4, np.float32), np.zeros(len(NUMBERS), np.float32)
    return Requantized(Requantize(clamped=False), scales, numbers, 0, None)
