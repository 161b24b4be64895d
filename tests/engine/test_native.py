"""Programs run natively: the right bits for any number of threads, from any thread, in any process."""

import ctypes
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from llvmlite import ir

from engine.small_programs import Axpy, pipeline
from secateur.engine.compiler import Code, compile_kernels
from secateur.engine.emit.builder import I64, PTR, KernelModule
from secateur.engine.native import NativeProgram
from secateur.engine.object_cache import ObjectCache
from secateur.engine.program import Address, Buffer, Port, Program, Step
from secateur.engine.runner_layout import MODES
from secateur.engine.target import host_target
from secateur.errors import EngineError

NO_CACHE = ObjectCache(None)
TARGET = host_target()
TINY = np.full(64, np.float32(1e-40))
ADD_ZERO = {"factor": 1.0, "x": "x", "y": np.zeros(64, np.float32), "out": "y"}
VOID = ir.VoidType()


def native(program: Program, threads: int = 1, **options) -> NativeProgram:
    return NativeProgram(program, TARGET, threads, cache=NO_CACHE, **options)


def some(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((40, 48)).astype(np.float32)


def one_step(kernel, arguments, **step) -> Program:
    x, y = Buffer("x", 64, external="x"), Buffer("y", 64, external="y")
    values = {field: {"x": x, "y": y}[value] if isinstance(value, str) else value for field, value in arguments.items()}
    values = {field: Address(value) if isinstance(value, Buffer) else value for field, value in values.items()}
    steps = (Step("only", kernel, values, 64 // TARGET.lanes, (x,), (y,), **step),)
    return Program(steps, (Port("x", (64,), "float32", x),), (Port("y", (64,), "float32", y),))


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
def test_any_number_of_threads_gives_the_same_bits(threads):
    made = pipeline()
    program = native(made.program, threads)
    for seed in range(50):
        given = some(seed)
        program.poison()
        np.testing.assert_array_equal(program.run({"x": given})["y"], made.expected(given), strict=True)
    assert program.damaged_guards() == []


def test_every_instruction_set_of_this_processor_gives_the_same_bits():
    given = some()
    for isa in ("avx512", "avx2", "neon"):
        try:
            target = host_target(isa)
        except EngineError:
            continue
        made = pipeline(lanes=target.lanes)
        program = NativeProgram(made.program, target, 2, cache=NO_CACHE)
        np.testing.assert_array_equal(program.run({"x": given})["y"], made.expected(given))


def test_more_threads_than_units():
    made = pipeline(rows=2, width=16)
    given = some()[:2, :16].copy()
    np.testing.assert_array_equal(native(made.program, 5).run({"x": given})["y"], made.expected(given))


def test_results_are_new_arrays_unless_given():
    made = pipeline()
    program = native(made.program)
    first, second = program.run({"x": some(0)})["y"], program.run({"x": some(1)})["y"]
    np.testing.assert_array_equal(first, made.expected(some(0)))
    own = np.empty(40, np.float32)
    assert program.run({"x": some(2)}, {"y": own})["y"] is own
    np.testing.assert_array_equal(own, made.expected(some(2)))
    np.testing.assert_array_equal(second, made.expected(some(1)))


def test_inputs_of_any_memory_order():
    made, given = pipeline(), some()
    program = native(made.program)
    unaligned = np.frombuffer(b"x" + given.tobytes(), np.uint8)[1:].view(np.float32).reshape(given.shape)
    readonly = given.copy()
    readonly.flags.writeable = False
    for view in (np.asfortranarray(given), np.repeat(given, 2, axis=1)[:, ::2], unaligned, readonly):
        np.testing.assert_array_equal(program.run({"x": view})["y"], made.expected(given))


def test_wrong_arrays_are_named():
    program, given = native(pipeline().program), some()
    with pytest.raises(EngineError, match=r"Input 'x' is missing; inputs are 'x' \(40, 48\) float32"):
        program.run({})
    with pytest.raises(EngineError, match="no input or output 'z'"):
        program.run({"x": given, "z": given})
    with pytest.raises(EngineError, match=r"'x' has shape \(48, 40\)"):
        program.run({"x": given.T})
    with pytest.raises(EngineError, match="float64"):
        program.run({"x": given.astype(np.float64)})
    with pytest.raises(EngineError, match="'y' must be writable"):
        program.run({"x": given}, {"y": np.empty(80, np.float32)[::2]})
    with pytest.raises(EngineError, match="shares memory"):
        program.run({"x": given}, {"y": given.reshape(-1)[:40]})
    np.testing.assert_array_equal(program.run({"x": given})["y"], pipeline().expected(given))


def test_impossible_settings():
    program = pipeline().program
    for threads in (0, -1, 100_000):
        with pytest.raises(EngineError, match="threads are impossible"):
            native(program, threads)
    with pytest.raises(EngineError, match="'drop' is unknown; it can be keep or flush"):
        native(program, denormals="drop")


def test_ten_thousand_runs_hold_no_memory():
    gained = _memory_gained("""
        program, given = native(pipeline().program, 2), some()
        for _ in range(500):
            program.run({"x": given})
        before = resident()
        for _ in range(10_000):
            program.run({"x": given})
    """)
    assert gained < 1 << 20


def test_programs_give_their_memory_back():
    gained = _memory_gained("""
        made, given = pipeline(400, 480), np.zeros((400, 480), np.float32)

        def build():
            for threads in (1, 2):
                native(made.program, threads).run({"x": given})

        for _ in range(10):
            build()
        before = resident()
        for _ in range(30):
            build()
    """)
    assert gained < 4 << 20, "60 programs of 3.8 MiB each"


def _memory_gained(code: str) -> int:
    """Resident bytes since `before`, in a process of its own: what earlier tests left moves the figure."""
    return int(in_own_process(f"{textwrap.dedent(code)}\nprint(resident() - before)"))


def in_own_process(code: str) -> str:
    """What the code prints; it fails where the code fails."""
    done = started(f"import os, threading, time\nfrom engine.test_native import *\n{textwrap.dedent(code)}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def started(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip


def resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    return 0


def test_memory_of_buffers_that_are_not_alive_together_is_shared():
    use = native(pipeline(400, 480).program).memory
    tensor = 400 * 480 * 4
    # `first` and `third` share, `second` is alive with both, `zeros` is a group of its own.
    assert 3 * tensor <= use.arena < 3.1 * tensor
    assert 2 * tensor <= use.constants < 2.1 * tensor
    assert 0 < use.code < 10_000
    assert 64 <= use.scratch < 10_000


def test_equal_constants_are_kept_once():
    weights = np.ones(1 << 16, np.float32)
    x, y = Buffer("x", 1 << 16, external="x"), Buffer("y", 1 << 16, external="y")
    units = (1 << 16) // TARGET.lanes
    step = Step("add", Axpy(), {"factor": 1.0, "x": Address(x), "y": weights, "out": Address(y)}, units, (x,), (y,))
    program = Program(
        (step, step, step), (Port("x", (1 << 16,), "float32", x),), (Port("y", (1 << 16,), "float32", y),)
    )
    assert native(program).memory.constants < 1.1 * weights.nbytes


@pytest.mark.parametrize("threads", [1, 2])
def test_profile_times_every_step(threads):
    program = native(pipeline(400, 480).program, threads)
    given = np.zeros((400, 480), np.float32)
    started = time.perf_counter()
    seconds = program.profile({"x": given}, rounds=11)
    took = time.perf_counter() - started
    assert len(seconds) == 4 and min(seconds) > 0
    # A median is at most what 6 of 11 rounds took.
    assert sum(seconds) < took / 6
    if threads == 1:
        assert max(seconds) == seconds[3], "summing one by one through memory is by far the slowest step"


@pytest.mark.parametrize("threads", [1, 3])
def test_denormals(threads):
    kept = native(one_step(Axpy(), ADD_ZERO), threads).run({"x": TINY})["y"]
    flushed = native(one_step(Axpy(), ADD_ZERO), threads, denormals="flush").run({"x": TINY})["y"]
    assert (kept == TINY).all()
    assert (flushed == 0).all()
    assert (TINY * np.float32(1) == TINY).all(), "the caller's mode is as before"


@dataclass(frozen=True)
class SetMode:
    """Leaves the thread in the floating-point mode `mode`."""

    fields = ("mode",)
    name: str = "test_set_mode"

    def emit(self, module: KernelModule) -> None:
        with module.kernel(self.name, self.fields) as k:
            if module.target.machine == "x86_64":
                k.b.call(module.intrinsic("llvm.x86.sse.ldmxcsr", VOID, [PTR]), [k.args])
            else:
                k.b.call(module.intrinsic("llvm.aarch64.set.fpcr", VOID, [I64]), [k.integer("mode")])


def test_the_mode_of_the_caller_does_not_matter_and_stays():
    """Else a caller that flushes denormals would compute its units otherwise than the workers theirs."""
    code = Code([compile_kernels([SetMode()], TARGET)], ["test_set_mode"])
    set_mode = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.address("test_set_mode"))
    program = native(one_step(Axpy(), ADD_ZERO), 2)
    modes = {name: np.array([mode], np.int64) for name, mode in MODES[TARGET.machine].items()}
    try:
        set_mode(modes["flush"].ctypes.data)
        result = program.run({"x": TINY})["y"]
        still = TINY * np.float32(1)
    finally:
        set_mode(modes["keep"].ctypes.data)
    assert (result == TINY).all()
    assert (still == 0).all()


def test_a_step_that_reads_what_it_never_wrote_shows_in_poisoned_memory():
    size = 64
    x, y = Buffer("x", size, external="x"), Buffer("y", size, external="y")
    between = Buffer("between", size, "plain")

    def axpy(source, out, units):
        arguments = {"factor": 1.0, "x": Address(source), "y": np.zeros(size, np.float32), "out": Address(out)}
        return Step("s", Axpy(), arguments, units, (source,), (out,))

    full = size // TARGET.lanes
    program = Program(
        (axpy(x, between, full - 1), axpy(between, y, full)),
        (Port("x", (size,), "float32", x),), (Port("y", (size,), "float32", y),),
    )  # fmt: skip
    broken = native(program)
    broken.poison()
    assert np.isnan(broken.run({"x": np.zeros(size, np.float32)})["y"]).any()
