"""What compilers make of kernels on pairs of bf16 numbers: the instruction of each processor, nothing in its place."""

import re

import pytest

from engine.assembly import Loop, innermost_loops
from secateur.engine.compiler import assembly, compile_kernels
from secateur.engine.kernels.conv import ConvKernel
from secateur.engine.kernels.linear import LinearKernel
from secateur.engine.kernels.pairs import PairPlanes, PairRows
from secateur.engine.object_file import read_object
from secateur.engine.program import Kernel
from secateur.engine.registers import most_vectors, product_tile
from secateur.engine.target import Target, cross_target

# Processor: instruction set, feature beyond it, the instruction.
CPUS = {
    "znver4": ("avx512", "avx512bf16", "vdpbf16ps"),
    "sapphirerapids": ("avx512", "avx512bf16", "vdpbf16ps"),
    "cooperlake": ("avx512", "avx512bf16", "vdpbf16ps"),
    "neoverse-v1": ("neon", "bf16", "bfdot"),
}
PATTERNS = {"dense": (15,), "panel": tuple(range(1, 16)), "lockstep": ()}
OTHER_PRODUCTS = re.compile(r"v?fn?m(add|sub|la|ls)|vmul[ps]|fmul|v?cvt|bfcvt|bfmmla|bfmlal")


def target_of(cpu: str) -> Target:
    isa, feature, _ = CPUS[cpu]
    return cross_target(isa, cpu, more=(feature,))


def dots(loop: Loop, cpu: str) -> int:
    return sum(bool(re.match(CPUS[cpu][2] + r"\b", line)) for line in loop.lines)


def check_loops(text: str, name: str, cpu: str, expected: list[int]) -> list[Loop]:
    assert not [line for line in text.splitlines() if OTHER_PRODUCTS.match(line.strip())]
    loops = [loop for loop in innermost_loops(text, name) if dots(loop, cpu)]
    assert sorted(dots(loop, cpu) for loop in loops) == sorted(expected)
    for loop in loops:
        assert (loop.stack, loop.calls, loop.stores, loop.scalar_fmas) == (0, 0, 0, 0), loop.lines
    return loops


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", PATTERNS)
def test_loops_of_convolutions(name: str, cpu: str) -> None:
    target = target_of(cpu)
    vectors = most_vectors(4, target)
    kernel = ConvKernel(4, (vectors,), PATTERNS[name], shared_deltas=name == "dense", pairs=True)
    rows = [pattern.bit_count() for pattern in kernel.patterns] or [4]
    check_loops(assembly([kernel], target), kernel.name, cpu, [count * vectors for count in rows])


@pytest.mark.parametrize("cpu", CPUS)
def test_loops_of_products(cpu: str) -> None:
    target = target_of(cpu)
    slab, rows = product_tile(8, 256, 1, target)
    dense, gathered = LinearKernel(slab, (rows,), 0, pairs=True), LinearKernel(1, (4,), 4, pairs=True)
    check_loops(assembly([dense], target), dense.name, cpu, [2 * slab * rows, slab * rows])
    check_loops(assembly([gathered], target), gathered.name, cpu, [4])


@pytest.mark.parametrize("cpu", CPUS)
def test_objects_call_nothing(cpu: str) -> None:
    kernels = [PairPlanes(), PairRows(), ConvKernel(4, (2,), (15,), pairs=True)]
    found = read_object(compile_kernels(kernels, target_of(cpu)))
    assert found.defined == {kernel.name for kernel in kernels}
    assert not found.undefined


@pytest.mark.parametrize("kernel", [PairPlanes(), PairRows()], ids=lambda kernel: kernel.name)
def test_x86_rounds_with_its_instruction(kernel: Kernel) -> None:
    loops = innermost_loops(assembly([kernel], target_of("znver4")), kernel.name)
    loop = max(loops, key=lambda loop: sum(line.startswith("vcvtneps2bf16") for line in loop.lines))
    assert sum(line.startswith("vcvtneps2bf16") for line in loop.lines) == 2
    assert (loop.stack, loop.calls) == (0, 0)


def test_kernels_of_different_numbers_have_different_names() -> None:
    assert ConvKernel(4, (2,), (15,)).name.replace("f32", "bf16") == ConvKernel(4, (2,), (15,), pairs=True).name
    assert LinearKernel(4, (2,), 0).name.replace("f32", "bf16") == LinearKernel(4, (2,), 0, pairs=True).name
