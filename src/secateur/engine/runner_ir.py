"""The native loop over a program's steps, and the threads that take part in it, as LLVM IR.

    launch(pool, job)      thread 0: wakes the others, walks all steps, returns when every thread has finished the last
    worker(pool, thread)   another thread: waits for a job, walks its steps, waits again; returns after stop
    stop(pool)             lets all workers return
    spin(pool, count)      `count` rounds of waiting for something that does not happen, to time one round
    ticks()                a counter that runs at a constant rate

Threads meet after every step at a barrier: the last one to arrive changes `epoch`, on which the others wait, first
spinning, then giving up their time slice, then sleeping (ENGINE.md 3.12). Since all threads have left one barrier
before any can complete the next, `arrived` and `epoch` need no second copy. Workers that wait for a job spin, then
sleep on a condition variable. Functions of the C library come in as data, so the object has no undefined symbols.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from secateur.engine.emit.builder import I1, I8, I32, I64, PTR, KernelModule, Value

# Words of 8 bytes in a pool; what different threads write lies in different cache lines.
MUTEX, CONDITION, LOCK, UNLOCK, WAIT, BROADCAST, YIELD, SLEEP = range(8)
SPINS, YIELDS, IDLE_SPINS, IDLE_YIELDS, NAP_SECONDS, NAP_NANOSECONDS = range(8, 14)
ARRIVED, EPOCH, GENERATION, JOB, STOP, SLEEPERS = 16, 24, 32, 40, 41, 48
MUTEX_MEMORY, CONDITION_MEMORY, POOL_WORDS = 64, 80, 96

# Words of a job. STEPS points to pairs (kernel, arguments), RANGES to threads + 1 unit numbers per step, CLOCK to
# count + 1 counter readings or is 0. MODE is the floating-point mode that kernels run in.
STEPS, COUNT, RANGES, THREADS, SCRATCH, SCRATCH_STRIDE, CLOCK, MODE, JOB_WORDS = range(9)

# Round to nearest, all exceptions masked; denormal numbers kept, or taken as zero.
MODES = {
    "x86_64": {"keep": 0x1F80, "flush": 0x1F80 | 1 << 15 | 1 << 6},
    "aarch64": {"keep": 0, "flush": 1 << 24},
}
SYMBOLS = tuple(f"secateur_{name}" for name in ("launch", "worker", "stop", "spin", "ticks"))


@dataclass(frozen=True)
class Runner:
    """The runner as something that the compiler takes; it defines SYMBOLS."""

    name: str = "secateur_runner"
    fields: tuple[str, ...] = ()
    symbols: tuple[str, ...] = SYMBOLS

    def emit(self, module: KernelModule) -> None:
        """Write all functions into a module."""
        for write in (_ticks, _wait_for_change, _barrier, _walk, _launch, _worker, _stop, _spin):
            write(module)


class _Body:
    """The inside of one function; words are 8 bytes at a pointer."""

    def __init__(self, module: KernelModule, name: str, result: Any, arguments: Sequence[Any], internal: bool) -> None:
        self.module = module
        self.function = ir.Function(module.module, ir.FunctionType(result, arguments), f"secateur_{name}")
        self.function.attributes.add("nounwind")
        if internal:
            self.function.linkage = "internal"
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))

    def word(self, pointer: Value, index: int | Value) -> Value:
        """Address of a word."""
        return self.b.gep(pointer, [ir.Constant(I64, index) if isinstance(index, int) else index], source_etype=I64)

    def get(self, pointer: Value, index: int | Value, type: Any = I64) -> Value:
        """A word that no other thread writes meanwhile."""
        return self.b.load(self.word(pointer, index), typ=type, align=8)

    def watch(self, pointer: Value, ordering: str) -> Value:
        """A word that other threads write."""
        return self.b.load_atomic(pointer, ordering, 8, typ=I64)

    def intrinsic(self, name: str, result: Any, *values: Value) -> Value:
        """The result of an LLVM intrinsic."""
        return self.b.call(self.module.intrinsic(name, result, [value.type for value in values]), values)

    def call(self, name: str, *values: Value) -> Value:
        """A call of another function of this module."""
        return self.b.call(self.module.module.globals[f"secateur_{name}"], values)

    def library(self, pool: Value, which: int, *values: Value) -> None:
        """A call of a function of the C library."""
        type = ir.FunctionType(I32, [value.type for value in values])
        self.b.call(self.get(pool, which, ir.PointerType(type)), values)

    def pause(self) -> None:
        """Tell the processor that this is a waiting loop."""
        if _on_x86(self.module):
            self.intrinsic("llvm.x86.sse2.pause", ir.VoidType())
        else:
            self.intrinsic("llvm.aarch64.hint", ir.VoidType(), ir.Constant(I32, 1))

    @contextmanager
    def count(self, end: Value) -> Any:
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


def _on_x86(module: KernelModule) -> bool:
    return module.target.machine == "x86_64"


def _ticks(module: KernelModule) -> None:
    f = _Body(module, "ticks", I64, [], False)
    # The cycle counter of AArch64 is not readable by programs; its steady counter is.
    f.b.ret(f.intrinsic("llvm.readcyclecounter" if _on_x86(module) else "llvm.readsteadycounter", I64))


def _wait_for_change(module: KernelModule) -> None:
    """i1 (pool, word, old, spins, yields): waits while *word is `old`, bounded; whether it changed."""
    f = _Body(module, "wait_for_change", I1, [PTR, PTR, I64, I64, I64], True)
    pool, word, old, spins, yields = f.function.args

    def leave_when_changed() -> None:
        with f.b.if_then(f.b.icmp_unsigned("!=", f.watch(word, "acquire"), old)):
            f.b.ret(ir.Constant(I1, True))

    with f.count(spins):
        leave_when_changed()
        f.pause()
    with f.count(yields):
        leave_when_changed()
        f.library(pool, YIELD)
    f.b.ret(f.b.icmp_unsigned("!=", f.watch(word, "acquire"), old))


def _barrier(module: KernelModule) -> None:
    """void (pool, threads): returns when all threads have called it."""
    f = _Body(module, "barrier", ir.VoidType(), [PTR, I64], True)
    pool, threads = f.function.args
    one = ir.Constant(I64, 1)
    epoch = f.word(pool, EPOCH)
    before = f.watch(epoch, "monotonic")  # cannot change before this thread has arrived too
    earlier = f.b.atomic_rmw("add", f.word(pool, ARRIVED), one, "acq_rel")
    with f.b.if_else(f.b.icmp_unsigned("==", f.b.add(earlier, one), threads)) as (last, waiting):
        with last:
            f.b.atomic_rmw("xchg", f.word(pool, ARRIVED), ir.Constant(I64, 0), "monotonic")
            f.b.atomic_rmw("add", epoch, one, "release")
        with waiting:
            changed = f.call("wait_for_change", pool, epoch, before, f.get(pool, SPINS), f.get(pool, YIELDS))
            with f.b.if_then(f.b.not_(changed)):
                f.until(
                    lambda: f.b.icmp_unsigned("!=", f.watch(epoch, "acquire"), before),
                    lambda: f.library(pool, SLEEP, f.word(pool, NAP_SECONDS), ir.Constant(PTR, None)),
                )
    f.b.ret_void()


def _walk(module: KernelModule) -> None:
    """void (pool, job, thread): this thread's part of all steps."""
    f = _Body(module, "walk", ir.VoidType(), [PTR, PTR, I64], True)
    pool, job, thread = f.function.args
    b = f.b
    leave = _enter_mode(f, f.get(job, MODE))
    steps, ranges, clock = (f.get(job, word, PTR) for word in (STEPS, RANGES, CLOCK))
    threads, stride = f.get(job, THREADS), f.get(job, SCRATCH_STRIDE)
    scratch = b.gep(f.get(job, SCRATCH, PTR), [b.mul(thread, stride)], source_etype=I8)
    alone = b.icmp_unsigned("==", threads, ir.Constant(I64, 1))
    timed = b.and_(
        b.icmp_unsigned("!=", f.get(job, CLOCK), ir.Constant(I64, 0)),
        b.icmp_unsigned("==", thread, ir.Constant(I64, 0)),
    )

    def note_time(index: Value) -> None:
        with b.if_then(timed):
            b.store(f.call("ticks"), f.word(clock, index), align=8)

    note_time(ir.Constant(I64, 0))
    row = b.add(threads, ir.Constant(I64, 1))
    kernel_type = ir.FunctionType(ir.VoidType(), [PTR, I64, I64, PTR])
    with f.count(f.get(job, COUNT)) as i:
        mine = f.word(ranges, b.add(b.mul(i, row), thread))
        begin, end = f.get(mine, 0), f.get(mine, 1)
        with b.if_then(b.icmp_signed("<", begin, end)):
            step = f.word(steps, b.mul(i, ir.Constant(I64, 2)))
            b.call(f.get(step, 0, ir.PointerType(kernel_type)), [f.get(step, 1, PTR), begin, end, scratch])
        with b.if_then(b.not_(alone)):
            f.call("barrier", pool, threads)
        note_time(b.add(i, ir.Constant(I64, 1)))
    leave()
    b.ret_void()


