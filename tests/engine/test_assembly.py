"""The reader of assembly sees what is there, for every processor that kernels are written for."""

from dataclasses import dataclass

import pytest

from engine.assembly import functions, innermost_loops, stack_references
from engine.small_programs import Axpy, RowSums
from secateur.engine.compiler import assembly
from secateur.engine.emit.builder import KernelModule
from secateur.engine.target import cross_target

ISAS = ("avx512", "avx2", "neon")


@dataclass(frozen=True)
class ManyAccumulators:
    """`count` running vectors: more than there are registers must go through the stack."""

    count: int
    fields = ("x", "w", "out")

    @property
    def name(self) -> str:
        return f"test_many_{self.count}"

    def emit(self, module: KernelModule) -> None:
        with module.kernel(self.name, self.fields) as k:
            x, w, out = (k.pointer(field) for field in self.fields)
            sums = [k.var(module.vector, k.splat(0.0)) for _ in range(self.count)]
            with k.loop(k.begin, k.end) as i:
                weight = k.splat(k.load_scalar(w, i))
                for j, total in enumerate(sums):
                    at = k.b.add(k.b.mul(i, k.i64(self.count * module.lanes)), k.i64(j * module.lanes))
                    total.set(k.fma(weight, k.load(x, at), total.get()))
            for j, total in enumerate(sums):
                k.store(total.get(), out, j * module.lanes)


@pytest.mark.parametrize("isa", ISAS)
def test_axpy(isa):
    (loop,) = innermost_loops(assembly([Axpy(), RowSums()], cross_target(isa)), "test_axpy")
    assert (loop.fmas, loop.loads, loop.stores, loop.stack, loop.calls, loop.scalar_fmas) == (1, 2, 1, 0, 0, 0)


@pytest.mark.parametrize("isa", ISAS)
def test_only_the_inner_of_two_loops_counts(isa):
    (loop,) = innermost_loops(assembly([Axpy(), RowSums()], cross_target(isa)), "test_row_sums")
    assert (loop.fmas, loop.loads, loop.stores, loop.calls) == (0, 0, 0, 0), "it is scalar"
    assert len(loop.lines) < 8


@pytest.mark.parametrize("isa", ISAS)
def test_accumulators_that_fit_touch_no_stack(isa):
    target = cross_target(isa)
    count = target.registers - 4
    (loop,) = innermost_loops(assembly([ManyAccumulators(count)], target))
    assert (loop.fmas, loop.stack) == (count, 0)
    assert loop.loads in (count, count + 1), "the weight may be one more"


@pytest.mark.parametrize("isa", ISAS)
def test_accumulators_that_do_not_fit_show(isa):
    target = cross_target(isa)
    kernel = ManyAccumulators(target.registers + 8)
    text = assembly([kernel], target)
    (loop,) = innermost_loops(text)
    assert loop.fmas == target.registers + 8
    assert loop.stack > 8
    assert stack_references(text, kernel.name) >= loop.stack


def test_functions_are_told_apart():
    text = assembly([Axpy(), RowSums()], cross_target("neon"))
    assert set(functions(text)) == {"test_axpy", "test_row_sums"}
    assert {loop.function for loop in innermost_loops(text)} == {"test_axpy", "test_row_sums"}


X86 = """
	.type	f,@function
f:
	pushq	%rbx
	jmp	.L3
.L2:
	callq	*%rax
	vfmadd231ps	8(%rsp), %zmm0, %zmm1 # 64-byte Folded Reload
	vfmadd231ss	(%rdi), %xmm0, %xmm1
	vmovups	(%rdi), %zmm2 {%k1} {z}
	vmovups	%zmm2, 64(%rdi,%rax,4) {%k1}
	vbroadcastss	(%rsi), %zmm3
	vfmadd231ps	(%rsi){1to16}, %zmm0, %zmm4
	je	.L2
.L3:
	retq
	.size	f, .-f
"""

AARCH64 = """
	.type	f,@function
f:
	cbz	x0, .L3
.L2:
	bl	g
	ldp	q1, q2, [sp, #32]               // 32-byte Folded Reload
	fmla	v2.4s, v1.4s, v0.s[0]
	fmadd	s0, s1, s2, s0
	ld1r	{ v3.4s }, [x1], #4
	st1	{ v3.4s }, [x2]
	tbnz	w0, #0, .L2
.L3:
	ret
	.size	f, .-f
"""


@pytest.mark.parametrize(
    ("text", "counts"), [(X86, (2, 1, 4, 1, 1, 1)), (AARCH64, (1, 1, 3, 1, 1, 1))], ids=["x86", "aarch64"]
)
def test_every_kind_of_line(text, counts):
    (loop,) = innermost_loops(text)
    assert (loop.fmas, loop.scalar_fmas, loop.loads, loop.stores, loop.stack, loop.calls) == counts
