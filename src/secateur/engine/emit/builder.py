"""A thin layer over llvmlite.ir in which kernels read like loops over vectors.

Variables are stack slots that LLVM promotes to registers, so kernels need no phi nodes. Only `getelementptr` makes
addresses (ENGINE.md 4.1). Vectors are `lanes` floats; masks are vectors of bits.
"""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from secateur.engine.target import Target

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
PTR = ir.PointerType()

Value = Any  # llvmlite.ir values are untyped


class KernelModule:
    """One LLVM module for one target; kernels write themselves into it."""

    def __init__(self, target: Target, name: str = "kernels") -> None:
        self.target = target
        self.lanes = target.lanes
        self.module = ir.Module(name)
        self.module.triple = target.triple
        self.vector = ir.VectorType(F32, target.lanes)
        self.mask = ir.VectorType(I1, target.lanes)

    def intrinsic(self, name: str, result: Any, arguments: Sequence[Any]) -> Value:
        """The declaration of an LLVM intrinsic, made on first use."""
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(result, arguments), name)

    @contextmanager
    def kernel(self, name: str, fields: Sequence[str]) -> "Generator[KernelBody, None, None]":
        """Write a function with the kernels' signature (see engine.program); it returns at the end of the block."""
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64, PTR]), name)
        function.attributes.add("nounwind")
        body = KernelBody(self, function, tuple(fields))
        yield body
        body.b.ret_void()

    def __str__(self) -> str:
        # Zero-fill loops must not become calls of memset: an object has no undefined symbols (ENGINE.md 4.1.7).
        text = str(self.module).replace("nounwind", 'nounwind "no-builtins"')
        # A loop's metadata begins with itself, which llvmlite cannot write.
        return re.sub(r"^(!\d+) = !\{ (!\d+), \2 \}", r"\1 = distinct !{ \1, \2 }", text, flags=re.MULTILINE)


@dataclass
class Var:
    """A variable that becomes a register."""

    body: "KernelBody"
    slot: Value
    type: Any

    def get(self) -> Value:
        """Its value here."""
        return self.body.b.load(self.slot, typ=self.type)

    def set(self, value: Value) -> None:
        """Give it a value."""
        self.body.b.store(value, self.slot)


