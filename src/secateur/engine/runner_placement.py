"""On which processors threads run.

Linux wakes a thread on the processor where it slept if that is idle. In a virtual machine an idle processor counts as
taken away by the host, so workers wake on the processor of the thread that wakes them, and two threads that spin and
yield stay together for many milliseconds (measured on 2 virtual processors: a run of .35 ms on 2 threads took .8 ms
when they shared one, 1.2 ms after a pause; placed, .35 and .6 ms). Therefore

    before it wakes them, the caller of a run restricts each sleeping worker to a processor that no other thread has;
    a worker that finds itself on the processor of a thread before it moves to one where no thread was seen.

A worker lifts its restriction as soon as it runs, so it is bound to nothing. None of this happens where GET_CPU is 0.
"""

from collections.abc import Generator
from contextlib import contextmanager

from llvmlite import ir

from secateur.engine import runner_layout as words
from secateur.engine.emit.builder import I1, I32, I64, Value
from secateur.engine.runner_body import RunnerBody

_SELF = ir.Constant(I32, 0)
_BYTES = ir.Constant(I64, 8 * words.SET_WORDS)


def note_cpu(f: RunnerBody, pool: Value, thread: Value) -> None:
    """Tell the others where this thread is."""
    with _if_possible(f, pool):
        _publish(f, record_of(f, pool, thread), _current_cpu(f, pool))


def note_sleep(f: RunnerBody, pool: Value, thread: Value) -> None:
    """A worker is about to sleep on this processor; the pool's mutex is held."""
    note_cpu(f, pool, thread)
    f.put(f.i64(1), record_of(f, pool, thread), words.WORKER_ASLEEP)


def keep_apart(f: RunnerBody, pool: Value, thread: Value) -> None:
    """Move this worker when a thread before it was last seen on its processor, and another processor is free."""
    with _if_possible(f, pool):
        worker, here = record_of(f, pool, thread), _current_cpu(f, pool)
        _publish(f, worker, here)
        with f.b.if_then(_seen(f, pool, here, thread)):
            chosen = f.variable(here)
            with f.count(f.get(pool, words.CPU_COUNT)) as i:
                cpu = f.get(pool, f.b.add(i, f.i64(words.CPUS)))
                with f.b.if_then(f.b.not_(_seen(f, pool, cpu, f.get(pool, words.POOL_THREADS)))):
                    f.b.store(cpu, chosen)
            cpu = f.b.load(chosen, typ=I64)
            with f.b.if_then(f.b.icmp_unsigned("!=", cpu, here)):
                _restrict(f, pool, _SELF, worker, cpu)
                _publish(f, worker, cpu)
                _lift(f, pool, worker)


def return_to_everywhere(f: RunnerBody, pool: Value, thread: Value) -> None:
    """A worker has woken up: it may run again wherever it could before; the pool's mutex is held."""
    worker = record_of(f, pool, thread)
    f.put(f.i64(0), worker, words.WORKER_ASLEEP)
    with _if_possible(f, pool):
        _lift(f, pool, worker)


def place_sleepers(f: RunnerBody, pool: Value) -> None:
    """Give every sleeping worker a processor of its own: where it slept, or a free one; the pool's mutex is held."""
    with _if_possible(f, pool):
        taken = f.word(pool, words.TAKEN)
        with f.count(f.i64(words.SET_WORDS)) as i:
            f.put(f.i64(0), taken, i)
        _insert(f, taken, _current_cpu(f, pool))
        with f.count(f.get(pool, words.POOL_THREADS)) as thread:
            worker = record_of(f, pool, thread)
            with f.b.if_then(f.b.not_(f.is_zero(f.get(worker, words.WORKER_ASLEEP)))):
                free_to_move = f.is_zero(f.get(worker, words.WORKER_PLACED))
                with f.b.if_else(free_to_move) as (free, on_its_way):
                    with free:
                        _place(f, pool, worker, taken)
                    with on_its_way:  # for an earlier run that ended without it
                        _insert(f, taken, f.get(worker, words.WORKER_CPU))


