"""The runner and kernels for AArch64 give what they give here."""

import numpy as np
import pytest

from engine.aarch64 import needs_emulator, run_steps
from engine.small_programs import Axpy, RowSums, pipeline
from secateur.engine.compiler import compile_kernels
from secateur.engine.object_file import read_object
from secateur.engine.program import Address, Buffer, Step
from secateur.engine.runner_ir import Runner
from secateur.engine.runner_layout import SYMBOLS
from secateur.engine.target import cross_target


def add(count: int, units: int, x_size: int = 64) -> Step:
    x, y = Buffer("x", x_size, external="x"), Buffer("y", count, external="y")
    arguments = {"factor": 1.0, "x": Address(x), "y": np.zeros(64, np.float32), "out": Address(y)}
    return Step("add", Axpy(), arguments, units, (x,), (y,))


@needs_emulator
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_program_on_several_threads(threads):
    made = pipeline(lanes=4)
    given = np.random.default_rng(5).standard_normal((40, 48)).astype(np.float32)
    result = run_steps(made.program.steps, {"x": given}, threads=threads, runs=30)
    np.testing.assert_array_equal(result["y"], made.expected(given))


@needs_emulator
def test_denormals():
    tiny = np.full(64, np.float32(1e-40))
    assert (run_steps([add(64, 16)], {"x": tiny})["y"] == tiny).all()
    assert (run_steps([add(64, 16)], {"x": tiny}, denormals="flush")["y"] == 0).all()


@needs_emulator
def test_a_write_outside_of_a_buffer_is_seen():
    with pytest.raises(AssertionError, match="outside of a buffer"):
        run_steps([add(60, 16)], {"x": np.ones(64, np.float32)})


@needs_emulator
def test_unwritten_memory_is_nan():
    assert np.isnan(run_steps([add(64, 15)], {"x": np.ones(64, np.float32)})["y"][60:]).all()


@pytest.mark.parametrize("isa", ["neon", "avx2", "avx512"])
def test_objects_for_other_processors_define_what_they_should(isa):
    """Emission alone, which needs no emulator."""
    target = cross_target(isa)
    found = read_object(compile_kernels([Axpy(), RowSums(), Runner()], target))
    assert found.machine == target.machine
    assert found.defined == {"test_axpy", "test_row_sums", *SYMBOLS}
    assert not found.undefined and not found.runs_itself
