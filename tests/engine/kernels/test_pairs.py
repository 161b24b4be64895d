"""Floats become pairs of bf16 numbers, and products of pairs are what VDPBF16PS is defined to give."""

from dataclasses import dataclass

import numpy as np
import pytest

from engine import harness
from engine.aarch64 import needs_emulator, run_steps
from engine.bf16 import SPECIAL, as_bf16, halves, same
from secateur.engine.compiler import assembly
from secateur.engine.emit.builder import I32, KernelModule
from secateur.engine.emit.pairs import has_pair_dot, pair_dot
from secateur.engine.layout import Flat, Picked, Tiled, planes
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.pairs import pair_planes, pair_rows
from secateur.engine.program import Address, Buffer, Step
from secateur.engine.target import cross_target

RANDOM = np.random.default_rng(7)
BFDOT = cross_target("neon", more=("bf16",))


def numbers(*shape: int) -> np.ndarray:
    """Random ones of many sizes, and all special ones that have room."""
    values = (RANDOM.standard_normal(shape) * 2.0 ** RANDOM.integers(-130, 100, shape)).astype(np.float32)
    flat = values.reshape(-1)
    places = RANDOM.permutation(flat.size)[: len(SPECIAL)]
    flat[places] = SPECIAL[: len(places)]
    return values


def channels(words: np.ndarray, c: int) -> np.ndarray:
    """(n, pairs, h, w) -> (n, c, h, w); what is behind the last channel must be zero."""
    both = np.moveaxis(halves(words), -1, 2)
    all_of_them = both.reshape(both.shape[0], -1, *both.shape[3:])
    assert not all_of_them[:, c:].any()
    return all_of_them[:, :c]


@pytest.mark.parametrize("isa", harness.ISAS)
@pytest.mark.parametrize("shape", [(1, 1, 3, 5), (2, 5, 7, 9), (1, 4, 40, 37), (3, 2, 1, 17)], ids=str)
def test_planes(isa, shape):
    context, memory = harness.empty_context(isa), harness.Memory()
    x = context.temporary(planes(shape, 1), "x")
    values = numbers(*shape)
    memory.put(x, values)
    made = pair_planes(context, x)
    assert made.planes.pitch == x.planes.pitch and made.planes.plane_stride == x.planes.plane_stride
    harness.run(context.steps, memory, isa, split=3)
    same(channels(memory.get(made), shape[1]), as_bf16(values))


@pytest.mark.parametrize("isa", harness.ISAS)
def test_planes_that_lie_otherwise(isa):
    """Dense maps, channels picked from others, and channels inside a larger tensor."""
    context, memory = harness.empty_context(isa), harness.Memory()
    values = numbers(2, 6, 5, 6)
    whole = context.temporary(planes(values.shape, 1), "x")
    memory.put(whole, values)
    dense = Tensor(Flat(values.shape), Buffer("dense", values.size))
    memory.put(dense, values)
    layout = whole.planes
    cases = {
        "dense": (dense, values),
        "picked": (Tensor(Picked(layout, (5, 0, 3)), whole.buffer), values[:, [5, 0, 3]]),
        "inside": (Tensor(layout.channels(3), whole.buffer, 2 * layout.plane_stride), values[:, 2:5]),
    }
    made = {name: pair_planes(context, tensor) for name, (tensor, _) in cases.items()}
    harness.run(context.steps, memory, isa)
    for name, (_, expected) in cases.items():
        same(channels(memory.get(made[name]), expected.shape[1]), as_bf16(expected))


