"""What the quantized operators of the normal form compute, bit for bit: the oracle of the kernels.

Each line is one float32 operation after the other, every one rounded by itself (no fused multiply-add); rint takes ties
to even. Factors of scales are divided and multiplied once, when a network is compiled, in the order that the brackets
show. b(...) clamps to the integers that the activation leaves (grid.bounds), all of the type when there is none.

    Quantize          q = clamp(rint(x / scale) + zero)
    Dequantize        x = (q - zero) scale
    QConv, QLinear    n = sum (x - x_zero) w + bias, 32-bit integers; scales s_x, s_w of the row, s_y; r the residual
      the activation only bounds (none, relu, clip):
                      s = n [(s_x s_w) / s_y]
                      with inner numbers:
                      i = clamp(rint(n [(s_x s_w) / s_i]) + i_zero),   s = (i - i_zero) [s_i / s_y]
                      s = s + (r - r_zero) [s_r / s_y]                                             with a residual
                      y = b(rint(s) + y_zero)
      any other, or a float32 result:
                      f = n [s_x s_w]    or    f = (i - i_zero) s_i
                      f = f + (r - r_zero) s_r
                      f = activation(f)                                            the result, where that is float32
                      y = clamp(rint(f [1 / s_y]) + y_zero)
    QAdd              s = (a - a_zero) [s_a / s_y] + (b - b_zero) [s_b / s_y],            y = b(rint(s) + y_zero)
                      f = activation((a - a_zero) s_a + (b - b_zero) s_b),                y as above
    QMul              s = ((a - a_zero)(b - b_zero)) [(s_a s_b) / s_y],                   y = b(rint(s) + y_zero)
                      f = activation(((a - a_zero)(b - b_zero)) [s_a s_b]),               y as above
    QActivate         y = table[byte of x]
    QPool, QGlobalPool
      average         s = (sum of x - x_zero) [s_x / (s_y count)],                        y = clamp(rint(s) + y_zero)
      max             the largest integer; with other numbers, as QConcat
    QConcat           equal numbers are copied; others as Quantize says of what Dequantize says, by a table

ONNX Runtime computes the same bits for QuantizeLinear, DequantizeLinear, QLinearConv and QLinearMatMul, for the average
over whole maps, for the maximum, and for everything that is a table here: functions of one value and moves to other
numbers. It is one step away now and then where it orders operations otherwise: sums (it adds products of scales with
zero points to the sum, so that two roundings differ), averages of windows (it adds floats), and operators between float
ones (it divides by s_y last, as QDQ says; here one product with the quotient of two scales has one rounding less).

Source: the operators' definitions in ONNX; Jacob et al. 2018 for the arithmetic of sums; the order is our own design.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.graph.activations import apply_activation
from secateur.graph.ir import Activation, Node
from secateur.graph.pool_padding import counted_pads
from secateur.graph.quantized import sums
from secateur.graph.quantized.grid import (
    Bytes,
    Floats,
    Grid,
    Integers,
    bounds,
    centred,
    is_linear,
    rounded,
    to_floats,
    to_integers,
)

Array = NDArray[Any]
ONE = np.float32(1)


def compute(node: Node, inputs: Sequence[Array | None], dtype: str) -> Array:
    """The output of one of the quantized operators.

    inputs    arrays, None for operands that are left out
    dtype     element type of the output
    """
    return _OPERATORS[node.op](node.attributes, inputs, dtype)


def output_grid(attributes: Mapping[str, Any], dtype: str) -> Grid:
    """The numbers of an operator's output."""
    return Grid(float(attributes["y_scale"]), int(attributes["y_zero"]), dtype)


def factor(*scales: float | np.float32) -> np.float32:
    """The first scale divided by the second, by the third, each quotient rounded."""
    result = np.float32(scales[0])
    for scale in scales[1:]:
        result = np.float32(result / np.float32(scale))
    return result


def row_factors(attributes: Mapping[str, Any], scale: float | None) -> Floats:
    """Per row of the weight what its sums are multiplied by: [(s_x s_w) / scale], or [s_x s_w] for None."""
    real = np.float32(attributes["x_scale"]) * attributes["w_scale"].astype(np.float32)
    return real if scale is None else real / np.float32(scale)


def _quantize(attributes: Mapping[str, Any], inputs: Sequence[Array | None], dtype: str) -> Array:
    return to_integers(_given(inputs[0]), Grid(attributes["scale"], attributes["zero"], dtype))


