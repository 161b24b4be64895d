"""Vectors of 8-bit integers: quads of bytes in 4-byte lanes, and the 32-bit numbers that they are made of.

A vector of quads has `lanes` elements of 4 bytes. Its bytes are widened channel by channel (byte j of every lane) and
made from four vectors of 32-bit numbers, either channel by channel again or in groups: per 16 bytes, four numbers of
the first vector, then four of the second, and so on. Conversions saturate, as instructions do.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from secateur.engine.emit.builder import F32, I8, I16, I32, KernelBody, Value
from secateur.engine.target import Target

Table = Callable[[Value], Value]

_BIG, _BIG_BITS = float(1 << 23), 0x4B000000


def words(f: KernelBody) -> Any:
    """The type of a vector of quads or of 32-bit numbers."""
    return ir.VectorType(I32, f.lanes)


def octets(f: KernelBody) -> Any:
    """The type of the bytes of a vector of quads."""
    return ir.VectorType(I8, 4 * f.lanes)


def splat(kind: Any, number: int) -> Value:
    """A vector of one constant."""
    return ir.Constant(kind, [number] * kind.count)


def spread(f: KernelBody, scalar: Value, kind: Any) -> Value:
    """A vector of one integer."""
    zeros = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    poison = ir.Constant(kind, ir.Undefined)
    return f.b.shuffle_vector(f.b.insert_element(poison, scalar, ir.Constant(I32, 0)), poison, zeros)


def load_quads(f: KernelBody, pointer: Value, index: Value | int = 0) -> Value:
    """The quads from element `index` of an array of them."""
    return f.b.bitcast(f.load(pointer, index), words(f))


def as_floats(f: KernelBody, quads: Value) -> Value:
    """The same bits as a vector of floats, which the body's loads, stores and masks work with."""
    return f.b.bitcast(quads, f.vector)


def channels(f: KernelBody, quads: Value) -> list[Value]:
    """Byte j of every lane as a 32-bit number, for each j."""
    b, kind = f.b, words(f)
    low = splat(kind, 0xFF)
    middle = [b.and_(b.lshr(quads, splat(kind, 8 * j)), low) for j in (1, 2)]
    return [b.and_(quads, low), *middle, b.lshr(quads, splat(kind, 24))]


def centred(f: KernelBody, quads: Value, zero: Value) -> list[Value]:
    """Byte j of every lane less a zero point, as a float, for each j.

    zero    2^23 + zero point in all lanes: a byte below the bits of 2^23 is the float 2^23 + byte
    """
    b, kind = f.b, words(f)
    high = splat(kind, _BIG_BITS)
    return [b.fsub(b.bitcast(b.or_(number, high), f.vector), zero) for number in channels(f, quads)]


def zero_for_centred(f: KernelBody, zero: Value) -> Value:
    """The operand of `centred` for a zero point (i64)."""
    return f.splat(f.b.fadd(f.b.sitofp(zero, F32), f.f32(_BIG)))


def nearest(f: KernelBody, x: Value) -> Value:
    """The nearest whole numbers, halves to even; x must be within 32 bits."""
    kind = words(f)
    return f.b.call(f.module.intrinsic(f"llvm.lrint.v{f.lanes}i32.v{f.lanes}f32", kind, [f.vector]), [x])


def grouped(f: KernelBody, numbers: Sequence[Value], zero: Value) -> Value:
    """Four vectors of numbers plus `zero` (i16 in all lanes), cut to 0..255: as bytes, in groups (see above)."""
    low, high = (_added(f, _narrow(f, numbers[i], numbers[i + 1]), zero) for i in (0, 2))
    isa, wide = f.module.target.isa, ir.VectorType(I16, 2 * f.lanes)
    if isa == "neon":
        half = ir.VectorType(I8, 8)
        cut = f.module.intrinsic("llvm.aarch64.neon.sqxtun.v8i8", half, [wide])
        return f.shuffle(f.b.call(cut, [low]), f.b.call(cut, [high]), range(16))
    name = "llvm.x86.avx512.packuswb.512" if isa == "avx512" else "llvm.x86.avx2.packuswb"
    return f.b.call(f.module.intrinsic(name, octets(f), [wide, wide]), [low, high])


def quads_of(f: KernelBody, numbers: Sequence[Value], zero: Value) -> Value:
    """The inverse of `channels`: four vectors of numbers plus `zero`, cut to 0..255, as quads."""
    return f.b.bitcast(transposed(f, grouped(f, numbers, zero)), words(f))


