"""How threads walk the steps of a job, as LLVM IR.

    walk(pool, job, thread)    all steps, as one of the job's threads

The units of a step are cut into `PARTS` parts for every thread. A thread claims its own parts, one after another, then
those that others have not claimed yet; when all are claimed it waits until all are done, and goes on to the next step.
So a thread that the system has taken off its processor, or that wakes up late, holds the others up only while it has a
part of its own in work, and finds the steps that it missed done.

Words only ever grow, over all runs of a job, so nothing has to be set back between steps or runs:

    claimed[t, i]    parts of thread t in step i, run r:  (r - 1) PARTS  to  r PARTS
    done[i]          parts of all threads in step i, run r:  complete at  r THREADS PARTS

A thread that comes back with the number of an earlier run finds all of it claimed and done, and touches nothing else.
Waiting threads spin first, then take naps.
"""

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from secateur.engine import runner_layout as words
from secateur.engine.emit.builder import I1, I8, I32, I64, PTR, KernelModule, Value
from secateur.engine.runner_body import VOID, RunnerBody, on_x86

_KERNEL = ir.FunctionType(VOID, [PTR, I64, I64, PTR])


def wait_until(module: KernelModule) -> None:
    """i1 (pool, word, goal, spins, yields): waits while *word is less than `goal`, bounded; whether it is not."""
    f = RunnerBody(module, "wait_until", I1, [PTR, PTR, I64, I64, I64], True)
    pool, word, goal, spins, yields = f.function.args

    def leave_when_reached() -> None:
        with f.b.if_then(f.reached(word, goal)):
            f.b.ret(ir.Constant(I1, True))

    with f.count(spins):
        leave_when_reached()
        f.pause()
    with f.count(yields):
        leave_when_reached()
        f.library(pool, words.YIELD)
    f.b.ret(f.reached(word, goal))


def nap(f: RunnerBody, pool: Value) -> None:
    """Sleep for the time that the pool says."""
    f.library(pool, words.SLEEP, f.word(pool, words.NAP_SECONDS), ir.Constant(PTR, None))


@dataclass(frozen=True)
class _Step:
    """What a thread needs in one step; `claimed` is the first thread's word, `stride` from one thread's to the next."""

    call: Callable[[Value, Value], None]
    claimed: Value
    stride: Value
    done: Value
    goal: Value
    first: Value
    parts: Value


def walk(module: KernelModule) -> None:
    """void (pool, job, thread): see the head of this file; alone, a thread takes all units of a step at once."""
    f = RunnerBody(module, "walk", VOID, [PTR, PTR, I64], True)
    pool, job, thread = f.function.args
    b = f.b
    leave = _enter_mode(f, f.get(job, words.MODE))
    steps, bounds, clock = (f.get(job, word, PTR) for word in (words.STEPS, words.BOUNDS, words.CLOCK))
    threads, parts, count = (f.get(job, word) for word in (words.THREADS, words.PARTS, words.COUNT))
    scratch = b.gep(f.get(job, words.SCRATCH, PTR), [b.mul(thread, f.get(job, words.SCRATCH_STRIDE))], source_etype=I8)
    claimed, done = f.get(job, words.CLAIMED, PTR), f.get(job, words.DONE, PTR)
    alone = b.icmp_unsigned("==", threads, f.i64(1))
    timed = b.and_(b.not_(f.is_zero(f.get(job, words.CLOCK))), f.is_zero(thread))
    run = f.watch(f.word(job, words.RUN), "seq_cst")
    all_parts = b.mul(threads, parts)
    first, goal = b.mul(b.sub(run, f.i64(1)), parts), b.mul(run, all_parts)

    def note_time(index: Value) -> None:
        with b.if_then(timed):
            b.store(f.call("ticks"), f.word(clock, index), align=8)

    note_time(f.i64(0))
    row = b.add(all_parts, f.i64(1))
    with f.count(count) as i:
        record, units = f.word(steps, b.mul(i, f.i64(2))), f.word(bounds, b.mul(i, row))

        def call(from_: Value, to: Value, record: Value = record, units: Value = units) -> None:
            begin, end = f.get(units, from_), f.get(units, to)
            with b.if_then(b.icmp_signed("<", begin, end)):
                kernel = f.get(record, 0, ir.PointerType(_KERNEL))
                b.call(kernel, [f.get(record, 1, PTR), begin, end, scratch])

        with b.if_else(alone) as (one, several):
            with one:
                call(f.i64(0), all_parts)
            with several:
                step = _Step(call, f.word(claimed, i), count, f.word(done, i), goal, first, parts)
                _do_together(f, pool, step, thread, threads)
        note_time(b.add(i, f.i64(1)))
    leave()
    b.ret_void()


def _do_together(f: RunnerBody, pool: Value, step: _Step, thread: Value, threads: Value) -> None:
    """This thread's parts, then those of the next threads that are not claimed; returns when all are done."""
    b = f.b
    with f.count(threads) as further, b.if_then(b.not_(f.reached(step.done, step.goal))):
        owner = b.urem(b.add(thread, further), threads)
        made = _claim_and_do(f, step, owner)
        with b.if_then(b.not_(f.is_zero(made))):
            b.atomic_rmw("add", step.done, made, "acq_rel")
    came = f.call("wait_until", pool, step.done, step.goal, f.get(pool, words.SPINS), f.i64(0))
    with b.if_then(b.not_(came)):
        f.until(lambda: f.reached(step.done, step.goal), lambda: nap(f, pool))


def _claim_and_do(f: RunnerBody, step: _Step, owner: Value) -> Value:
    """Parts of one thread, until none is left to claim; how many this thread did."""
    b = f.b
    word = f.word(step.claimed, b.mul(owner, step.stride))
    end = b.add(step.first, step.parts)
    made, known = f.variable(f.i64(0)), f.variable(f.watch(word, "monotonic"))

    def claim_next() -> None:
        at = b.load(known, typ=I64)
        outcome = b.cmpxchg(word, at, b.add(at, f.i64(1)), "acq_rel", "monotonic")
        with b.if_else(b.extract_value(outcome, 1)) as (mine, others):
            with mine:
                part = b.add(b.mul(owner, step.parts), b.sub(at, step.first))
                step.call(part, b.add(part, f.i64(1)))
                b.store(b.add(b.load(made, typ=I64), f.i64(1)), made)
                b.store(f.watch(word, "monotonic"), known)
            with others:
                b.store(b.extract_value(outcome, 0), known)

    f.until(lambda: b.icmp_unsigned(">=", b.load(known, typ=I64), end), claim_next)
    return b.load(made, typ=I64)


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
