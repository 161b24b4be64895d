"""From floats to 8-bit integers and back: planes to quads, and dense arrays.

    byte  = clamp(rint(x / scale), low, high) + zero        zero as it is stored, 0 to 255; ties to even
    float = (byte - zero) scale

One unit makes a part of a plane of quads from four planes of floats, or the other way round.
"""

from dataclasses import dataclass

from llvmlite import ir

from secateur.engine.emit.builder import I8, I16, I32, KernelBody, KernelModule, Value
from secateur.engine.emit.integers import as_floats, channels, nearest, quads_of, spread, words
from secateur.engine.emit.sweep import Block, sweep
from secateur.engine.kernels.quad_rows import FIELDS, rows_apart, rows_together


@dataclass(frozen=True)
class QuantizePlanes:
    """Units are parts of `rows` rows of planes of quads."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "u8_quantize_planes"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables: four `sources` (i64) per plane, `targets` (i64)."""
        return (*FIELDS, "scale", "zero", "low", "high")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            convert = _Rounding(f)
            for lines, target in rows_together(f, f.element):

                def make(block: Block, lines: list[Value] = lines, target: Value = target) -> None:
                    made = quads_of(f, [convert.whole(block.load(line)) for line in lines], convert.zero)
                    block.store(as_floats(f, made), target)

                sweep(f, 0, f.integer("w"), make)


@dataclass(frozen=True)
class DequantizePlanes:
    """Units are parts of `rows` rows of planes of quads."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "u8_dequantize_planes"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables: `sources` (i64) per plane of quads, and four `targets` (i64), MISSING for channels that are not."""
        return (*FIELDS, "scale", "zero")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            value = _Value(f)
            for j, line, target in rows_apart(f, f.element):

                def make(block: Block, j: int = j, line: Value = line, target: Value = target) -> None:
                    quads = b.bitcast(block.load(line), words(f))
                    block.store(value.of(channels(f, quads)[j]), target)

                sweep(f, 0, f.integer("w"), make)


@dataclass(frozen=True)
class QuantizeDense:
    """Units are blocks of `block` elements."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "u8_quantize_dense"

    @property
    def fields(self) -> tuple[str, ...]:
        """`size` elements."""
        return ("x", "y", "size", "block", "scale", "zero", "low", "high")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            x, y = f.pointer("x"), f.pointer("y")
            convert = _Rounding(f)
            zero = spread(f, b.trunc(f.integer("zero"), I32), words(f))
            narrow = ir.VectorType(I8, f.lanes)

            def make(block: Block) -> None:
                made = b.trunc(b.add(convert.whole(block.load(x)), zero), narrow)
                if block.mask is None:
                    b.store(made, f.element(y, block.index, I8), align=1)
                    return
                with f.loop(0, b.sub(last, block.index)) as lane:
                    one = b.extract_element(made, b.trunc(lane, I32))
                    b.store(one, f.element(y, b.add(block.index, lane), I8), align=1)

            first, last = _block(f)
            sweep(f, first, last, make)


@dataclass(frozen=True)
class DequantizeDense:
    """Units are blocks of `block` elements."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "u8_dequantize_dense"

    @property
    def fields(self) -> tuple[str, ...]:
        """`size` elements; x is read in whole vectors."""
        return ("x", "y", "size", "block", "scale", "zero")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            x, y = f.pointer("x"), f.pointer("y")
            value = _Value(f)
            narrow = ir.VectorType(I8, f.lanes)

            def make(block: Block) -> None:
                given = b.load(f.element(x, block.index, I8), typ=narrow, align=1)
                block.store(value.of(b.zext(given, words(f))), y)

            sweep(f, *_block(f), make)


class _Rounding:
    """From floats to whole numbers of the scale, clamped; `zero` is added when they become bytes."""

    def __init__(self, f: KernelBody) -> None:
        self.f = f
        self.scale, self.low, self.high = (f.splat(f.number(name)) for name in ("scale", "low", "high"))
        self.zero = spread(f, f.b.trunc(f.integer("zero"), I16), ir.VectorType(I16, 2 * f.lanes))

    def whole(self, x: Value) -> Value:
        """32-bit numbers; NaN becomes the lowest, as in ONNX Runtime."""
        f = self.f
        units = f.b.fdiv(x, self.scale)
        return nearest(f, f.min(f.max(units, self.low), self.high))


class _Value:
    """From bytes to the floats that they stand for."""

    def __init__(self, f: KernelBody) -> None:
        self.f = f
        self.scale = f.splat(f.number("scale"))
        self.zero = spread(f, f.b.trunc(f.integer("zero"), I32), words(f))

    def of(self, numbers: Value) -> Value:
        """(numbers - zero) scale."""
        b = self.f.b
        return b.fmul(b.sitofp(b.sub(numbers, self.zero), self.f.vector), self.scale)


def _block(f: KernelBody) -> tuple[Value, Value]:
    """The first element of a thread's units, and the one behind their last."""
    b, block = f.b, f.integer("block")
    return b.mul(f.begin, block), f.smaller(f.integer("size"), b.mul(f.end, block))
