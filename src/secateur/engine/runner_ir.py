"""The native loop over a program's steps, and the threads that take part in it, as LLVM IR.

    launch(pool, job)      thread 0: wakes the others, walks all steps, returns when the last one is done
    worker(pool, thread)   another thread: waits for a job, walks its steps, waits again; returns after stop
    retire(pool, job)      returns when no worker reads the job any more, and none will
    stop(pool)             lets all workers return
    spin(pool, count)      `count` rounds of waiting for something that does not happen, to time one round
    ticks()                a counter that runs at a constant rate

How steps are walked stands in `runner_walk`. Workers that wait for a job spin, give up their time slices, then sleep on
a condition variable. A worker that the system takes off its processor may read a job long after its last step was done;
so it says which one it reads, and `retire` waits for that before the job's memory goes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from secateur.engine import runner_layout as words
from secateur.engine.emit.builder import I64, PTR, KernelModule, Value
from secateur.engine.runner_body import VOID, RunnerBody, on_x86
from secateur.engine.runner_placement import (
    keep_apart,
    note_cpu,
    note_sleep,
    place_sleepers,
    record_of,
    return_to_everywhere,
)
from secateur.engine.runner_walk import nap, wait_until, walk

_IDLE = (words.IDLE_SPINS, words.IDLE_YIELDS)


@dataclass(frozen=True)
class Runner:
    """The runner as something that the compiler takes; it defines `runner_layout.SYMBOLS`."""

    name: str = "secateur_runner"
    fields: tuple[str, ...] = ()
    symbols: tuple[str, ...] = words.SYMBOLS

    def emit(self, module: KernelModule) -> None:
        """Write all functions into a module."""
        for write in (_ticks, wait_until, walk, _launch, _worker, _retire, _stop, _spin):
            write(module)


def _ticks(module: KernelModule) -> None:
    f = RunnerBody(module, "ticks", I64, [], False)
    # The cycle counter of AArch64 is not readable by programs; its steady counter is.
    f.b.ret(f.intrinsic("llvm.readcyclecounter" if on_x86(module) else "llvm.readsteadycounter", I64))


def _launch(module: KernelModule) -> None:
    f = RunnerBody(module, "launch", VOID, [PTR, PTR], False)
    pool, job = f.function.args
    zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
    with f.b.if_then(f.b.icmp_unsigned(">", f.get(job, words.THREADS), one)):
        note_cpu(f, pool, zero)
        # Workers that read the old number find every step of the new run done.
        f.b.atomic_rmw("add", f.word(job, words.RUN), one, "seq_cst")
        f.b.atomic_rmw("xchg", f.word(pool, words.JOB), f.b.ptrtoint(job, I64), "seq_cst")
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
    b.store(f.i64(0), seen)
    generation, sleepers = f.word(pool, words.GENERATION), f.word(pool, words.SLEEPERS)
    again = b.append_basic_block("again")
    b.branch(again)
    b.position_at_end(again)
    next_one = b.add(b.load(seen, typ=I64), one)
    came = f.call("wait_until", pool, generation, next_one, *(f.get(pool, word) for word in _IDLE))
    with b.if_then(b.not_(came)):
        mutex, condition = f.get(pool, words.MUTEX, PTR), f.get(pool, words.CONDITION, PTR)
        f.library(pool, words.LOCK, mutex)
        note_sleep(f, pool, thread)
        b.atomic_rmw("add", sleepers, one, "seq_cst")
        f.until(
            lambda: b.icmp_unsigned(">=", f.watch(generation, "seq_cst"), next_one),
            lambda: f.library(pool, words.WAIT, condition, mutex),
        )
        b.atomic_rmw("sub", sleepers, one, "seq_cst")
        return_to_everywhere(f, pool, thread)
        f.library(pool, words.UNLOCK, mutex)
    with b.if_then(b.icmp_unsigned("!=", f.watch(f.word(pool, words.STOP), "seq_cst"), f.i64(0))):
        b.ret_void()
    # Generations that this thread slept through are done.
    b.store(f.watch(generation, "seq_cst"), seen)
    keep_apart(f, pool, thread)
    inside = f.word(record_of(f, pool, thread), words.WORKER_INSIDE)
    job = _entered(f, pool, inside)
    with b.if_then(b.not_(f.is_zero(job))):
        f.call("walk", pool, b.inttoptr(job, PTR), thread)
    b.atomic_rmw("xchg", inside, f.i64(0), "release")
    b.branch(again)


def _entered(f: RunnerBody, pool: Value, inside: Value) -> Value:
    """The pool's job, after this worker has said that it reads it; 0 if there is none."""
    b = f.b
    told = f.variable(f.i64(0))

    def tell() -> None:
        job = f.watch(f.word(pool, words.JOB), "seq_cst")
        b.atomic_rmw("xchg", inside, job, "seq_cst")
        b.store(job, told)

    tell()
    # Either `retire` sees what was told, or this sees that the job is another one by now.
    f.until(lambda: b.icmp_unsigned("==", f.watch(f.word(pool, words.JOB), "seq_cst"), b.load(told, typ=I64)), tell)
    return b.load(told, typ=I64)


def _retire(module: KernelModule) -> None:
    f = RunnerBody(module, "retire", VOID, [PTR, PTR], False)
    pool, job = f.function.args
    address = f.b.ptrtoint(job, I64)
    f.b.cmpxchg(f.word(pool, words.JOB), address, f.i64(0), "seq_cst", "seq_cst")
    with f.count(f.get(pool, words.POOL_THREADS)) as thread:
        inside = f.word(record_of(f, pool, thread), words.WORKER_INSIDE)
        f.until(lambda: f.b.icmp_unsigned("!=", f.watch(inside, "seq_cst"), address), lambda: nap(f, pool))
    f.b.ret_void()


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
    f.call("wait_until", pool, f.word(pool, words.STOP), f.i64(1), count, f.i64(0))
    f.b.ret_void()
