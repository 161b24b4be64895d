"""Threads and processes of native programs: shared workers, forks, interrupts, the end of the interpreter."""

import os
import signal
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from engine.small_programs import pipeline
from engine.test_native import in_own_process, native, some, started


def test_python_threads_on_one_and_on_two_programs():
    made = [pipeline(weights_seed=seed) for seed in range(2)]
    programs = [native(made[0].program, 2), native(made[1].program, 2), native(made[0].program, 1)]
    faults = []

    def work(number: int) -> None:
        for i in range(300):
            which = (number + i) % 3
            given = some(i % 7)
            result = programs[which].run({"x": given})["y"]
            if not np.array_equal(result, made[which % 2].expected(given)):
                faults.append((number, i))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def workers(threads: int) -> int:
    return sum(thread.name.startswith(f"secateur-{threads}-") for thread in threading.enumerate())


def test_programs_with_equally_many_threads_share_workers_that_leave_with_the_last():
    in_own_process("""
        from engine.test_native_processes import workers

        programs = [native(pipeline().program, 6) for _ in range(4)]
        for program in programs:
            program.run({"x": some()})
        assert workers(6) == 5
        del program, programs[1:]
        assert workers(6) == 5
        programs.clear()
        end = time.monotonic() + 10
        while workers(6) and time.monotonic() < end:
            time.sleep(0.01)
        assert workers(6) == 0
    """)


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and 2 processors")
def test_workers_are_moved_but_bound_to_nothing():
    """Placement of sleeping workers, which only virtual machines need, leaves the affinity that others chose."""
    in_own_process("""
        from secateur.engine import pool

        pool._in_linux_guest = lambda: True
        made = pipeline()
        program = native(made.program, 4)
        own = [thread.native_id for thread in threading.enumerate() if thread.name.startswith("secateur-4-")]
        everywhere = os.sched_getaffinity(0)
        one = {min(everywhere)}
        os.sched_setaffinity(own[0], one)
        for pause in (0, 0, 0, 0.003, 0.003, 0.02, 0):
            time.sleep(pause)
            for seed in range(3):
                np.testing.assert_array_equal(program.run({"x": some(seed)})["y"], made.expected(some(seed)))
            # A run ends without workers that are late; they may still be on their way.
            end = time.monotonic() + 10
            while [os.sched_getaffinity(id) for id in own] != [one, everywhere, everywhere]:
                assert time.monotonic() < end
                time.sleep(0.001)
    """)


def test_a_forked_child_runs_and_the_parent_goes_on():
    made, given = pipeline(), some()
    program = native(made.program, 3)
    program.run({"x": given})
    child = os.fork()
    if child == 0:
        good = all(np.array_equal(program.run({"x": some(i)})["y"], made.expected(some(i))) for i in range(20))
        os._exit(0 if good else 1)
    for i in range(20):
        np.testing.assert_array_equal(program.run({"x": some(i)})["y"], made.expected(some(i)))
    assert _exit_code(child) == 0


def test_fork_while_another_thread_runs():
    made, given = pipeline(), some()
    program = native(made.program, 2)
    stop = threading.Event()
    runner = threading.Thread(target=lambda: [program.run({"x": given}) for _ in iter(stop.is_set, True)])
    runner.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                good = np.array_equal(program.run({"x": given})["y"], made.expected(given))
                os._exit(0 if good else 1)
            assert _exit_code(child) == 0
    finally:
        stop.set()
        runner.join()


def _exit_code(child: int) -> int:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "sys.exit(3)",
        "raise ValueError('as expected')",
        "atexit.register(lambda: program.run({'x': given}))",
        "threading.Thread(target=lambda: [program.run({'x': given}) for _ in iter(int, 1)], daemon=True).start()",
        "del program; gc.collect()",
        "time.sleep(0.2); os.kill(os.getpid(), signal.SIGINT)",
    ],
)
def test_the_interpreter_ends_with_parked_workers(ending):
    code = f"""
        import atexit, gc, os, signal, sys, threading, time
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from engine.test_native import *
        given = some()
        program = native(pipeline().program, 3)
        other = native(pipeline().program, 2)
        program.run({{"x": given}}), other.run({{"x": given}})
        print("ran", flush=True)
        {ending}
    """
    done = started(textwrap.dedent(code))
    assert done.stdout == "ran\n"
    expected = {"sys.exit(3)": 3, "raise ValueError('as expected')": 1}.get(ending, -2 if "SIGINT" in ending else 0)
    assert done.returncode == expected, done.stderr


def test_an_interrupt_leaves_the_program_usable():
    made, given = pipeline(), some()
    program = native(made.program, 2)
    interrupts = 0
    # A shell that starts the tests in the background has interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    for delay in np.linspace(0, 2e-3, 30):
        timer = threading.Timer(0.001 + delay, _interrupt)
        try:
            timer.start()
            while True:
                program.run({"x": given})
        except KeyboardInterrupt:
            interrupts += 1
        timer.join()
        np.testing.assert_array_equal(program.run({"x": given})["y"], made.expected(given))
    signal.signal(signal.SIGINT, before)
    assert interrupts == 30


def _interrupt() -> None:
    import _thread

    _thread.interrupt_main()
