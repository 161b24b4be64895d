"""What compilers make of the walk over single channels: interleaving beside products, everything in registers."""

import re

import pytest

from engine.assembly import innermost_loops
from engine.kernels.test_conv_quads import CPUS, products, target_of
from secateur.engine.compiler import assembly
from secateur.engine.emit.byte_planes import TOGETHER
from secateur.engine.kernels.conv import ConvKernel
from secateur.engine.kernels.requantize import Requantize

INTERLEAVES = r"v?punpck[lh](bw|wd)|zip[12]"


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("cpu", ["cascadelake", "neoverse-n1", "neoverse-v1", "alderlake"])
def test_a_turn_interleaves_once_and_multiplies_for_every_row(cpu: str, block: int) -> None:
    target, instruction = target_of(cpu), CPUS[cpu][2]
    if block * TOGETHER + TOGETHER > target.registers // 2 and target.registers < 32:
        pytest.skip("sums and quads of the block have no room in the registers")
    kernel = ConvKernel(4, (TOGETHER,), (), of_bytes=block, requantize=Requantize())
    loops = [loop for loop in innermost_loops(assembly([kernel], target), kernel.name) if products(loop, instruction)]
    assert [products(loop, instruction) for loop in loops] == [block * TOGETHER] * (4 // block)
    for loop in loops:
        assert sum(bool(re.match(INTERLEAVES, line)) for line in loop.lines) == 8
        assert (loop.stack, loop.calls, loop.stores) == (0, 0, 0), loop.lines


@pytest.mark.parametrize("cpu", ["cascadelake", "neoverse-v1", "alderlake"])
def test_a_tile_of_one_vector_is_put_together_by_few_instructions(cpu: str) -> None:
    target, instruction = target_of(cpu), CPUS[cpu][2]
    kernel = ConvKernel(4, (1,), (), of_bytes=4, requantize=Requantize())
    (loop,) = [loop for loop in innermost_loops(assembly([kernel], target), kernel.name) if products(loop, instruction)]
    assert products(loop, instruction) == 4
    assert (loop.stack, loop.calls, loop.stores) == (0, 0, 0), loop.lines
    assert len(loop.lines) <= 26
