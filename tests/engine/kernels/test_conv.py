"""What compilers make of the convolution kernel, and what it computes on AArch64."""

import numpy as np
import pytest

from engine.aarch64 import needs_emulator, run_steps
from engine.assembly import innermost_loops
from engine.harness import Memory, empty_context
from engine.peers import onnx_runtime
from secateur.engine.choice import Choice
from secateur.engine.compiler import assembly, compile_kernels
from secateur.engine.kernels.conv import ConvKernel
from secateur.engine.lowering.conv import emit_conv
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.object_file import read_object
from secateur.engine.target import cross_target
from secateur.graph.ir import Activation

CPUS = {
    "cascadelake": "avx512", "icelake-server": "avx512", "znver4": "avx512", "znver5": "avx512", "haswell": "avx2",
    "neoverse-n1": "neon",
}  # fmt: skip
RELU = Activation("relu")
KERNELS = {
    "block": ConvKernel(4, (3, 2), (15,), RELU, residual=True, prefetch=True),
    "dense": ConvKernel(6, (2, 1), (63,), RELU, shared_deltas=True, prefetch=True),
    "panel": ConvKernel(3, (3,), tuple(range(1, 8)), RELU),
    "long": ConvKernel(1, (12,), (1,), RELU),
    "lockstep": ConvKernel(3, (3,), (), RELU),
    "packed": ConvKernel(4, (2,), (15,), RELU, packed=True),
    "partial": ConvKernel(2, (4, 3), (1, 2, 3), RELU, packed=True, partial=True),
}


def expected_fmas(kernel: ConvKernel) -> list[int]:
    """Multiply-adds of each innermost loop that has any: rows of the pattern times vectors, for each tile size."""
    rows = [pattern.bit_count() for pattern in kernel.patterns] or [kernel.rows]
    return sorted(count * vectors for count in rows for vectors in kernel.vectors)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", KERNELS)
def test_inner_loops_multiply_and_load_only(name: str, cpu: str) -> None:
    kernel = KERNELS[name]
    loops = innermost_loops(assembly([kernel], cross_target(CPUS[cpu], cpu)))
    busy = [loop for loop in loops if loop.fmas]
    assert sorted(loop.fmas for loop in busy) == expected_fmas(kernel)
    for loop in loops:
        assert (loop.stack, loop.calls, loop.scalar_fmas) == (0, 0, 0), loop.lines
    for loop in busy:
        assert loop.stores == 0


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", ["long", "lockstep", "packed"])
def test_an_input_vector_is_loaded_once(name: str, cpu: str) -> None:
    """V inputs and a broadcast per row, or V inputs of each row where rows walk alone."""
    kernel = KERNELS[name]
    (loop,) = [loop for loop in innermost_loops(assembly([kernel], cross_target(CPUS[cpu], cpu))) if loop.fmas]
    own = 1 if kernel.patterns else kernel.rows
    # AArch64 may load several weights in one instruction, or as parts of a vector.
    assert own * kernel.vectors[0] <= loop.loads <= own * kernel.vectors[0] + kernel.rows


@pytest.mark.parametrize("cpu", CPUS)
def test_objects_need_nothing(cpu: str) -> None:
    found = read_object(compile_kernels(KERNELS.values(), cross_target(CPUS[cpu], cpu)))
    assert found.defined == {kernel.name for kernel in KERNELS.values()}
    assert not found.undefined


SHAPES = {
    "pointwise": ConvShape(2, 12, 5, 7, 10, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, 5, 7),
    "same": ConvShape(1, 6, 7, 9, 9, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 7, 9),
    "strided": ConvShape(1, 6, 9, 11, 8, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 2, 5, 6),
}
CHOICES = [
    Choice("dense", "direct", 6, 4), Choice("block", "direct", 4, 5), Choice("panel", "direct", 3, 7),
    Choice("panel", "gemm", 1, 9), Choice("block", "pack", 4, 3), Choice("panel", "pack", 2, 4, block=5),
    Choice("rows", "direct", 3, 4),
]  # fmt: skip


@needs_emulator
@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_on_aarch64(name: str, choice: Choice) -> None:
    shape = SHAPES[name]
    rng = np.random.default_rng(len(name))
    weight = rng.standard_normal((shape.o, shape.c // shape.groups, *shape.kernel)).astype(np.float32)
    weight *= rng.random(weight.shape) < 0.4
    bias = rng.standard_normal(shape.o).astype(np.float32)
    context, memory = empty_context("neon", pads={(shape.h, shape.w): 1, (shape.out_h, shape.out_w): 1}), Memory()
    x = context.temporary(context.layout((shape.n, shape.c, shape.h, shape.w)), "x")
    y = context.temporary(context.layout((shape.n, shape.o, shape.out_h, shape.out_w)), "y")
    values = rng.standard_normal(x.shape).astype(np.float32)
    memory.put(x, values)
    emit_conv(context, "layer", shape, weight, bias, x, y, choice, Epilogue(activation=RELU))
    assert x.buffer is not None and y.buffer is not None
    memory.array(y.buffer)[:] = run_steps(context.steps, {"x": memory.array(x.buffer)}, threads=2)["y"]
    attributes = {"pads": shape.pads, "strides": shape.strides, "group": shape.groups}
    want = np.maximum(onnx_runtime("Conv", [values, weight, bias], attributes)[0], 0)
    np.testing.assert_allclose(memory.get(y), want, rtol=1e-4, atol=1e-5)
