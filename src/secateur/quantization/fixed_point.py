"""Multipliers of requantization as integers and shifts, for hardware without floats.

    step_x step_w / step_y  ~  m / 2^k ,        m an integer of `bits` bits, 2^(bits-1) <= m < 2^bits

The relative error is at most 2^-bits. Source: Distiller's `approximate_scale` (linear quantization); Jacob et al. 2018,
section 2.2.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import ArrayLike, NDArray

from secateur.errors import QuantizationError
from secateur.quantization.numbers import Scale
from secateur.quantization.points import is_rectifier
from secateur.quantization.rewriting import only_reader, operand
from secateur.quantization.table import ScaleTable


def fixed_point(factor: ArrayLike, bits: int = 15) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(m, k) of positive factors, so that m / 2^k is as near as `bits` bits allow.

    raises    QuantizationError  factors that are not positive numbers, or other than 1 to 31 bits
    """
    factors = np.asarray(factor, np.float64)
    if not 1 <= bits <= 31:
        raise QuantizationError(f"a multiplier has 1 to 31 bits, not {bits}.")
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise QuantizationError("multipliers approximate positive numbers.")
    fraction, exponent = np.frexp(factors)
    m = np.rint(np.ldexp(fraction, bits)).astype(np.int64)
    k = bits - exponent.astype(np.int64)
    # 0.99999 rounds up to a power of two, which has one bit more.
    over = m == 2**bits
    return np.where(over, m >> 1, m), np.where(over, k - 1, k)


def with_fixed_point(model: onnx.ModelProto, table: ScaleTable, bits: int = 15) -> ScaleTable:
    """The table with steps of weights moved to where all multipliers of layers are m / 2^k.

    Weights are rounded with the moved steps, which are at most a share of 2^-bits away. A weight that several layers
    use, or whose layer gives floats, keeps its steps.

    raises    QuantizationError
    """
    graph = ir.from_proto(model).graph
    weights: dict[str, Scale] = dict(table.weights)
    users: dict[str, int] = {}
    for node in graph:
        name = _name(operand(node, 1))
        users[name] = users.get(name, 0) + 1
    for node in graph:
        name, source = _name(operand(node, 1)), _name(operand(node, 0))
        result = _result(node)
        if name not in weights or users[name] != 1 or source not in table.values or result not in table.values:
            continue
        ratio = np.float64(table.values[source].step) / np.float64(table.values[result].step)
        m, k = fixed_point(weights[name].step * ratio, bits)
        weights[name] = replace(weights[name], step=(np.ldexp(m.astype(np.float64), -k) / ratio).astype(np.float32))
    return replace(table, weights=weights)


def multipliers(model: onnx.ModelProto, table: ScaleTable, bits: int = 15) -> Mapping[str, tuple[list[int], list[int]]]:
    """Name of a layer -> (m, k) of its channels. raises QuantizationError."""
    found: dict[str, tuple[list[int], list[int]]] = {}
    for node in ir.from_proto(model).graph:
        name, source, result = _name(operand(node, 1)), _name(operand(node, 0)), _result(node)
        if name in table.weights and source in table.values and result in table.values:
            ratio = np.float64(table.values[source].step) / np.float64(table.values[result].step)
            m, k = fixed_point(np.atleast_1d(table.weights[name].step) * ratio, bits)
            found[node.name or ""] = (m.tolist(), k.tolist())
    return found


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""


def _result(node: ir.Node) -> str:
    tail = only_reader(node.outputs[0])
    return _name(tail.outputs[0] if tail is not None and is_rectifier(tail) else node.outputs[0])
