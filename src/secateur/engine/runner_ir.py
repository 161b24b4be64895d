"""The native loop over a program's steps, and the threads that take part in it, as LLVM IR.

    launch(pool, job)      thread 0: wakes the others, walks all steps, returns when every thread has finished the last
    worker(pool, thread)   another thread: waits for a job, walks its steps, waits again; returns after stop
    stop(pool)             lets all workers return
    spin(pool, count)      `count` rounds of waiting for something that does not happen, to time one round
    ticks()                a counter that runs at a constant rate

Threads meet after every step at a barrier: the last one to arrive changes `epoch`, on which the others wait, first
spinning, then giving up their time slice, then sleeping (ENGINE.md 3.12). Since all threads have left one barrier
before any can complete the next, `arrived` and `epoch` need no second copy. Workers that wait for a job spin, then
sleep on a condition variable.
"""

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from secateur.engine import runner_layout as words
from secateur.engine.emit.builder import I1, I8, I32, I64, PTR, KernelModule, Value
from secateur.engine.runner_body import VOID, RunnerBody, on_x86
from secateur.engine.runner_placement import keep_apart, note_cpu, note_sleep, place_sleepers, return_to_everywhere


@dataclass(frozen=True)
class Runner:
    """The runner as something that the compiler takes; it defines `runner_layout.SYMBOLS`."""

    name: str = "secateur_runner"
    fields: tuple[str, ...] = ()
    symbols: tuple[str, ...] = words.SYMBOLS

    def emit(self, module: KernelModule) -> None:
        """Write all functions into a module."""
        for write in (_ticks, _wait_for_change, _barrier, _walk, _launch, _worker, _stop, _spin):
            write(module)


def _ticks(module: KernelModule) -> None:
    f = RunnerBody(module, "ticks", I64, [], False)
    # The cycle counter of AArch64 is not readable by programs; its steady counter is.
    f.b.ret(f.intrinsic("llvm.readcyclecounter" if on_x86(module) else "llvm.readsteadycounter", I64))


def _wait_for_change(module: KernelModule) -> None:
    """i1 (pool, word, old, spins, yields): waits while *word is `old`, bounded; whether it changed."""
    f = RunnerBody(module, "wait_for_change", I1, [PTR, PTR, I64, I64, I64], True)
    pool, word, old, spins, yields = f.function.args

    def leave_when_changed() -> None:
        with f.b.if_then(f.b.icmp_unsigned("!=", f.watch(word, "acquire"), old)):
            f.b.ret(ir.Constant(I1, True))

    with f.count(spins):
        leave_when_changed()
        f.pause()
    with f.count(yields):
        leave_when_changed()
        f.library(pool, words.YIELD)
    f.b.ret(f.b.icmp_unsigned("!=", f.watch(word, "acquire"), old))


def _barrier(module: KernelModule) -> None:
    """void (pool, threads): returns when all threads have called it."""
    f = RunnerBody(module, "barrier", VOID, [PTR, I64], True)
    pool, threads = f.function.args
    one = ir.Constant(I64, 1)
    epoch = f.word(pool, words.EPOCH)
    before = f.watch(epoch, "monotonic")  # cannot change before this thread has arrived too
    earlier = f.b.atomic_rmw("add", f.word(pool, words.ARRIVED), one, "acq_rel")
    with f.b.if_else(f.b.icmp_unsigned("==", f.b.add(earlier, one), threads)) as (last, waiting):
        with last:
            f.b.atomic_rmw("xchg", f.word(pool, words.ARRIVED), ir.Constant(I64, 0), "monotonic")
            f.b.atomic_rmw("add", epoch, one, "release")
        with waiting:
            changed = f.call(
                "wait_for_change", pool, epoch, before, f.get(pool, words.SPINS), f.get(pool, words.YIELDS)
            )
            with f.b.if_then(f.b.not_(changed)):
                f.until(
                    lambda: f.b.icmp_unsigned("!=", f.watch(epoch, "acquire"), before),
                    lambda: f.library(pool, words.SLEEP, f.word(pool, words.NAP_SECONDS), ir.Constant(PTR, None)),
                )
    f.b.ret_void()


def _walk(module: KernelModule) -> None:
    """void (pool, job, thread): this thread's part of all steps."""
    f = RunnerBody(module, "walk", VOID, [PTR, PTR, I64], True)
    pool, job, thread = f.function.args
    b = f.b
    leave = _enter_mode(f, f.get(job, words.MODE))
    steps, ranges, clock = (f.get(job, word, PTR) for word in (words.STEPS, words.RANGES, words.CLOCK))
    threads, stride = f.get(job, words.THREADS), f.get(job, words.SCRATCH_STRIDE)
    scratch = b.gep(f.get(job, words.SCRATCH, PTR), [b.mul(thread, stride)], source_etype=I8)
    alone = b.icmp_unsigned("==", threads, ir.Constant(I64, 1))
    timed = b.and_(
        b.icmp_unsigned("!=", f.get(job, words.CLOCK), ir.Constant(I64, 0)),
        b.icmp_unsigned("==", thread, ir.Constant(I64, 0)),
    )

    def note_time(index: Value) -> None:
        with b.if_then(timed):
            b.store(f.call("ticks"), f.word(clock, index), align=8)

    note_time(ir.Constant(I64, 0))
    row = b.add(threads, ir.Constant(I64, 1))
    kernel_type = ir.FunctionType(VOID, [PTR, I64, I64, PTR])
    with f.count(f.get(job, words.COUNT)) as i:
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


