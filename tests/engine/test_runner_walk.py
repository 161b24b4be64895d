"""Threads do what others do not get to, once each; a run waits for work that is in hand, and for nothing else."""

import threading
from dataclasses import dataclass

import numpy as np
import pytest

from engine.small_programs import pipeline
from engine.test_native import in_own_process, native, some
from secateur.engine import runner_layout as layout
from secateur.engine.emit.builder import I64, KernelModule
from secateur.engine.job import PARTS
from secateur.engine.program import Address, Buffer, Port, Program, Step

UNITS = 2 * PARTS


@dataclass(frozen=True)
class Signed:
    """out[unit] += 1, and by[unit] = the scratch memory of the thread that did it; unit 0 takes `turns` of a loop."""

    fields = ("turns", "out", "by")
    name: str = "test_signed"

    def emit(self, module: KernelModule) -> None:
        with module.kernel(self.name, self.fields) as k:
            b, turns, out, by = k.b, k.integer("turns"), k.pointer("out"), k.pointer("by")
            with k.loop(k.begin, k.end) as unit:
                with b.if_then(b.icmp_unsigned("==", unit, k.i64(0))), k.loop(0, turns):
                    b.atomic_rmw("add", k.scratch, k.i64(1), "monotonic")
                at = k.element(out, unit, I64)
                b.store(b.add(b.load(at, typ=I64), k.i64(1)), at)
                b.store(b.ptrtoint(k.scratch, I64), k.element(by, unit, I64))


def signed(turns: int, steps: int = 1) -> Program:
    x, count, by = (
        Buffer("x", 16, external="x"),
        Buffer("count", UNITS, item=8, external="count"),
        Buffer("by", UNITS, item=8, external="by"),
    )
    step = Step(
        "signed",
        Signed(),
        {"turns": turns, "out": Address(count), "by": Address(by)},
        UNITS,
        (x,),
        (count, by),
        scratch=64,
    )
    ports = tuple(Port(buffer.name, (UNITS,), "int64", buffer) for buffer in (count, by))
    return Program((step,) * steps, (Port("x", (16,), "float32", x),), ports)


def run_signed(program) -> dict[str, np.ndarray]:
    given = {name: np.zeros(UNITS, np.int64) for name in ("count", "by")}
    return program.run({"x": np.zeros(16, np.float32)}, given)


def test_a_thread_takes_over_what_a_slow_one_has_not_begun():
    program = native(signed(100_000_000), 2)
    made = run_signed(program)
    assert made["count"].tolist() == [1] * UNITS
    slow, *others = made["by"].tolist()
    assert slow not in others and len(set(others)) == 1, "unit 0 takes much longer than all others together"


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_every_unit_is_done_once_in_every_run(threads):
    program = native(signed(0, steps=7), threads)
    for _ in range(2000):
        assert run_signed(program)["count"].tolist() == [7] * UNITS
    assert program._job.words[layout.RUN] == 2000
    claimed, done = program._job.parts_done
    assert claimed.shape == (threads, 7) and (claimed == 2000 * PARTS).all()
    assert done.tolist() == [2000 * threads * PARTS] * 7


@pytest.fixture
def workerless(monkeypatch):
    """A program with threads that never come."""
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: None)
        return native(pipeline().program, 9)


def test_a_run_does_not_wait_for_workers_that_never_come(workerless):
    for seed in range(5):
        np.testing.assert_array_equal(workerless.run({"x": some(seed)})["y"], pipeline().expected(some(seed)))


def test_retiring_waits_for_a_worker_that_still_reads_the_job(workerless):
    workerless.run({"x": some()})
    job, pool = workerless._job.address, workerless._pool
    assert pool._words[layout.JOB] == job
    inside = layout.WORKERS + 5 * layout.WORKER_WORDS + layout.WORKER_INSIDE
    pool._words[inside] = job
    waiting = threading.Thread(target=pool.retire, args=(job,))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    pool._words[inside] = 0
    waiting.join(30)
    assert not waiting.is_alive() and pool._words[layout.JOB] == 0
    np.testing.assert_array_equal(workerless.run({"x": some()})["y"], pipeline().expected(some()))


def test_programs_may_go_right_after_a_run():
    """Their memory goes while workers are late; a read of it would end the process."""
    in_own_process("""
        made, given = pipeline(), some()
        stay = native(made.program, 4)
        for _ in range(300):
            np.testing.assert_array_equal(native(made.program, 4).run({"x": given})["y"], made.expected(given))
    """)