def transposed(f: KernelBody, vector: Value) -> Value:
    """The bytes of each block of 16, four times four of them, transposed."""
    made = f.b.bitcast(vector, octets(f))
    return f.shuffle(made, made, [16 * (i // 16) + 4 * (i % 4) + i % 16 // 4 for i in range(4 * f.lanes)])


def _narrow(f: KernelBody, low: Value, high: Value) -> Value:
    """Two vectors cut to 16 bits; per 16 bytes, four numbers of the first and four of the second."""
    isa, kind, wide = f.module.target.isa, words(f), ir.VectorType(I16, 2 * f.lanes)
    if isa == "neon":
        cut = f.module.intrinsic("llvm.aarch64.neon.sqxtn.v4i16", ir.VectorType(I16, 4), [kind])
        return f.shuffle(f.b.call(cut, [low]), f.b.call(cut, [high]), range(8))
    name = "llvm.x86.avx512.packssdw.512" if isa == "avx512" else "llvm.x86.avx2.packssdw"
    return f.b.call(f.module.intrinsic(name, wide, [kind, kind]), [low, high])


def _added(f: KernelBody, numbers: Value, zero: Value) -> Value:
    kind = numbers.type
    return f.b.call(f.module.intrinsic(f"llvm.sadd.sat.v{kind.count}i16", kind, [kind, kind]), [numbers, zero])


def dot_lowers(target: Target) -> int:
    """What `dot` takes from every byte of x on a processor: 0, or 128 where only signed numbers are multiplied."""
    return 128 if target.isa == "neon" and target.has("dotprod") and not target.has("i8mm") else 0


def has_dot(target: Target) -> bool:
    """Whether a processor computes `dot` with one instruction."""
    if target.isa == "neon":
        return target.has("dotprod") or target.has("i8mm")
    return target.has("avx512vnni" if target.isa == "avx512" else "avxvnni")


def dot(f: KernelBody, total: Value, x: Value, weights: Value) -> Value:
    """total + sum over bytes j of x[j] weights[j] in every lane, x unsigned, weights signed: exact in 32 bits.

    One instruction where there is one: VNNI on x86, i8mm on AArch64, dotprod there for signed x (`dot_lowers`). Else
    bytes 0 and 2, and 1 and 3, are multiplied as 16-bit numbers, of which x86 adds two products to 32 bits; its
    instruction for 8-bit numbers would stop at 16 bits.
    """
    b, target, kind = f.b, f.module.target, words(f)
    if target.isa == "neon" and has_dot(target):
        bytes_ = octets(f)
        given = b.bitcast(x, bytes_)
        if dot_lowers(target):
            given = b.xor(given, splat(bytes_, 0x80))
        name = "sdot" if dot_lowers(target) else "usdot"
        call = f.module.intrinsic(f"llvm.aarch64.neon.{name}.v4i32.v16i8", kind, [kind, bytes_, bytes_])
        return b.call(call, [total, given, b.bitcast(weights, bytes_)])
    if has_dot(target):
        name = f"llvm.x86.avx512.vpdpbusd.{32 * f.lanes}"
        return b.call(f.module.intrinsic(name, kind, [kind] * 3), [total, x, weights])
    half = ir.VectorType(I16, 2 * f.lanes)
    x, weights = b.bitcast(x, half), b.bitcast(weights, half)
    eight = splat(half, 8)
    total = b.add(total, _pairs(f, b.and_(x, splat(half, 0xFF)), b.ashr(b.shl(weights, eight), eight)))
    return b.add(total, _pairs(f, b.lshr(x, eight), b.ashr(weights, eight)))


def _pairs(f: KernelBody, x: Value, y: Value) -> Value:
    """Sums of the products of two neighbouring 16-bit numbers."""
    b, kind, half = f.b, words(f), x.type
    isa = f.module.target.isa
    if isa != "neon":
        name = "llvm.x86.avx512.pmaddw.d.512" if isa == "avx512" else "llvm.x86.avx2.pmadd.wd"
        return b.call(f.module.intrinsic(name, kind, [half, half]), [x, y])
    even, odd = ([f.shuffle(v, v, range(k, 8, 2)) for v in (x, y)] for k in (0, 1))
    low, high = (b.mul(*(b.sext(v, kind) for v in pair)) for pair in (even, odd))
    return b.add(low, high)


def between(f: KernelBody, bytes_: Value, low: Value, high: Value) -> Value:
    """Bytes not below `low` and not above `high`."""
    b = f.b
    raised = b.select(b.icmp_unsigned(">", bytes_, low), bytes_, low)
    return b.select(b.icmp_unsigned("<", raised, high), raised, high)


def table(f: KernelBody, pointer: Value) -> Table:
    """The function on vectors of quads that replaces every byte by its entry of the 256 bytes at a pointer.

    The entries wait in registers: call this in front of loops.
    """
    isa = f.module.target.isa
    if isa == "avx512":
        return (
            _table_of_bytes(f, pointer)
            if "+avx512vbmi," in f.module.target.features + ","
            else _table_of_pairs(f, pointer)
        )
    return _table_of_shuffles(f, pointer) if isa == "avx2" else _table_of_neon(f, pointer)


def _entries(f: KernelBody, pointer: Value, kind: Any, count: int) -> list[Value]:
    size = 256 // count
    return [f.b.load(f.at(pointer, i * size), typ=kind, align=16) for i in range(count)]


def _table_of_bytes(f: KernelBody, pointer: Value) -> Table:
    """AVX-512 VBMI: 128 entries at once."""
    b, kind = f.b, octets(f)
    parts = _entries(f, pointer, kind, 4)
    choose = f.module.intrinsic("llvm.x86.avx512.vpermi2var.qi.512", kind, [kind] * 3)

    def look(quads: Value) -> Value:
        index = b.bitcast(quads, kind)
        low, high = (b.call(choose, [parts[i], index, parts[i + 1]]) for i in (0, 2))
        return b.bitcast(b.select(b.icmp_signed("<", index, splat(kind, 0)), high, low), quads.type)

    return look


def _table_of_pairs(f: KernelBody, pointer: Value) -> Table:
    """AVX-512 without VBMI: 64 pairs of entries at once, even and odd bytes apart."""
    b, kind = f.b, ir.VectorType(I16, 2 * f.lanes)
    parts = _entries(f, pointer, kind, 4)
    choose = f.module.intrinsic("llvm.x86.avx512.vpermi2var.hi.512", kind, [kind] * 3)
    one, eight, low_byte = (splat(kind, number) for number in (1, 8, 0xFF))

    def pairs(index: Value) -> Value:
        pair = b.lshr(index, one)
        low, high = (b.call(choose, [parts[i], pair, parts[i + 1]]) for i in (0, 2))
        found = b.select(b.icmp_unsigned(">", pair, splat(kind, 63)), high, low)
        return b.lshr(found, b.shl(b.and_(index, one), splat(kind, 3)))

    def look(quads: Value) -> Value:
        both = b.bitcast(quads, kind)
        even, odd = pairs(b.and_(both, low_byte)), pairs(b.lshr(both, eight))
        return b.bitcast(b.or_(b.and_(even, low_byte), b.shl(odd, eight)), quads.type)

    return look


def _table_of_shuffles(f: KernelBody, pointer: Value) -> Table:
    """AVX2: 16 entries at once; a byte that is not among them has its highest bit set, for which shuffles give 0."""
    b, kind = f.b, octets(f)
    rows = _entries(f, pointer, ir.VectorType(I8, 16), 16)
    parts = [f.shuffle(row, row, [i % 16 for i in range(kind.count)]) for row in rows]
    shuffle = f.module.intrinsic("llvm.x86.avx2.pshuf.b", kind, [kind] * 2)
    raise_ = f.module.intrinsic(f"llvm.uadd.sat.v{kind.count}i8", kind, [kind] * 2)

    def look(quads: Value) -> Value:
        index = b.bitcast(quads, kind)
        found = splat(kind, 0)
        for i, part in enumerate(parts):
            place = b.call(raise_, [b.xor(index, splat(kind, 16 * i)), splat(kind, 0x70)])
            found = b.or_(found, b.call(shuffle, [part, place]))
        return b.bitcast(found, quads.type)

    return look


def _table_of_neon(f: KernelBody, pointer: Value) -> Table:
    """NEON: 64 entries at once; places beyond them leave what was found before."""
    b, kind = f.b, octets(f)
    parts = _entries(f, pointer, kind, 16)
    first = f.module.intrinsic("llvm.aarch64.neon.tbl4.v16i8", kind, [kind] * 5)
    more = f.module.intrinsic("llvm.aarch64.neon.tbx4.v16i8", kind, [kind] * 6)

    def look(quads: Value) -> Value:
        index = b.bitcast(quads, kind)
        found = b.call(first, [*parts[:4], index])
        for i in (4, 8, 12):
            found = b.call(more, [found, *parts[i : i + 4], b.sub(index, splat(kind, 16 * i))])
        return b.bitcast(found, quads.type)

    return look