def _enter_mode(f: _Body, mode: Value) -> Callable[[], None]:
    """Set this thread's floating-point mode; the result puts the old one back."""
    if _on_x86(f.module):
        old, new = f.b.alloca(I32), f.b.alloca(I32)
        f.intrinsic("llvm.x86.sse.stmxcsr", ir.VoidType(), old)
        f.b.store(f.b.trunc(mode, I32), new)
        f.intrinsic("llvm.x86.sse.ldmxcsr", ir.VoidType(), new)
        return lambda: f.intrinsic("llvm.x86.sse.ldmxcsr", ir.VoidType(), old)
    before = f.intrinsic("llvm.aarch64.get.fpcr", I64)
    f.intrinsic("llvm.aarch64.set.fpcr", ir.VoidType(), mode)
    return lambda: f.intrinsic("llvm.aarch64.set.fpcr", ir.VoidType(), before)


def _launch(module: KernelModule) -> None:
    f = _Body(module, "launch", ir.VoidType(), [PTR, PTR], False)
    pool, job = f.function.args
    zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
    with f.b.if_then(f.b.icmp_unsigned(">", f.get(job, THREADS), one)):
        f.b.store(job, f.word(pool, JOB), align=8)
        # Either this sees a worker that announced its sleep, or that worker sees the new generation before it sleeps.
        f.b.atomic_rmw("add", f.word(pool, GENERATION), one, "seq_cst")
        with f.b.if_then(f.b.icmp_unsigned("!=", f.watch(f.word(pool, SLEEPERS), "seq_cst"), zero)):
            _wake(f, pool)
    f.call("walk", pool, job, zero)
    f.b.ret_void()


