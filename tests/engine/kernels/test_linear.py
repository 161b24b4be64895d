"""What compilers make of the matrix product's kernel, and what it computes on AArch64."""

import numpy as np
import pytest

import secateur.engine.lowering.families  # noqa: F401  (registers lowerings)
from engine.aarch64 import needs_emulator, run_steps
from engine.assembly import innermost_loops
from engine.harness import empty_context
from secateur.engine.choose import ByPrediction
from secateur.engine.compiler import assembly, compile_kernels
from secateur.engine.kernels.linear import UNROLLED, LinearKernel
from secateur.engine.layout import Flat
from secateur.engine.lowering.context import Tensor, lowerings
from secateur.engine.object_file import read_object
from secateur.engine.program import Buffer
from secateur.engine.registers import product_tile
from secateur.engine.target import cross_target
from secateur.graph.ir import Graph, Node, TensorType

CPUS = {"cascadelake": "avx512", "znver5": "avx512", "haswell": "avx2", "neoverse-n1": "neon"}


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 6, 9, 197])
def test_dense_tiles_stay_in_registers(rows: int, cpu: str) -> None:
    target = cross_target(CPUS[cpu], cpu)
    slab, together = product_tile(rows, 1000, 1, target)
    kernel = LinearKernel(slab, (together,), 0, prefetch=rows <= 6)
    loops = [loop for loop in innermost_loops(assembly([kernel], target)) if loop.fmas]
    assert sorted(loop.fmas for loop in loops) == [slab * together, slab * together * UNROLLED]
    for loop in loops:
        assert (loop.stack, loop.calls, loop.scalar_fmas, loop.stores) == (0, 0, 0, 0), loop.lines
    assert not read_object(compile_kernels([kernel], target)).undefined


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("block", [1, 2, 4])
def test_sparse_entries_are_gathered_without_gathers(block: int, cpu: str) -> None:
    target = cross_target(CPUS[cpu], cpu)
    kernel = LinearKernel(1, (1,), block)
    (loop,) = [loop for loop in innermost_loops(assembly([kernel], target)) if loop.fmas]
    assert (loop.fmas, loop.stack, loop.calls, loop.scalar_fmas) == (1, 0, 0, 0)
    assert not any("gather" in line for line in loop.lines)


@needs_emulator
@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_on_aarch64(rows: int, density: float) -> None:
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, 23)).astype(np.float32)
    weight = rng.standard_normal((19, 23)).astype(np.float32) * (rng.random((19, 23)) < density)
    bias = rng.standard_normal(19).astype(np.float32)
    constants = {"w": weight.astype(np.float32), "b": bias}
    types = {"x": TensorType(x.shape, "float32"), "y": TensorType((rows, 19), "float32")}
    types |= {name: TensorType(array.shape, "float32") for name, array in constants.items()}
    node = Node("node", "Linear", ("x", "w", "b"), ("y",), {"activation": None}, "secateur")
    context = empty_context("neon", Graph((node,), ("x",), ("y",), types, constants, 20))
    context.choose = ByPrediction(context.target)
    context.layer = "node"
    context.places["x"] = Tensor(Flat(x.shape), Buffer("x", x.size))
    lowerings["Linear"].lower(node, context)
    result = run_steps(context.steps, {"x": x})["y"].reshape(rows, 19)
    np.testing.assert_allclose(result, x @ weight.T + bias, rtol=1e-4, atol=1e-5)
