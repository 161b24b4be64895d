"""No register tile that a layer can be given spills."""

import numpy as np
import pytest

from engine.assembly import innermost_loops
from engine.harness import empty_context
from secateur.engine.choice import Choice
from secateur.engine.compiler import assembly
from secateur.engine.cost import candidates
from secateur.engine.kernels.conv import ConvKernel
from secateur.engine.lowering.conv import emit_conv
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.registers import most_vectors
from secateur.engine.target import Target, cross_target
from secateur.engine.weights.pattern import BLOCKS, Pattern

ANY = Pattern("unstructured", 1, True, 0.3, 1.0, 0, dict.fromkeys(BLOCKS, 1.0))
ISAS = ("avx512", "avx2", "neon")


def kernels(target: Target) -> dict[str, ConvKernel]:
    """Kernels with every register tile that the cost model offers; what surrounds the inner loops does not matter."""
    shape = ConvShape(1, 128, 64, 64, 64, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 64, 64)
    offered = candidates(shape, ANY, target, "direct")
    tiles = {(choice.format, choice.rows, choice.vectors): choice for choice in reversed(offered)}
    return {kernel.name: kernel for kernel in (kernel_of(choice, target) for choice in tiles.values())}


def kernel_of(choice: Choice, target: Target) -> ConvKernel:
    """The kernel that a choice leads to on a map of exactly its vectors."""
    width = choice.vectors * target.lanes
    shape = ConvShape(1, 600, 1, width, choice.rows, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, 1, width)
    context = empty_context(target.isa)
    x, y = (context.temporary(context.layout((1, c, 1, width))) for c in (600, choice.rows))
    weight = np.ones((choice.rows, 600, 1, 1), np.float32)
    emit_conv(context, "layer", shape, weight, None, x, y, choice, Epilogue())
    kernel = context.steps[-1].kernel
    assert isinstance(kernel, ConvKernel)
    assert kernel.vectors == (choice.vectors,)
    return kernel


@pytest.mark.parametrize("isa", ISAS)
def test_no_candidate_spills(isa: str) -> None:
    target = cross_target(isa)
    spilling: list[str] = []
    for name, kernel in kernels(target).items():
        loops = [loop for loop in innermost_loops(assembly([kernel], target)) if loop.fmas]
        rows = [pattern.bit_count() for pattern in kernel.patterns] or [kernel.rows]
        assert sorted(loop.fmas for loop in loops) == sorted(count * kernel.vectors[0] for count in rows), name
        spilling += [name for loop in loops if loop.stack]
    assert not spilling


@pytest.mark.parametrize("isa", ISAS)
def test_more_rows_mean_fewer_vectors(isa: str) -> None:
    target = cross_target(isa)
    vectors = [most_vectors(rows, target) for rows in range(1, 33)]
    assert vectors == sorted(vectors, reverse=True)
    # The inputs of a single row are read as they are used and need no registers.
    assert all(rows * v + v < target.registers for rows, v in enumerate(vectors, 1) if v and rows > 1)
