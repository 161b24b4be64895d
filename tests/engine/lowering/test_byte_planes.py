"""Planes of bytes lie as the planes of quads do, byte by byte, with what is in front of them."""

from dataclasses import replace

import numpy as np
import pytest

from engine.harness import INTEGER_ISAS, Memory, empty_context, run
from secateur.engine.layout import planes
from secateur.engine.lowering.byte_planes import byte_planes
from secateur.engine.lowering.source import Source

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("isa", INTEGER_ISAS)
@pytest.mark.parametrize(("shape", "pad", "shift"), [((1, 3, 5, 7), 1, -9), ((2, 16, 14, 14), 0, 0)])
def test_bytes_of_quads(isa: str, shape: tuple[int, int, int, int], pad: int, shift: int) -> None:
    context, memory = empty_context(isa), Memory()
    x = context.temporary(planes(shape, pad, fill=77), "x")
    memory.put(x, RANDOM.integers(0, 1 << 32, shape, np.uint32).view(np.float32))
    none = np.zeros(0, np.int64)
    tensor, distance = byte_planes(context, Source(x, none, none, 4, shift, 0))
    run(context.steps, memory, isa)
    quads = memory.array(x.buffer).view(np.uint8).reshape(-1, 4)
    found = memory.array(tensor.buffer)
    for j in range(4):
        begin = tensor.offset + j * distance
        np.testing.assert_array_equal(found[begin : begin + len(quads)], quads[:, j])
    if shift:
        assert (found[tensor.offset + shift : tensor.offset] == 77).all(), "the padding above the first plane"


def test_every_quad_has_a_unit() -> None:
    for threads in (1, 2, 7):
        context = empty_context("avx2")
        context.threads = threads
        x = context.temporary(replace(planes((1, 33, 9, 9)), fill=1), "x")
        none = np.zeros(0, np.int64)
        byte_planes(context, Source(x, none, none, 4, 0, 0))
        (step,) = context.steps
        size, part = step.arguments["size"], step.arguments["part"]
        assert (step.units - 1) * part < size <= step.units * part
        assert part % 64 == 0
