"""What the functions of the runner are written with: words in memory, loops, calls of the C library."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from secateur.engine.emit.builder import I32, I64, KernelModule, Value

VOID = ir.VoidType()


def on_x86(module: KernelModule) -> bool:
    """Whether code is written for x86-64, else for AArch64."""
    return module.target.machine == "x86_64"


class RunnerBody:
    """The inside of one function; words are 8 bytes at a pointer."""

    def __init__(self, module: KernelModule, name: str, result: Any, arguments: Sequence[Any], internal: bool) -> None:
        self.module = module
        self.function = ir.Function(module.module, ir.FunctionType(result, arguments), f"secateur_{name}")
        self.function.attributes.add("nounwind")
        if internal:
            self.function.linkage = "internal"
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))

    def i64(self, value: int) -> Value:
        """A constant."""
        return ir.Constant(I64, value)

    def variable(self, value: Value) -> Value:
        """A variable that begins with a value; made in the entry block, so that loops do not grow the stack."""
        with self.b.goto_entry_block():
            slot = self.b.alloca(value.type)
        self.b.store(value, slot)
        return slot

    def is_zero(self, value: Value) -> Value:
        """Whether an integer is 0."""
        return self.b.icmp_unsigned("==", value, ir.Constant(value.type, 0))

    def word(self, pointer: Value, index: int | Value) -> Value:
        """Address of a word."""
        return self.b.gep(pointer, [ir.Constant(I64, index) if isinstance(index, int) else index], source_etype=I64)

    def get(self, pointer: Value, index: int | Value, type: Any = I64) -> Value:
        """A word that no other thread writes meanwhile."""
        return self.b.load(self.word(pointer, index), typ=type, align=8)

    def put(self, value: Value, pointer: Value, index: int | Value) -> None:
        """Write a word that no other thread reads meanwhile."""
        self.b.store(value, self.word(pointer, index), align=8)

    def watch(self, pointer: Value, ordering: str) -> Value:
        """A word that other threads write."""
        return self.b.load_atomic(pointer, ordering, 8, typ=I64)

    def reached(self, pointer: Value, goal: Value) -> Value:
        """Whether a word that other threads let grow is at least a number; what they wrote before is seen then."""
        return self.b.icmp_unsigned(">=", self.watch(pointer, "acquire"), goal)

    def intrinsic(self, name: str, result: Any, *values: Value) -> Value:
        """The result of an LLVM intrinsic."""
        return self.b.call(self.module.intrinsic(name, result, [value.type for value in values]), values)

    def call(self, name: str, *values: Value) -> Value:
        """A call of another function of this module."""
        return self.b.call(self.module.module.globals[f"secateur_{name}"], values)

    def library(self, pool: Value, which: int, *values: Value) -> Value:
        """The int that a function of the C library returns."""
        type = ir.FunctionType(I32, [value.type for value in values])
        return self.b.call(self.get(pool, which, ir.PointerType(type)), values)

    def pause(self) -> None:
        """Tell the processor that this is a waiting loop."""
        if on_x86(self.module):
            self.intrinsic("llvm.x86.sse2.pause", VOID)
        else:
            self.intrinsic("llvm.aarch64.hint", VOID, ir.Constant(I32, 1))

    @contextmanager
    def count(self, end: Value) -> Generator[Value, None, None]:
        """`for i in range(end)`"""
        b, entry = self.b, self.b.block
        head, inside, after = (b.append_basic_block(name) for name in ("head", "inside", "after"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(ir.Constant(I64, 0), entry)
        b.cbranch(b.icmp_unsigned("<", i, end), inside, after)
        b.position_at_end(inside)
        yield i
        i.add_incoming(b.add(i, ir.Constant(I64, 1)), b.block)
        b.branch(head)
        b.position_at_end(after)

    def until(self, condition: Callable[[], Value], action: Callable[[], None]) -> None:
        """`while not condition(): action()`"""
        b = self.b
        head, inside, after = (b.append_basic_block(name) for name in ("head", "inside", "after"))
        b.branch(head)
        b.position_at_end(head)
        b.cbranch(condition(), after, inside)
        b.position_at_end(inside)
        action()
        b.branch(head)
        b.position_at_end(after)
