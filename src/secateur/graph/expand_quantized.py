"""Operators on 8-bit integers as ONNX operators.

What is written computes the bits that quantized/arithmetic.py says, as long as nobody rearranges it: sums of integers,
products with the quotients of scales, and a QuantizeLinear with scale 1 at the end. ONNX Runtime rearranges sums of two
quantized values, which then are one step away now and then.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from secateur.graph.expand_activation import expand_activation
from secateur.graph.expand_writer import Writer
from secateur.graph.ir import Activation
from secateur.graph.quantized.arithmetic import ONE, factor, output_grid, pool_counts, row_factors
from secateur.graph.quantized.grid import Grid, bounds, is_linear

_INT32, _FLOAT = onnx.TensorProto.INT32, onnx.TensorProto.FLOAT


def expand_quantized(writer: Writer) -> None:
    """Write one node of the operators in QUANTIZED."""
    QUANTIZED[writer.node.op](writer)


def _quantize(w: Writer) -> None:
    grid = Grid(w.node.attributes["scale"], w.node.attributes["zero"], w.node.attributes["dtype"])
    w.emit("QuantizeLinear", (w.node.inputs[0], *_numbers(w, grid.scale, grid.zero, grid.dtype)), w.out)


def _dequantize(w: Writer) -> None:
    x, given = w.node.inputs[0], w.node.attributes
    w.emit("DequantizeLinear", (x, *_numbers(w, given["scale"], given["zero"], w.draft.types[x].dtype)), w.out)


def _convolution(w: Writer) -> None:
    given, inner = w.node.attributes, _inner(w.node.attributes)
    grid = inner or _grid_of_output(w)
    # Rounded right behind the sum: ONNX has one operator for that; ONNX Runtime wants one type of it.
    if grid is not None and grid.dtype == _type(w, 0) and (inner is not None or _is_only_rounded(w, grid)):
        rows = len(given["w_scale"])
        operands = [
            *(w.node.inputs[0], *_numbers(w, given["x_scale"], given["x_zero"], grid.dtype)),
            *(w.node.inputs[1], w.array(given["w_scale"]), w.array(np.zeros(rows, np.int8))),
            *(*_numbers(w, grid.scale, grid.zero, grid.dtype), w.node.input(2)),
        ]
        if inner is None:
            w.emit("QLinearConv", operands, w.out, **_window(w))
        else:
            _finish(w, _floats(w, w.value("QLinearConv", operands, grid.dtype, **_window(w)), grid.scale, grid.zero))
        return
    x, zero = _unsigned(w)
    total = w.value("ConvInteger", (x, w.node.inputs[1], zero), "int32", **_window(w))
    _finish(w, _rounded_inside(w, _scaled_sum(w, total, (1, -1, 1, 1))))


def _is_only_rounded(w: Writer, grid: Grid) -> bool:
    given = w.node.attributes
    plain = not w.node.input(3) and is_linear(given["activation"])
    return plain and bounds(given["activation"], grid) == (grid.lowest, grid.highest)


def _linear(w: Writer) -> None:
    matrix = w.array(np.ascontiguousarray(w.draft.constants[w.node.inputs[1]].T))
    x, zero = _unsigned(w)
    total = w.value("MatMulInteger", (x, matrix, zero), "int32")
    _finish(w, _rounded_inside(w, _scaled_sum(w, total, (-1,))))


def _add(w: Writer) -> None:
    given = w.node.attributes
    a, b = (
        _floats(w, x, given[f"{key}_scale"], given[f"{key}_zero"]) for key, x in zip("ab", w.node.inputs, strict=True)
    )
    _end(w, w.step("Add", (a, b)))


def _multiply(w: Writer) -> None:
    given = w.node.attributes
    a, b = (_dequantized(w, x, 1.0, given[f"{key}_zero"]) for key, x in zip("ab", w.node.inputs, strict=True))
    both = np.float32(given["a_scale"]) * np.float32(given["b_scale"])
    scale = both if _unit(w) is None else factor(both, given["y_scale"])
    _end(w, w.step("Mul", (w.step("Mul", (a, b)), w.array(scale))))


def _activate(w: Writer) -> None:
    # Negative indices count from the end, so that the byte of an int8 is its index.
    x = w.value("Cast", (w.node.inputs[0],), "int32", to=_INT32)
    w.emit("Gather", (w.array(w.node.attributes["table"]), x), w.out, axis=0)


def _pool(w: Writer) -> None:
    given, x = w.node.attributes, w.node.inputs[0]
    grid = output_grid(given, w.draft.types[w.out].dtype)
    window = {key: given[key] for key in ("strides", "pads", "dilations")}
    if given["kind"] == "max":
        if window["dilations"] == (1, 1):
            window.pop("dilations")
        _quantize_to(
            w,
            w.step(
                "MaxPool",
                (_dequantized(w, x, given["x_scale"], given["x_zero"]),),
                kernel_shape=given["kernel"],
                **window,
            ),
            grid,
        )
        return
    channels = w.draft.shape(x)[1]
    ones = w.array(np.ones((channels, 1, *given["kernel"]), np.float32))
    value = _dequantized(w, x, 1.0, given["x_zero"])
    value = w.step("Conv", (value, ones), group=channels, kernel_shape=given["kernel"], **window)
    counts = pool_counts(given, w.draft.shape(x)[2:])
    scale = w.array((np.float32(given["x_scale"]) / (grid.step * counts)).astype(np.float32))
    _round_to_output(w, w.step("Mul", (value, scale)), grid)


def _global_pool(w: Writer) -> None:
    given, x = w.node.attributes, w.node.inputs[0]
    grid, shape = output_grid(given, w.draft.types[w.out].dtype), w.draft.shape(x)
    if given["kind"] == "max":
        _quantize_to(w, w.step("GlobalMaxPool", (_dequantized(w, x, given["x_scale"], given["x_zero"]),)), grid)
        return
    ones = w.array(np.ones((shape[1], 1, *shape[2:]), np.float32))
    value = w.step("Conv", (_dequantized(w, x, 1.0, given["x_zero"]), ones), group=shape[1], kernel_shape=shape[2:])
    scale = factor(given["x_scale"], grid.step * np.float32(shape[2] * shape[3]))
    _round_to_output(w, w.step("Mul", (value, w.array(scale))), grid)


def _concat(w: Writer) -> None:
    given, grid = w.node.attributes, output_grid(w.node.attributes, w.draft.types[w.out].dtype)
    parts = [
        _dequantized(w, x, scale, zero)
        for x, scale, zero in zip(w.node.inputs, given["scales"], given["zeros"], strict=True)
    ]
    _quantize_to(w, w.step("Concat", parts, axis=given["axis"]), grid)


QUANTIZED: dict[str, Callable[[Writer], None]] = {
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


def _numbers(w: Writer, scale: float, zero: int, dtype: str) -> tuple[str, str]:
    return w.array(np.float32(scale)), w.array(np.array(zero, dtype))


def _type(w: Writer, index: int) -> str:
    return w.draft.types[w.node.inputs[index]].dtype


def _inner(given: Any) -> Grid | None:
    return None if given["inner"] is None else Grid(*given["inner"])


def _grid_of_output(w: Writer) -> Grid | None:
    given = w.node.attributes
    return None if given["y_scale"] is None else output_grid(given, w.draft.types[w.out].dtype)


def _unit(w: Writer) -> float | None:
    """The scale of the output where values are computed in multiples of it, else None."""
    return w.node.attributes["y_scale"] if is_linear(w.node.attributes["activation"]) else None


def _window(w: Writer) -> dict[str, Any]:
    given = {key: w.node.attributes[key] for key in ("strides", "pads", "dilations", "group")}
    return {**given, "kernel_shape": w.draft.shape(w.node.inputs[1])[2:]}


def _unsigned(w: Writer) -> tuple[str, str]:
    """The first operand and its zero point as uint8: what sums of integers take everywhere."""
    x, zero = w.node.inputs[0], w.node.attributes["x_zero"]
    if _type(w, 0) == "uint8":
        return x, w.array(np.array(zero, np.uint8))
    shape = w.draft.shape(x)
    wide = w.value("Cast", (x,), "int32", shape, to=_INT32)
    raised = w.value("Add", (wide, w.array(np.array(128, np.int32))), "int32", shape)
    bytes_ = w.value("Cast", (raised,), "uint8", shape, to=onnx.TensorProto.UINT8)
    return bytes_, w.array(np.array(zero + 128, np.uint8))


def _scaled_sum(w: Writer, total: str, rows: tuple[int, ...]) -> str:
    """Sums with their bias as floats: in units of the inner numbers, of the output, or of 1."""
    given, bias = w.node.attributes, w.node.input(2)
    if bias:
        total = w.value("Add", (total, w.array(w.draft.constants[bias].reshape(rows))), "int32")
    scale = _unit(w) if given["inner"] is None else given["inner"][0]
    factors = w.array(row_factors(given, scale).reshape(rows))
    value = w.value("Cast", (total,), "float32", to=_FLOAT)
    return w.value("Mul", (value, factors), "float32")


def _floats(w: Writer, q: str, scale: float, zero: int) -> str:
    """What integers stand for, in units of the output or of 1."""
    unit = _unit(w)
    return _dequantized(w, q, scale if unit is None else float(factor(scale, unit)), zero)


def _finish(w: Writer, value: str) -> None:
    """Residual and end of a QConv or QLinear."""
    if w.node.input(3):
        given = w.node.attributes
        value = w.value("Add", (value, _floats(w, w.node.inputs[3], given["r_scale"], given["r_zero"])), "float32")
    _end(w, value)


def _end(w: Writer, value: str) -> None:
    """Activation and rounding."""
    activation: Activation | None = w.node.attributes["activation"]
    grid = _grid_of_output(w)
    if grid is None:
        expand_activation(w, value, activation, w.node.input(4))
    elif is_linear(activation):
        low, high = bounds(activation, grid)
        if (low, high) != (grid.lowest, grid.highest):
            ends = (w.array(np.float32(low - grid.zero)), w.array(np.float32(high - grid.zero)))
            value = w.value("Clip", (value, *ends), "float32")
        _round_to_output(w, value, grid)
    else:
        active = w.draft.value(f"{w.out}/a", w.draft.shape(w.out))
        expand_activation(w.writing(active), value, activation, w.node.input(4))
        _round_to_output(w, w.value("Mul", (active, w.array(factor(ONE, grid.step))), "float32"), grid)


def _rounded_inside(w: Writer, value: str) -> str:
    """A sum rounded to the inner numbers, where there are any."""
    inner = _inner(w.node.attributes)
    if inner is None:
        return value
    q = w.value("QuantizeLinear", (value, *_numbers(w, 1.0, inner.zero, inner.dtype)), inner.dtype)
    return _floats(w, q, inner.scale, inner.zero)


def _round_to_output(w: Writer, units: str, grid: Grid) -> None:
    """Multiples of the output's scale as integers."""
    w.emit("QuantizeLinear", (units, *_numbers(w, 1.0, grid.zero, grid.dtype)), w.out)


def _quantize_to(w: Writer, value: str, grid: Grid) -> None:
    w.emit("QuantizeLinear", (value, *_numbers(w, grid.scale, grid.zero, grid.dtype)), w.out)


def _dequantized(w: Writer, x: str, scale: float, zero: int) -> str:
    """What integers stand for; with scale 1, the integers less their zero point."""
    numbers = _numbers(w, scale, zero, w.draft.types[x].dtype)
    return w.value("DequantizeLinear", (x, *numbers), "float32", w.draft.shape(x))