@pytest.mark.parametrize("isa", harness.ISAS)
def test_tiles(isa):
    context, memory = harness.empty_context(isa), harness.Memory()
    layout = Tiled(2, 3, 8, 10, 10, (3, 2))
    x = context.temporary(layout, "x")
    memory.array(x.buffer)[:] = numbers(layout.size)
    made = pair_planes(context, x)
    assert isinstance(made.layout, Tiled)
    assert (made.layout.lines, made.layout.c) == (layout.lines, 2)
    harness.run(context.steps, memory, isa, split=2)
    given = memory.array(x.buffer).reshape(2 * 2, 3, layout.tile)  # images and tiles, channels, pixels
    words = memory.array(made.buffer).reshape(2 * 2, 2, layout.tile)
    same(channels(words[..., None, :], 3)[:, :, 0], as_bf16(given))


@pytest.mark.parametrize("isa", harness.ISAS)
@pytest.mark.parametrize(("rows", "inputs"), [(1, 1), (3, 2), (2, 31), (4, 33), (1, 64), (5, 67), (2, 100)])
def test_rows(isa, rows, inputs):
    context, memory = harness.empty_context(isa), harness.Memory()
    x = Tensor(Flat((rows, inputs)), Buffer("x", rows * inputs))
    values = numbers(rows, inputs)
    memory.put(x, values)
    made = pair_rows(context, x, rows, inputs)
    harness.run(context.steps, memory, isa, split=2)
    both = halves(memory.get(made)).reshape(rows, -1)
    same(both[:, :inputs], as_bf16(values))
    assert not both[:, inputs:].any()


@dataclass(frozen=True)
class Dots:
    """out[unit] = one `pair_dot` of vectors of total, x and w."""

    fields = ("total", "x", "w", "out")
    name = "test_dots"

    def emit(self, module: KernelModule) -> None:
        with module.kernel(self.name, self.fields) as f, f.loop(f.begin, f.end) as unit:
            at = f.b.mul(unit, f.i64(f.lanes))
            x, w = (f.load(f.pointer(name), at, type=I32) for name in ("x", "w"))
            f.store(pair_dot(f, f.load(f.pointer("total"), at), x, w), f.pointer("out"), at)