def _place(f: RunnerBody, pool: Value, worker: Value, taken: Value) -> None:
    b = f.b
    chosen = f.variable(f.get(worker, words.WORKER_CPU))
    with f.count(f.get(pool, words.CPU_COUNT)) as i, b.if_then(_contains(f, taken, b.load(chosen, typ=I64))):
        b.store(f.get(pool, b.add(i, f.i64(words.CPUS))), chosen)
    cpu = b.load(chosen, typ=I64)
    with b.if_then(b.not_(_contains(f, taken, cpu))):
        _insert(f, taken, cpu)
        _publish(f, worker, cpu)
        _restrict(f, pool, b.trunc(f.get(worker, words.WORKER_ID), I32), worker, cpu)


def _restrict(f: RunnerBody, pool: Value, id: Value, worker: Value, cpu: Value) -> None:
    """Let a worker run on one processor only, if that is one of those where it may, and remember these."""
    allowed, only = f.word(worker, words.WORKER_SET), f.word(worker, words.WORKER_ONE_CPU)
    known = f.is_zero(f.library(pool, words.GET_AFFINITY, id, _BYTES, allowed))
    with f.b.if_then(f.b.and_(known, _contains(f, allowed, cpu))):
        _insert(f, only, cpu)
        f.library(pool, words.SET_AFFINITY, id, _BYTES, only)
        f.put(f.i64(0), only, f.b.lshr(cpu, f.i64(6)))
        f.put(f.i64(1), worker, words.WORKER_PLACED)


def _lift(f: RunnerBody, pool: Value, worker: Value) -> None:
    """Undo a restriction of this thread, if there is one."""
    with f.b.if_then(f.b.not_(f.is_zero(f.get(worker, words.WORKER_PLACED)))):
        f.put(f.i64(0), worker, words.WORKER_PLACED)
        f.library(pool, words.SET_AFFINITY, _SELF, _BYTES, f.word(worker, words.WORKER_SET))


def _publish(f: RunnerBody, worker: Value, cpu: Value) -> None:
    f.b.atomic_rmw("xchg", f.word(worker, words.WORKER_CPU), cpu, "monotonic")


def _seen(f: RunnerBody, pool: Value, cpu: Value, threads: Value) -> Value:
    """Whether one of the first `threads` threads was last seen on a processor."""
    found = f.variable(ir.Constant(I1, False))
    with f.count(threads) as other:
        there = f.watch(f.word(record_of(f, pool, other), words.WORKER_CPU), "monotonic")
        f.b.store(f.b.or_(f.b.load(found, typ=I1), f.b.icmp_unsigned("==", there, cpu)), found)
    return f.b.load(found, typ=I1)


@contextmanager
def _if_possible(f: RunnerBody, pool: Value) -> Generator[None, None, None]:
    with f.b.if_then(f.b.not_(f.is_zero(f.get(pool, words.GET_CPU)))):
        yield


def record_of(f: RunnerBody, pool: Value, thread: Value) -> Value:
    """Address of the words of a thread."""
    return f.word(pool, f.b.add(f.b.mul(thread, f.i64(words.WORKER_WORDS)), f.i64(words.WORKERS)))


def _current_cpu(f: RunnerBody, pool: Value) -> Value:
    """This processor's number, within the size of sets."""
    return f.b.and_(f.b.zext(f.library(pool, words.GET_CPU), I64), f.i64(64 * words.SET_WORDS - 1))


def _contains(f: RunnerBody, set: Value, cpu: Value) -> Value:
    word = f.get(set, f.b.lshr(cpu, f.i64(6)))
    return f.b.not_(f.is_zero(f.b.and_(word, _bit(f, cpu))))


def _insert(f: RunnerBody, set: Value, cpu: Value) -> None:
    index = f.b.lshr(cpu, f.i64(6))
    f.put(f.b.or_(f.get(set, index), _bit(f, cpu)), set, index)


def _bit(f: RunnerBody, cpu: Value) -> Value:
    return f.b.shl(f.i64(1), f.b.and_(cpu, f.i64(63)))
