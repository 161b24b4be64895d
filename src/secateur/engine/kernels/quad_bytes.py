"""Bytes of dense arrays as quads, and quads as bytes.

    quad[y, x] = bytes j = 0..3 of  x[source_j + y source_row + x step] ^ flip
    y[target_j + y target_row + x step] = byte j of quad[y, x] ^ flip

`flip` is 0, or 128 in every byte: numbers of int8 have their highest bit the other way round inside the engine.
"""

from dataclasses import dataclass

from llvmlite import ir

from secateur.engine.emit.builder import I8, I32, KernelBody, KernelModule, Value
from secateur.engine.emit.integers import as_floats, channels, load_quads, octets, spread, words
from secateur.engine.kernels.quad_rows import FIELDS, rows_apart, rows_together


@dataclass(frozen=True)
class PackBytes:
    """Units are parts of `rows` rows of planes of quads.

    single    bytes of a row are `step` apart; else neighbours
    """

    single: bool = False

    @property
    def name(self) -> str:
        """Symbol."""
        return "u8_pack_bytes" + "_single" * self.single

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables: four `sources` (i64 bytes) per plane, `targets` (i64 quads)."""
        return (*FIELDS, "step", "flip")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            step, w, flip = f.integer("step"), f.integer("w"), b.trunc(f.integer("flip"), I32)
            for lines, target in rows_together(f, f.at):
                whole = f.i64(0)
                if not self.single:
                    whole = b.and_(w, f.i64(-f.lanes))
                    with f.loop(0, whole, f.lanes) as i:
                        made = _together(f, [f.at(line, i) for line in lines], f.lanes)
                        f.store(as_floats(f, b.xor(made, spread(f, flip, words(f)))), target, i)
                with f.loop(whole, w) as i:
                    at = b.mul(i, step) if self.single else i
                    made = _together(f, [f.at(line, at) for line in lines], 0)
                    b.store(b.xor(made, flip), f.element(target, i), align=4)


@dataclass(frozen=True)
class UnpackBytes:
    """Units are parts of `rows` rows of planes of quads.

    single    bytes of a row are `step` apart; else neighbours
    """

    single: bool = False

    @property
    def name(self) -> str:
        """Symbol."""
        return "u8_unpack_bytes" + "_single" * self.single

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables: `sources` (i64 quads) per plane, four `targets` (i64 bytes), MISSING for channels that are not."""
        return (*FIELDS, "step", "flip")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            step, w, flip = f.integer("step"), f.integer("w"), b.trunc(f.integer("flip"), I32)
            narrow = ir.VectorType(I8, f.lanes)
            for j, line, target in rows_apart(f, f.at):
                whole = f.i64(0)
                if not self.single:
                    whole = b.and_(w, f.i64(-f.lanes))
                    with f.loop(0, whole, f.lanes) as i:
                        quads = b.xor(load_quads(f, line, i), spread(f, flip, words(f)))
                        b.store(b.trunc(channels(f, quads)[j], narrow), f.at(target, i), align=1)
                with f.loop(whole, w) as i:
                    quad = b.xor(b.load(f.element(line, i), typ=I32, align=4), flip)
                    byte = b.trunc(b.lshr(quad, ir.Constant(I32, 8 * j)), I8)
                    b.store(byte, f.at(target, b.mul(i, step) if self.single else i), align=1)


@dataclass(frozen=True)
class FlipBytes:
    """Dense bytes, y = x ^ flip. Units are blocks of `block` bytes."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "u8_flip_bytes"

    @property
    def fields(self) -> tuple[str, ...]:
        """`size` bytes."""
        return ("x", "y", "size", "block", "flip")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            x, y, size, block = f.pointer("x"), f.pointer("y"), f.integer("size"), f.integer("block")
            flip = b.trunc(f.integer("flip"), I32)
            kind = octets(f)
            flips = b.bitcast(spread(f, flip, words(f)), kind)
            first, last = b.mul(f.begin, block), f.smaller(size, b.mul(f.end, block))
            step = 4 * f.lanes
            whole = b.add(first, b.mul(b.sdiv(b.sub(last, first), f.i64(step)), f.i64(step)))
            with f.loop(first, whole, step) as i:
                given = b.load(f.at(x, i), typ=kind, align=1)
                b.store(b.xor(given, flips), f.at(y, i), align=1)
            with f.loop(whole, last) as i:
                given = b.load(f.at(x, i), typ=I8, align=1)
                b.store(b.xor(given, b.trunc(flip, I8)), f.at(y, i), align=1)


def _together(f: KernelBody, places: list[Value], lanes: int) -> Value:
    """Bytes from four places as quads; one quad for no lanes."""
    b = f.b
    from_, to = (ir.VectorType(I8, lanes), words(f)) if lanes else (I8, I32)
    made = None
    for j, place in enumerate(places):
        byte = b.zext(b.load(place, typ=from_, align=1), to)
        shift = ir.Constant(to, [8 * j] * lanes if lanes else 8 * j)
        made = byte if made is None else b.or_(made, b.shl(byte, shift))
    return made