def _wake(f: _Body, pool: Value) -> None:
    mutex = f.get(pool, MUTEX, PTR)
    f.library(pool, LOCK, mutex)
    f.library(pool, BROADCAST, f.get(pool, CONDITION, PTR))
    f.library(pool, UNLOCK, mutex)


def _worker(module: KernelModule) -> None:
    f = _Body(module, "worker", ir.VoidType(), [PTR, I64], False)
    pool, thread = f.function.args
    b = f.b
    one = ir.Constant(I64, 1)
    seen = b.alloca(I64)
    b.store(ir.Constant(I64, 0), seen)
    generation, sleepers = f.word(pool, GENERATION), f.word(pool, SLEEPERS)
    again = b.append_basic_block("again")
    b.branch(again)
    b.position_at_end(again)
    old = b.load(seen, typ=I64)
    changed = f.call("wait_for_change", pool, generation, old, f.get(pool, IDLE_SPINS), f.get(pool, IDLE_YIELDS))
    with b.if_then(b.not_(changed)):
        mutex, condition = f.get(pool, MUTEX, PTR), f.get(pool, CONDITION, PTR)
        f.library(pool, LOCK, mutex)
        b.atomic_rmw("add", sleepers, one, "seq_cst")
        f.until(
            lambda: b.icmp_unsigned("!=", f.watch(generation, "seq_cst"), old),
            lambda: f.library(pool, WAIT, condition, mutex),
        )
        b.atomic_rmw("sub", sleepers, one, "seq_cst")
        f.library(pool, UNLOCK, mutex)
    with b.if_then(b.icmp_unsigned("!=", f.watch(f.word(pool, STOP), "seq_cst"), ir.Constant(I64, 0))):
        b.ret_void()
    # Every job ends at a barrier with this thread, so no generation is missed.
    b.store(b.add(old, one), seen)
    f.call("walk", pool, f.get(pool, JOB, PTR), thread)
    b.branch(again)


def _stop(module: KernelModule) -> None:
    f = _Body(module, "stop", ir.VoidType(), [PTR], False)
    (pool,) = f.function.args
    f.b.atomic_rmw("xchg", f.word(pool, STOP), ir.Constant(I64, 1), "seq_cst")
    f.b.atomic_rmw("add", f.word(pool, GENERATION), ir.Constant(I64, 1), "seq_cst")
    _wake(f, pool)
    f.b.ret_void()


def _spin(module: KernelModule) -> None:
    f = _Body(module, "spin", ir.VoidType(), [PTR, I64], False)
    pool, count = f.function.args
    still = f.word(pool, STOP)
    f.call("wait_for_change", pool, still, f.watch(still, "monotonic"), count, ir.Constant(I64, 0))
    f.b.ret_void()