def _dequantize(attributes: Mapping[str, Any], inputs: Sequence[Array | None], dtype: str) -> Array:
    q = _given(inputs[0])
    return to_floats(q, Grid(attributes["scale"], attributes["zero"], q.dtype.name))


def _convolution(attributes: Mapping[str, Any], inputs: Sequence[Array | None], dtype: str) -> Array:
    window = (attributes[key] for key in ("strides", "pads", "dilations", "group"))
    n = sums.convolution(_given(inputs[0]), attributes["x_zero"], _given(inputs[1]), *window)
    return _finished(attributes, n, inputs, dtype, (-1, 1, 1))


def _linear(attributes: Mapping[str, Any], inputs: Sequence[Array | None], dtype: str) -> Array:
    n = sums.product(_given(inputs[0]), attributes["x_zero"], _given(inputs[1]))
    return _finished(attributes, n, inputs, dtype, (-1,))


def _finished(
    attributes: Mapping[str, Any],
    n: Integers,
    inputs: Sequence[Array | None],
    dtype: str,
    rows: tuple[int, ...],
) -> Array:
    """The result of a QConv or QLinear with the sums n; `rows` shapes numbers per row of the weight."""
    bias, residual, slope = (inputs[index] if index < len(inputs) else None for index in (2, 3, 4))
    if bias is not None:
        n = n + bias.reshape(rows)
    activation: Activation | None = attributes["activation"]
    in_units = attributes["y_scale"] is not None and is_linear(activation)
    unit = attributes["y_scale"] if in_units else None
    if attributes["inner"] is None:
        value = n.astype(np.float32) * row_factors(attributes, unit).reshape(rows)
    else:
        inner = Grid(*attributes["inner"])
        i = rounded(n.astype(np.float32) * row_factors(attributes, inner.scale).reshape(rows), inner)
        value = _in_units(i, inner.scale, inner.zero, unit)
    if residual is not None:
        value = value + _in_units(residual, attributes["r_scale"], attributes["r_zero"], unit)
    if attributes["y_scale"] is None:
        return _activated(activation, value, slope)
    grid = output_grid(attributes, dtype)
    return _bounded(value, activation, grid) if in_units else _rounded(activation, value, grid, slope)


def _add(attributes: Mapping[str, Any], inputs: Sequence[Array | None], dtype: str) -> Array:
    grid, activation = output_grid(attributes, dtype), attributes["activation"]
    unit = attributes["y_scale"] if is_linear(activation) else None
    a, b = (
        _in_units(_given(x), attributes[f"{key}_scale"], attributes[f"{key}_zero"], unit)
        for key, x in zip("ab", inputs, strict=True)
    )
    return _bounded(a + b, activation, grid) if unit is not None else _rounded(activation, a + b, grid)


def _multiply(attributes: Mapping[str, Any], inputs: Sequence[Array | None], dtype: str) -> Array:
    grid, activation = output_grid(attributes, dtype), attributes["activation"]
    a, b = (centred(_given(x), attributes[f"{key}_zero"]) for key, x in zip("ab", inputs, strict=True))
    both = np.float32(attributes["a_scale"]) * np.float32(attributes["b_scale"])
    product = (a * b).astype(np.float32)
    if is_linear(activation):
        return _bounded(product * factor(both, grid.step), activation, grid)
    return _rounded(activation, product * both, grid)


def _activate(attributes: Mapping[str, Any], inputs: Sequence[Array | None], dtype: str) -> Array:
    return attributes["table"][_given(inputs[0]).view(np.uint8)]


def _pool(attributes: Mapping[str, Any], inputs: Sequence[Array | None], dtype: str) -> Array:
    x, grid = _given(inputs[0]), output_grid(attributes, dtype)
    if attributes["kind"] == "max":
        lowest = np.iinfo(x.dtype).min
        return moved(_windows(attributes, x, lowest, np.maximum), attributes["x_scale"], attributes["x_zero"], grid)
    count = pool_counts(attributes, x.shape[2:])
    total = _windows(attributes, centred(x, attributes["x_zero"]), 0, np.add)
    return _averaged(attributes, total, count, grid)


def pool_counts(attributes: Mapping[str, Any], sides: Sequence[int]) -> Floats:
    """How many positions of a map every window of an average counts: (1, 1, rows, columns)."""
    top, left, bottom, right = counted = counted_pads(attributes)
    counts = np.ones((1, 1, sides[0] + top + bottom, sides[1] + left + right), np.int32)
    rest = tuple(pad - own for pad, own in zip(attributes["pads"], counted, strict=True))
    return _windows({**attributes, "pads": rest}, counts, 0, np.add).astype(np.float32)


