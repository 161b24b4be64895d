"""Pairs of bf16 numbers in 4-byte lanes: floats rounded to bf16, and products of pairs summed in float32.

    bf16(x)   the upper 16 bits of x, rounded to nearest, halves to even; below 2^-126 zero with the sign of x; a NaN
              stays one
    dot       (total + x1 w1) + x0 w0,  each sum rounded once to float32              x0 in the lower half of a lane

That is what VCVTNEPS2BF16 and VDPBF16PS compute (Intel SDM, volume 2C), the latter with denormal sums as zero. BFDOT of
AArch64 adds the two products first and rounds sums to odd (Arm ARM, BFDotAdd), so its last bits differ. Processors
without either get the same in ordinary instructions, for tests: nobody would be served by it, the engine refuses.
"""

from typing import Any

from llvmlite import ir

from secateur.engine.emit.builder import I16, I32, KernelBody, Value
from secateur.engine.emit.integers import splat
from secateur.engine.target import Target


class _BFloat(ir.types.Type):
    """LLVM's bfloat, which llvmlite cannot write."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_UPPER = -0x10000
_EXPONENT, _SIGN, _QUIET = 0x7F800000, -0x80000000, 0x400000


def has_pair_dot(target: Target) -> bool:
    """Whether a processor computes `pair_dot` with one instruction."""
    return target.has({"avx512": "avx512bf16", "neon": "bf16"}.get(target.isa, "nothing"))


def rounded(f: KernelBody, x: Value) -> Value:
    """A vector of floats as bits whose upper halves are bf16; the lower halves hold anything."""
    b, kind, target = f.b, ir.VectorType(I32, x.type.count), f.module.target
    if target.isa == "avx512" and has_pair_dot(target):
        half: Any = ir.VectorType(_BFloat(), x.type.count)
        made = b.call(f.module.intrinsic("llvm.x86.avx512bf16.cvtneps2bf16.512", half, [x.type]), [x])
        return b.shl(b.zext(b.bitcast(made, ir.VectorType(I16, x.type.count)), kind), splat(kind, 16))
    bits = b.bitcast(x, kind)
    odd = b.and_(b.lshr(bits, splat(kind, 16)), splat(kind, 1))
    nearest = b.add(bits, b.add(odd, splat(kind, 0x7FFF)))
    small = b.icmp_signed("==", b.and_(bits, splat(kind, _EXPONENT)), splat(kind, 0))
    nearest = b.select(small, b.and_(bits, splat(kind, _SIGN)), nearest)
    return b.select(b.fcmp_unordered("uno", x, x), b.or_(bits, splat(kind, _QUIET)), nearest)


def pairs(f: KernelBody, low: Value, high: Value, mask: Value | None = None) -> Value:
    """Pairs of what `rounded` gives.

    mask    the bits of `high` that count; its upper halves when not given
    """
    b, kind = f.b, low.type
    return b.or_(b.lshr(low, splat(kind, 16)), b.and_(high, splat(kind, _UPPER) if mask is None else mask))


def pair_dot(f: KernelBody, total: Value, x: Value, w: Value) -> Value:
    """total (floats) + the products of both numbers of each lane of x and w (pairs)."""
    b, target = f.b, f.module.target
    if not has_pair_dot(target):
        (low_x, high_x), (low_w, high_w) = _halves(f, x), _halves(f, w)
        return f.fma(low_x, low_w, f.fma(high_x, high_w, total))
    if target.isa == "avx512":
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        return b.call(f.module.intrinsic(name, total.type, [total.type, x.type, w.type]), [total, x, w])
    kind: Any = ir.VectorType(_BFloat(), 2 * f.lanes)
    dot = f.module.intrinsic("llvm.aarch64.neon.bfdot.v4f32.v8bf16", total.type, [total.type, kind, kind])
    return b.call(dot, [total, b.bitcast(x, kind), b.bitcast(w, kind)])


def _halves(f: KernelBody, pair: Value) -> tuple[Value, Value]:
    """The lower and the upper number of every lane as floats."""
    b, kind = f.b, pair.type
    low, high = b.shl(pair, splat(kind, 16)), b.and_(pair, splat(kind, _UPPER))
    return b.bitcast(low, f.vector), b.bitcast(high, f.vector)
