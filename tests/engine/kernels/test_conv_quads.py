"""What compilers make of the convolution kernel for 8-bit integers: the instruction of each processor, nothing else."""

import re

import pytest

from engine.assembly import Loop, innermost_loops
from secateur.engine.compiler import assembly
from secateur.engine.kernels.conv import ConvKernel
from secateur.engine.kernels.requantize import Requantize
from secateur.engine.registers import most_vectors
from secateur.engine.target import cross_target

# Processor: instruction set, features beyond it, the instruction that multiplies, how many make one product of quads.
CPUS = {
    "cascadelake": ("avx512", ("avx512vnni",), "vpdpbusd", 1),
    "skylake-avx512": ("avx512", (), "vpmaddwd", 2),
    "alderlake": ("avx2", ("avxvnni",), "vpdpbusd", 1),
    "haswell": ("avx2", (), "vpmaddwd", 2),
    "neoverse-n1": ("neon", ("dotprod",), "sdot", 1),
    "neoverse-v1": ("neon", ("dotprod", "i8mm"), "usdot", 1),
}
PATTERNS = {"dense": (15,), "panel": tuple(range(1, 16)), "single": (1, 2, 4, 8), "lockstep": ()}


def target_of(cpu: str):
    isa, features, _, _ = CPUS[cpu]
    return cross_target(isa, cpu, more=features)


def products(loop: Loop, instruction: str) -> int:
    return sum(bool(re.match(rf"(\{{vex\}}\s+)?{instruction}\b", line)) for line in loop.lines)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", PATTERNS)
def test_inner_loops_multiply_and_load_only(name: str, cpu: str) -> None:
    target, (_, _, instruction, each) = target_of(cpu), CPUS[cpu]
    vectors = most_vectors(4, target, quads=True)
    kernel = ConvKernel(4, (vectors,), PATTERNS[name], shared_deltas=name == "dense", requantize=Requantize())
    loops = innermost_loops(assembly([kernel], target), kernel.name)
    rows = [pattern.bit_count() for pattern in kernel.patterns] or [4]
    found = {i: products(loop, instruction) for i, loop in enumerate(loops) if products(loop, instruction)}
    assert sorted(found.values()) == sorted(each * count * vectors for count in rows)
    for i in found:
        assert (loops[i].stack, loops[i].calls, loops[i].stores) == (0, 0, 0), loops[i].lines


def test_rows_that_wait_leave_their_registers_to_others() -> None:
    target = target_of("cascadelake")
    kernel = ConvKernel(4, (7,), PATTERNS["single"], requantize=Requantize())
    loops = [loop for loop in innermost_loops(assembly([kernel], target), kernel.name) if products(loop, "vpdpbusd")]
    assert [products(loop, "vpdpbusd") for loop in loops] == [7, 7, 7, 7]
    assert all(loop.stack == 0 for loop in loops)


def test_without_dot_products_bytes_are_multiplied_as_wider_numbers() -> None:
    target = cross_target("neon", "cortex-a72")
    kernel = ConvKernel(4, (2,), PATTERNS["dense"], shared_deltas=True, requantize=Requantize())
    (loop,) = [
        loop for loop in innermost_loops(assembly([kernel], target), kernel.name) if products(loop, "(smull|smlal)2?")
    ]
    assert products(loop, "(sdot|usdot)") == 0
    assert (loop.calls, loop.stack) == (0, 0)