def dots(total: np.ndarray, x: np.ndarray, w: np.ndarray, lanes: int) -> tuple[Step, dict[str, np.ndarray]]:
    arrays = {"total": total, "x": x.view(np.float32), "w": w.view(np.float32), "out": np.zeros_like(total)}
    buffers = {name: Buffer(name, array.size, external=name) for name, array in arrays.items()}
    addresses = {name: Address(buffer) for name, buffer in buffers.items()}
    return Step("dots", Dots(), addresses, len(total) // lanes, (*buffers.values(),), (buffers["out"],)), arrays


def words(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return (as_bf16(low).view(np.uint32) >> 16) | (as_bf16(high).view(np.uint32) & 0xFFFF0000)


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a b + c rounded once to float32: products of bf16 numbers are exact, sums in 64 bits of fraction nearly so."""
    with np.errstate(all="ignore"):
        return (a.astype(np.longdouble) * b.astype(np.longdouble) + c.astype(np.longdouble)).astype(np.float32)


def operands() -> tuple[np.ndarray, ...]:
    total, *parts = (RANDOM.standard_normal(4096).astype(np.float32) for _ in range(5))
    return (total, *map(as_bf16, parts))


def through(isa: str, total: np.ndarray, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    step, arrays = dots(total, x, w, harness.TARGETS[isa].lanes)
    memory = harness.Memory()
    for name, array in arrays.items():
        memory.array(step.arguments[name].buffer)[:] = array
    slots = b"".join(harness._slot(step.arguments[name], memory, []) for name in Dots.fields)
    args = np.frombuffer(bytearray(slots), np.uint8)
    harness.function(step.kernel, isa)(args.ctypes.data, 0, step.units, 0)
    return memory.array(step.arguments["out"].buffer).copy()


@pytest.mark.parametrize("isa", harness.ISAS)
def test_the_upper_product_is_added_first_and_each_sum_rounded_once(isa):
    total, x0, x1, w0, w1 = operands()
    ours = through(isa, total, words(x0, x1), words(w0, w1))
    np.testing.assert_array_equal(ours, fused(x0, w0, fused(x1, w1, total)))
    other = fused(x1, w1, fused(x0, w0, total))
    assert (ours != other).any(), "the order shows in the last bits"


SUMS = [  # total, x0, w0, x1, w1, result
    (1.0, np.inf, 2.0, 1.0, 1.0, np.inf),
    (1.0, np.inf, 2.0, -np.inf, 1.0, np.nan),
    (1.0, np.inf, 0.0, 1.0, 1.0, np.nan),
    (1.0, np.nan, 0.0, 1.0, 1.0, np.nan),
    (np.nan, 1.0, 1.0, 1.0, 1.0, np.nan),
    (-np.inf, 1.0, 1.0, 1.0, 1.0, -np.inf),
    (0.0, 2.0**100, 2.0**100, 1.0, 1.0, np.inf),
    (0.0, 1e-40, 2.0**100, 3.0, 1.0, 3.0),  # denormal inputs are zero
    (0.5, -0.0, 1.0, 0.0, 1.0, 0.5),
]


def special_sums() -> tuple[np.ndarray, ...]:
    columns = [np.tile(np.array(column, np.float32), 16) for column in zip(*SUMS, strict=True)]
    total, x0, w0, x1, w1, expected = columns
    return total, words(x0, x1), words(w0, w1), expected


@pytest.mark.parametrize("isa", harness.ISAS)
def test_infinities_and_what_is_no_number(isa):
    *given, expected = special_sums()
    np.testing.assert_array_equal(through(isa, *given), expected)


@needs_emulator
def test_infinities_and_what_is_no_number_on_aarch64():
    *given, expected = special_sums()
    step, arrays = dots(*given, 4)
    np.testing.assert_array_equal(run_steps([step], arrays, target=BFDOT)["out"], expected)


@needs_emulator
def test_bfdot_on_aarch64():
    """It adds the two products first, and rounds to odd: at most an ulp each, two ulps of the greatest of the terms."""
    total, x0, x1, w0, w1 = operands()
    step, arrays = dots(total, words(x0, x1), words(w0, w1), 4)
    assert "bfdot" in assembly([Dots()], BFDOT)
    ours = run_steps([step], arrays, target=BFDOT)["out"].astype(np.float64)
    terms = [total.astype(np.float64), x0.astype(np.float64) * w0, x1.astype(np.float64) * w1]
    assert (abs(ours - sum(terms)) <= 2 * 2.0**-23 * sum(map(abs, terms))).all()


@needs_emulator
def test_aarch64_rounds_alike():
    context = Context(harness.empty_context("neon").graph, BFDOT, 1, {}, lambda *about: None)
    values = numbers(2, 5, 7, 9)
    x = context.temporary(planes(values.shape, 1), "x")
    memory = harness.Memory()
    memory.put(x, values)
    made = pair_planes(context, x)
    rows = Tensor(Flat((5, 7)), Buffer("rows", 35))
    both = pair_rows(context, rows, 5, 7)
    result = run_steps(context.steps, {"x": memory.array(x.buffer), "rows": values.reshape(-1)[:35]}, target=BFDOT)
    memory.array(made.buffer)[:] = result[made.buffer.name]
    same(channels(memory.get(made), 5), as_bf16(values))
    got = halves(result[both.buffer.name]).reshape(5, 8)
    same(got[:, :7], as_bf16(values.reshape(-1)[:35].reshape(5, 7)))


def test_which_processors_have_it():
    assert has_pair_dot(cross_target("avx512", "znver4", more=("avx512bf16",)))
    assert has_pair_dot(BFDOT)
    assert not has_pair_dot(cross_target("avx2", more=("avx512bf16",))), "kernels for AVX2 have no such instruction"
    assert not any(has_pair_dot(cross_target(isa)) for isa in ("avx512", "avx2", "neon"))