class KernelBody:
    """The inside of one kernel: `b` is llvmlite's builder, the methods are what kernels use most."""

    def __init__(self, module: KernelModule, function: ir.Function, fields: tuple[str, ...]) -> None:
        self.module = module
        self.function = function
        self.fields = fields
        self.lanes = module.lanes
        self.vector = module.vector
        self._entry = function.append_basic_block("entry")
        self._allocas = ir.IRBuilder(self._entry)
        start = function.append_basic_block("start")
        self._end_of_entry = self._allocas.branch(start)
        self._allocas.position_before(self._end_of_entry)
        self.b = ir.IRBuilder(start)
        self.args, self.begin, self.end, self.scratch = function.args

    # Arguments

    def _slot(self, field: str) -> Value:
        return self.at(self.args, 8 * self.fields.index(field))

    def pointer(self, field: str) -> Value:
        """The address in an argument slot."""
        return self.b.load(self._slot(field), typ=PTR, align=8, name=field)

    def integer(self, field: str) -> Value:
        """The i64 in an argument slot."""
        return self.b.load(self._slot(field), typ=I64, align=8, name=field)

    def number(self, field: str) -> Value:
        """The float32 of an argument slot."""
        return self.b.fptrunc(self.b.load(self._slot(field), typ=F64, align=8), F32, name=field)

    # Integers and addresses

    def i64(self, value: int) -> Value:
        """A constant."""
        return ir.Constant(I64, value)

    def f32(self, value: float) -> Value:
        """A constant."""
        return ir.Constant(F32, value)

    def at(self, pointer: Value, offset: Value | int) -> Value:
        """`pointer` plus `offset` bytes."""
        if isinstance(offset, int):
            if offset == 0:
                return pointer
            offset = self.i64(offset)
        return self.b.gep(pointer, [offset], source_etype=I8)

    def element(self, pointer: Value, index: Value | int, type: Any = F32) -> Value:
        """Address of element `index` of an array of `type`."""
        index = self.i64(index) if isinstance(index, int) else index
        return self.b.gep(pointer, [index], source_etype=type)

    def load_i64(self, pointer: Value, index: Value | int, type: Any = I64, signed: bool = False) -> Value:
        """Element `index` of an integer array, widened to i64."""
        value = self.b.load(self.element(pointer, index, type), typ=type)
        if type is I64:
            return value
        return self.b.sext(value, I64) if signed else self.b.zext(value, I64)

    def smaller(self, a: Value, b: Value) -> Value:
        """The smaller one of two i64."""
        return self.b.select(self.b.icmp_signed("<", a, b), a, b)

    def larger(self, a: Value, b: Value) -> Value:
        """The larger one of two i64."""
        return self.b.select(self.b.icmp_signed(">", a, b), a, b)

    # Control flow

    def var(self, type: Any, value: Value | None = None) -> Var:
        """A variable, set to `value` here where given."""
        self._allocas.position_before(self._end_of_entry)
        made = Var(self, self._allocas.alloca(type), type)
        if value is not None:
            made.set(value)
        return made

    @contextmanager
    def loop(
        self, begin: Value | int, end: Value | int, step: int = 1, unroll: bool = False
    ) -> Generator[Value, None, None]:
        """`for i in range(begin, end, step)` over i64; LLVM does not unroll it unless allowed (ENGINE.md 4.1.8)."""
        b = self.b
        begin, end = (self.i64(v) if isinstance(v, int) else v for v in (begin, end))
        index = self.var(I64, begin)
        head, inside, after = (b.append_basic_block(name) for name in ("head", "inside", "after"))
        b.branch(head)
        b.position_at_end(head)
        i = index.get()
        b.cbranch(b.icmp_signed("<", i, end), inside, after)
        b.position_at_end(inside)
        yield i
        index.set(b.add(i, self.i64(step), flags=["nsw"]))
        back = b.branch(head)
        if not unroll:
            back.set_metadata("llvm.loop", self._no_unroll())
        b.position_at_end(after)

    def _no_unroll(self) -> Value:
        module = self.module.module
        off = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
        # llvmlite merges equal nodes, so one shared node serves all loops; `KernelModule.__str__` completes it.
        return module.add_metadata([off, off])

    @contextmanager
    def if_(self, condition: Value) -> Generator[None, None, None]:
        """`if condition:`"""
        with self.b.if_then(condition):
            yield

    # Vectors

    def splat(self, scalar: Value | float, lanes: int | None = None) -> Value:
        """A vector of one number, given as a value or, for floats, as a Python number."""
        lanes = lanes or self.lanes
        if isinstance(scalar, (int, float)):
            return ir.Constant(ir.VectorType(F32, lanes), [float(scalar)] * lanes)
        vector = ir.VectorType(scalar.type, lanes)
        zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
        poison = ir.Constant(vector, ir.Undefined)
        return self.b.shuffle_vector(self.b.insert_element(poison, scalar, ir.Constant(I32, 0)), poison, zeros)

    def load(self, pointer: Value, index: Value | int = 0, align: int = 4, type: Any = F32) -> Value:
        """The vector that begins at element `index` of an array of floats, or of integers of as many bits."""
        return self.b.load(self.element(pointer, index), typ=ir.VectorType(type, self.lanes), align=align)

    def store(self, value: Value, pointer: Value, index: Value | int = 0, align: int = 4) -> None:
        """Store a vector at float `index` of an array."""
        self.b.store(value, self.element(pointer, index), align=align)

    def load_scalar(self, pointer: Value, index: Value | int = 0, type: Any = F32) -> Value:
        """Element `index` of an array of floats, or of integers of as many bits."""
        return self.b.load(self.element(pointer, index), typ=type, align=4)

    def store_scalar(self, value: Value, pointer: Value, index: Value | int = 0) -> None:
        """Store one float at `index` of an array."""
        self.b.store(value, self.element(pointer, index), align=4)

    def first_lanes(self, count: Value) -> Value:
        """The mask of lanes below `count` (i64, within 32 bits)."""
        return self.b.icmp_signed("<", *self._lane_and(count))

    def lanes_from(self, first: Value) -> Value:
        """The mask of lanes from `first` (i64, within 32 bits) on."""
        return self.b.icmp_signed(">=", *self._lane_and(first))

    def _lane_and(self, number: Value) -> tuple[Value, Value]:
        lane = ir.Constant(ir.VectorType(I32, self.lanes), list(range(self.lanes)))
        poison = ir.Constant(lane.type, ir.Undefined)
        wide = self.b.insert_element(poison, self.b.trunc(number, I32), ir.Constant(I32, 0))
        zeros = ir.Constant(lane.type, [0] * self.lanes)
        return lane, self.b.shuffle_vector(wide, poison, zeros)

    def mask_bits(self, pointer: Value, index: Value | int) -> Value:
        """Entry `index` of a table of u16 masks, one bit per lane, as a mask."""
        bits = self.b.load(self.element(pointer, index, I16), typ=I16)
        if self.lanes < 16:
            bits = self.b.trunc(bits, ir.IntType(self.lanes))
        return self.b.bitcast(bits, self.module.mask)

    def prefetch(self, pointer: Value, *, write: bool = False) -> None:
        """Ask for the cache line of an address in the nearest cache, to be written or only read; never faults."""
        prefetch = self.module.intrinsic("llvm.prefetch.p0", ir.VoidType(), [PTR, I32, I32, I32])
        kind, keep, data = (ir.Constant(I32, value) for value in (int(write), 3, 1))
        self.b.call(prefetch, [pointer, kind, keep, data])

    def load_masked(self, mask: Value, pointer: Value, index: Value | int = 0, other: Value | float = 0.0) -> Value:
        """Lanes of the mask from memory, `other` elsewhere; memory behind other lanes is not touched."""
        load = self.module.intrinsic(
            f"llvm.masked.load.v{self.lanes}f32.p0", self.vector, [PTR, I32, self.module.mask, self.vector]
        )
        arguments = [self.element(pointer, index), ir.Constant(I32, 4), mask, self.splat(other)]
        return self.b.call(load, arguments)

    def store_masked(self, mask: Value, value: Value, pointer: Value, index: Value | int = 0) -> None:
        """Store the lanes of the mask; other memory stays untouched."""
        store = self.module.intrinsic(
            f"llvm.masked.store.v{self.lanes}f32.p0", ir.VoidType(), [self.vector, PTR, I32, self.module.mask]
        )
        self.b.call(store, [value, self.element(pointer, index), ir.Constant(I32, 4), mask])

    def load_bytes(self, mask: Value, pointer: Value) -> Value:
        """Bytes from an address on, for the lanes of the mask; 0 elsewhere."""
        kind = ir.VectorType(I8, self.lanes)
        load = self.module.intrinsic(f"llvm.masked.load.v{self.lanes}i8.p0", kind, [PTR, I32, self.module.mask, kind])
        return self.b.call(load, [pointer, ir.Constant(I32, 1), mask, ir.Constant(kind, [0] * self.lanes)])

    def store_bytes(self, mask: Value, value: Value, pointer: Value) -> None:
        """Store the lanes of the mask as bytes from an address on."""
        store = self.module.intrinsic(
            f"llvm.masked.store.v{self.lanes}i8.p0", ir.VoidType(), [value.type, PTR, I32, self.module.mask]
        )
        self.b.call(store, [value, pointer, ir.Constant(I32, 1), mask])

    def gather(self, array: Value, indices: Value) -> Value:
        """The elements of an array at the indices, a vector of integers that are not negative."""
        b, lanes = self.b, self.lanes
        pointers = ir.VectorType(PTR, lanes)
        arguments = [pointers, I32, self.module.mask, self.vector]
        gather = self.module.intrinsic(f"llvm.masked.gather.v{lanes}f32.v{lanes}p0", self.vector, arguments)
        places = b.gep(array, [b.zext(indices, ir.VectorType(I64, lanes))], source_etype=F32)
        places.type = pointers  # llvmlite gives the type of the scalar form
        everywhere = ir.Constant(self.module.mask, [1] * lanes)
        return b.call(gather, [places, ir.Constant(I32, 4), everywhere, self.splat(0.0)])

    # Arithmetic on floats and vectors of floats

    def call(self, name: str, *values: Value) -> Value:
        """An LLVM intrinsic on float values of one type, for example `call("fma", a, b, c)`."""
        kind = values[0].type
        suffix = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
        return self.b.call(self.module.intrinsic(f"llvm.{name}.{suffix}", kind, [kind] * len(values)), values)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a b + c, rounded once."""
        return self.call("fma", a, b, c)

    def max(self, a: Value, b: Value) -> Value:
        """`a` where a is greater than b, else `b`; so a NaN in `b` stays, one in `a` goes (as vmaxps does)."""
        return self.b.select(self.b.fcmp_ordered(">", a, b), a, b)

    def min(self, a: Value, b: Value) -> Value:
        """`a` where a is less than b, else `b`; a NaN in `b` stays."""
        return self.b.select(self.b.fcmp_ordered("<", a, b), a, b)

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Lanes of two vectors put together: index i of `a`, then len(a) + i of `b`."""
        return self.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))
