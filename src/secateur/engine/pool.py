"""The threads that walk programs.

Workers are daemonic Python threads, each inside one native call for its whole life, so the interpreter's lock is not
involved in a run. Programs with the same number of threads share one pool, which runs one job at a time. A pool lives
as long as a program uses it; workers of a process that ends are simply parked. A forked child gets new pools.
"""

import ctypes
import os
import sys
import threading
import time
import weakref
from functools import lru_cache
from pathlib import Path

import numpy as np

from secateur.engine import runner_layout as layout
from secateur.engine.compiler import Code
from secateur.engine.pages import Pages
from secateur.errors import EngineError

# A thread that waits for the end of a step spins for about as long as a part takes, then sleeps for as short a time as
# the system can (50 us on Linux). It does not give up its time slice instead: where other programs compute too, it gets
# the next one only after theirs (ResNet-50, 2 threads beside 2 busy processes: 57 ms with yielding, 40 ms with naps).
STEP_SPIN_US = 50
NAP_NS = 1_000
# A worker that waits for the next run: microseconds of spinning, then rounds of yielding (.3 us each when idle).
IDLE_SPIN_US, IDLE_YIELDS = 2, 1500

_LIBRARY = {
    layout.LOCK: "pthread_mutex_lock",
    layout.UNLOCK: "pthread_mutex_unlock",
    layout.WAIT: "pthread_cond_wait",
    layout.BROADCAST: "pthread_cond_broadcast",
    layout.YIELD: "sched_yield",
    layout.SLEEP: "nanosleep",
}
_PLACEMENT = {
    layout.GET_CPU: "sched_getcpu",
    layout.GET_AFFINITY: "sched_getaffinity",
    layout.SET_AFFINITY: "sched_setaffinity",
}


class Runner:
    """The native functions of `runner_ir`, callable; the interpreter's lock is released during a call."""

    def __init__(self, code: Code) -> None:
        def function(name: str, result: type | None, *arguments: type):
            return ctypes.CFUNCTYPE(result, *arguments)(code.address(f"secateur_{name}"))

        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        self.code = code
        self.launch = function("launch", None, pointer, pointer)
        self.worker = function("worker", None, pointer, integer)
        self.retire = function("retire", None, pointer, pointer)
        self.stop = function("stop", None, pointer)
        self.spin = function("spin", None, pointer, integer)
        self.ticks = function("ticks", integer)


class Pool:
    """`threads` - 1 parked workers. `run` walks a job on all threads and returns when it is done."""

    def __init__(self, runner: Runner, threads: int) -> None:
        memory = Pages(8 * layout.pool_words(threads))
        words = memory.bytes.view("int64")
        libc = ctypes.CDLL(None)
        words[layout.MUTEX] = memory.address + 8 * layout.MUTEX_MEMORY
        words[layout.CONDITION] = memory.address + 8 * layout.CONDITION_MEMORY
        libc.pthread_mutex_init(ctypes.c_void_p(int(words[layout.MUTEX])), None)
        libc.pthread_cond_init(ctypes.c_void_p(int(words[layout.CONDITION])), None)
        for word, name in _LIBRARY.items():
            words[word] = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value
        words[layout.NAP_NANOSECONDS] = NAP_NS
        words[layout.POOL_THREADS] = threads
        _prepare_placement(words, libc)
        self._runner = runner
        self._memory = memory
        self._words = words
        self._lock = threading.Lock()
        rounds = _rounds_per_microsecond(runner)
        words[layout.SPINS] = int(STEP_SPIN_US * rounds)
        words[layout.IDLE_SPINS] = int(IDLE_SPIN_US * rounds)
        words[layout.IDLE_YIELDS] = IDLE_YIELDS
        # The finalizer must not run at exit: other exit handlers may still run programs.
        self._release = weakref.finalize(self, _stop, runner, memory)
        self._release.atexit = False
        try:
            for number in range(1, threads):
                # The thread's frame keeps memory and code alive as long as it is inside them.
                worker = threading.Thread(
                    target=_work, args=(runner, memory, number), name=f"secateur-{threads}-{number}", daemon=True
                )
                worker.start()
        except RuntimeError as error:
            self._release()
            raise EngineError(f"The system does not start {threads - 1} more threads: {error}.") from error

    def run(self, job: int) -> None:
        """Walk the job at an address."""
        with self._lock:
            self._runner.launch(self._memory.address, job)

    def retire(self, job: int) -> None:
        """Return when no worker reads the job any more; it can be run again."""
        if self._release.alive:
            self._runner.retire(self._memory.address, job)

    def forsake(self) -> None:
        """Never stop the workers: they belong to the process that this one was forked from."""
        self._release.detach()


def _prepare_placement(words: np.ndarray, libc: ctypes.CDLL) -> None:
    """Let the caller of a run choose processors for workers that sleep (see runner_placement)."""
    if not _in_linux_guest():
        return
    cpus = sorted(os.sched_getaffinity(0))[: layout.CPUS_MOST]
    words[layout.CPUS : layout.CPUS + len(cpus)] = cpus
    words[layout.CPU_COUNT] = len(cpus)
    for word, name in _PLACEMENT.items():
        words[word] = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value


@lru_cache(maxsize=1)
def _in_linux_guest() -> bool:
    """Whether this is Linux on virtual processors, as x86 processors tell."""
    try:
        return " hypervisor " in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def _work(runner: Runner, memory: Pages, number: int) -> None:
    record = layout.WORKERS + number * layout.WORKER_WORDS
    memory.bytes.view("int64")[record + layout.WORKER_ID] = threading.get_native_id()
    runner.worker(memory.address, number)


def _stop(runner: Runner, memory: Pages) -> None:
    runner.stop(memory.address)


@lru_cache(maxsize=1)
def _rounds_per_microsecond(runner: Runner) -> float:
    """How often a waiting loop turns; the processor's pause takes from 5 to 150 cycles."""
    memory = Pages(8 * layout.pool_words(1))
    count, best = 200, float("inf")
    for _ in range(5):
        start = time.perf_counter_ns()
        runner.spin(memory.address, count)
        best = min(best, time.perf_counter_ns() - start)
    return count / (best / 1000)


_pools: "weakref.WeakValueDictionary[tuple[int, int], Pool]" = weakref.WeakValueDictionary()
_pools_lock = threading.Lock()


def shared_pool(runner: Runner, threads: int) -> Pool:
    """The pool with this many threads in this process."""
    key = (os.getpid(), threads)
    with _pools_lock:
        pool = _pools.get(key)
        if pool is None:
            pool = _pools[key] = Pool(runner, threads)
        return pool


def _forget_pools() -> None:
    """A forked child has no workers, and locks that others held stay held."""
    global _pools_lock
    _pools_lock = threading.Lock()
    for pool in list(_pools.values()):
        pool.forsake()
    _pools.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_pools)