def _enter_mode(f: RunnerBody, mode: Value) -> Callable[[], None]:
    """Set this thread's floating-point mode; the result puts the old one back."""
    if on_x86(f.module):
        old, new = f.b.alloca(I32), f.b.alloca(I32)
        f.intrinsic("llvm.x86.sse.stmxcsr", VOID, old)
        f.b.store(f.b.trunc(mode, I32), new)
        f.intrinsic("llvm.x86.sse.ldmxcsr", VOID, new)
        return lambda: f.intrinsic("llvm.x86.sse.ldmxcsr", VOID, old)
    before = f.intrinsic("llvm.aarch64.get.fpcr", I64)
    f.intrinsic("llvm.aarch64.set.fpcr", VOID, mode)
    return lambda: f.intrinsic("llvm.aarch64.set.fpcr", VOID, before)


def _launch(module: KernelModule) -> None:
    f = RunnerBody(module, "launch", VOID, [PTR, PTR], False)
    pool, job = f.function.args
    zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
    with f.b.if_then(f.b.icmp_unsigned(">", f.get(job, words.THREADS), one)):
        note_cpu(f, pool, zero)
        f.put(job, pool, words.JOB)
        # Either this sees a worker that announced its sleep, or that worker sees the new generation before it sleeps.
        f.b.atomic_rmw("add", f.word(pool, words.GENERATION), one, "seq_cst")
        with f.b.if_then(f.b.icmp_unsigned("!=", f.watch(f.word(pool, words.SLEEPERS), "seq_cst"), zero)):
            _wake(f, pool, lambda: place_sleepers(f, pool))
    f.call("walk", pool, job, zero)
    f.b.ret_void()


def _wake(f: RunnerBody, pool: Value, before: Callable[[], None] = lambda: None) -> None:
    mutex = f.get(pool, words.MUTEX, PTR)
    f.library(pool, words.LOCK, mutex)
    before()
    f.library(pool, words.BROADCAST, f.get(pool, words.CONDITION, PTR))
    f.library(pool, words.UNLOCK, mutex)


def _worker(module: KernelModule) -> None:
    f = RunnerBody(module, "worker", VOID, [PTR, I64], False)
    pool, thread = f.function.args
    b = f.b
    one = ir.Constant(I64, 1)
    seen = b.alloca(I64)
    b.store(ir.Constant(I64, 0), seen)
    generation, sleepers = f.word(pool, words.GENERATION), f.word(pool, words.SLEEPERS)
    again = b.append_basic_block("again")
    b.branch(again)
    b.position_at_end(again)
    old = b.load(seen, typ=I64)
    changed = f.call(
        "wait_for_change", pool, generation, old, f.get(pool, words.IDLE_SPINS), f.get(pool, words.IDLE_YIELDS)
    )
    with b.if_then(b.not_(changed)):
        mutex, condition = f.get(pool, words.MUTEX, PTR), f.get(pool, words.CONDITION, PTR)
        f.library(pool, words.LOCK, mutex)
        note_sleep(f, pool, thread)
        b.atomic_rmw("add", sleepers, one, "seq_cst")
        f.until(
            lambda: b.icmp_unsigned("!=", f.watch(generation, "seq_cst"), old),
            lambda: f.library(pool, words.WAIT, condition, mutex),
        )
        b.atomic_rmw("sub", sleepers, one, "seq_cst")
        return_to_everywhere(f, pool, thread)
        f.library(pool, words.UNLOCK, mutex)
    with b.if_then(b.icmp_unsigned("!=", f.watch(f.word(pool, words.STOP), "seq_cst"), ir.Constant(I64, 0))):
        b.ret_void()
    # Every job ends at a barrier with this thread, so no generation is missed.
    b.store(b.add(old, one), seen)
    keep_apart(f, pool, thread)
    f.call("walk", pool, f.get(pool, words.JOB, PTR), thread)
    b.branch(again)


def _stop(module: KernelModule) -> None:
    f = RunnerBody(module, "stop", VOID, [PTR], False)
    (pool,) = f.function.args
    f.b.atomic_rmw("xchg", f.word(pool, words.STOP), ir.Constant(I64, 1), "seq_cst")
    f.b.atomic_rmw("add", f.word(pool, words.GENERATION), ir.Constant(I64, 1), "seq_cst")
    _wake(f, pool)
    f.b.ret_void()


def _spin(module: KernelModule) -> None:
    f = RunnerBody(module, "spin", VOID, [PTR, I64], False)
    pool, count = f.function.args
    still = f.word(pool, words.STOP)
    f.call("wait_for_change", pool, still, f.watch(still, "monotonic"), count, ir.Constant(I64, 0))
    f.b.ret_void()
