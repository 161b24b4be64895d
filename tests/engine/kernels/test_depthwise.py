"""What compilers make of the depthwise kernel, and what it computes on AArch64."""

import numpy as np
import pytest

from engine.aarch64 import needs_emulator, run_steps
from engine.assembly import innermost_loops
from engine.harness import Memory, empty_context
from engine.peers import onnx_runtime
from secateur.engine.compiler import assembly, compile_kernels
from secateur.engine.kernels.depthwise import DepthwiseKernel
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.depthwise import emit_depthwise, rows_together
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.object_file import read_object
from secateur.engine.target import cross_target

CPUS = {"cascadelake": "avx512", "znver5": "avx512", "haswell": "avx2", "neoverse-n1": "neon"}
THREE = tuple((0, dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("height", [7, 14, 56])
@pytest.mark.parametrize("stride", [1, 2])
def test_rows_share_their_inputs(stride: int, height: int, cpu: str) -> None:
    """9 multiply-adds per row of outputs from 3 vectors per row of inputs; on every processor the weights fit."""
    target = cross_target(CPUS[cpu], cpu)
    rows = rows_together(height, 9, target, stride)
    kernel = DepthwiseKernel(THREE, rows, stride=stride)
    loops = [loop for loop in innermost_loops(assembly([kernel], target)) if loop.fmas]
    assert sorted(loop.fmas for loop in loops) == sorted({9, 9 * rows})
    for loop in loops:
        assert (loop.calls, loop.scalar_fmas) == (0, 0)
    together = max(loops, key=lambda loop: loop.fmas)
    assert together.stack == 0, [line for line in together.lines if "sp" in line]
    assert not read_object(compile_kernels([kernel], target)).undefined


@needs_emulator
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_on_aarch64(strides: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    n, c, h, w = 2, 5, 9, 13
    x_values = rng.standard_normal((n, c, h, w)).astype(np.float32)
    weight = rng.standard_normal((c, 1, 3, 3)).astype(np.float32)
    (want,) = onnx_runtime("Conv", [x_values, weight], {"pads": (1, 1, 1, 1), "strides": strides, "group": c})
    out_h, out_w = want.shape[2:]
    shape = ConvShape(n, c, h, w, c, (3, 3), strides, (1, 1, 1, 1), (1, 1), c, out_h, out_w)
    context, memory = empty_context("neon", pads={(h, w): 1}), Memory()
    x, y = context.temporary(context.layout((n, c, h, w)), "x"), context.temporary(context.layout(want.shape), "y")
    memory.put(x, x_values)
    emit_depthwise(context, "layer", shape, weight, None, x, y, Epilogue())
    assert x.buffer is not None and y.buffer is not None
    memory.array(y.buffer)[:] = run_steps(context.steps, {"x": memory.array(x.buffer)})["y"]
    np.testing.assert_allclose(memory.get(y), want, rtol=1e-4, atol=1e-5)