def _global_pool(attributes: Mapping[str, Any], inputs: Sequence[Array | None], dtype: str) -> Array:
    x, grid = _given(inputs[0]), output_grid(attributes, dtype)
    if attributes["kind"] == "max":
        return moved(x.max(axis=(2, 3), keepdims=True), attributes["x_scale"], attributes["x_zero"], grid)
    total = centred(x, attributes["x_zero"]).sum(axis=(2, 3), keepdims=True, dtype=np.int32)
    return _averaged(attributes, total, np.array(x.shape[2] * x.shape[3], np.float32), grid)


def _averaged(attributes: Mapping[str, Any], total: Integers, count: Floats, grid: Grid) -> Bytes:
    factors = np.float32(attributes["x_scale"]) / (grid.step * count)
    return rounded(total.astype(np.float32) * factors, grid)


def _concat(attributes: Mapping[str, Any], inputs: Sequence[Array | None], dtype: str) -> Array:
    grid = output_grid(attributes, dtype)
    numbers = zip(inputs, attributes["scales"], attributes["zeros"], strict=True)
    return np.concatenate([moved(_given(x), scale, zero, grid) for x, scale, zero in numbers], attributes["axis"])


_OPERATORS: dict[str, Callable[[Mapping[str, Any], Sequence[Array | None], str], Array]] = {
    "Dequantize": _dequantize,
    "QActivate": _activate,
    "QAdd": _add,
    "QConcat": _concat,
    "QConv": _convolution,
    "QGlobalPool": _global_pool,
    "QLinear": _linear,
    "QMul": _multiply,
    "QPool": _pool,
    "Quantize": _quantize,
}


def _given(array: Array | None) -> Array:
    assert array is not None
    return array


def _in_units(q: Bytes, scale: float, zero: int, unit: float | None) -> Floats:
    """What integers stand for in multiples of `unit`; of 1 for None."""
    return centred(q, zero).astype(np.float32) * (np.float32(scale) if unit is None else factor(scale, unit))


def moved(q: Bytes, scale: float, zero: int, grid: Grid) -> Bytes:
    """The nearest numbers of another grid."""
    return to_integers(to_floats(q, Grid(scale, zero, q.dtype.name)), grid)


def as_spelled(node: Node, inputs: Sequence[Bytes], dtype: str) -> Bytes:
    """QAdd and QMul as QDQ says, operator by operator: for tables, whose roundings cost nothing.

    inputs    of one shape
    """
    given = node.attributes
    a, b = (
        to_floats(x, Grid(given[f"{key}_scale"], given[f"{key}_zero"], x.dtype.name))
        for key, x in zip("ab", inputs, strict=True)
    )
    value = _activated(given["activation"], a + b if node.op == "QAdd" else a * b)
    return to_integers(value, output_grid(given, dtype))


def _bounded(units: Floats, activation: Activation | None, grid: Grid) -> Bytes:
    return rounded(units, grid, *bounds(activation, grid))


def _activated(activation: Activation | None, x: Floats, slope: Array | None = None) -> Floats:
    slopes = None if slope is None else slope.reshape(-1, *(1,) * (x.ndim - 2)).astype(np.float64)
    return x if activation is None else apply_activation(activation, x.astype(np.float64), slopes).astype(np.float32)


def _rounded(activation: Activation | None, x: Floats, grid: Grid, slope: Array | None = None) -> Bytes:
    return rounded(_activated(activation, x, slope) * factor(ONE, grid.step), grid)


def _windows(attributes: Mapping[str, Any], x: Array, outside: int, join: np.ufunc) -> Array:
    """Every window of maps joined to one number; `outside` stands in the padding."""
    (top, left, bottom, right), strides = attributes["pads"], attributes["strides"]
    kernel, dilations = attributes["kernel"], attributes["dilations"]
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=outside)
    rows, columns = (
        (side - (k - 1) * d - 1) // s + 1
        for side, k, s, d in zip(padded.shape[2:], kernel, strides, dilations, strict=True)
    )
    result: Array | None = None
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            y, z = i * dilations[0], j * dilations[1]
            part = padded[:, :, y : y + (rows - 1) * strides[0] + 1 : strides[0]]
            part = part[:, :, :, z : z + (columns - 1) * strides[1] + 1 : strides[1]]
            result = part if result is None else join(result, part)
    return _given(result)
