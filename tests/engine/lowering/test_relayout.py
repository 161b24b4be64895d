"""Copies between layouts against numpy, with NaN around every source."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.harness import ISAS, Memory, assembly, empty_context, run
from secateur.engine.kernels.copy_planes import CopyPlanes
from secateur.engine.layout import Flat, Layout, Planes, planes
from secateur.engine.lowering.context import Tensor
from secateur.engine.lowering.relayout import im2col, phase_split, shifted, to_flat, to_planes
from secateur.engine.program import Buffer

RANDOM = np.random.default_rng(7)


def source(memory: Memory, layout: Layout, poisoned: bool = True) -> tuple[Tensor, np.ndarray]:
    """A tensor of random values in memory, NaN in everything around its elements."""
    tensor = Tensor(layout, Buffer("source", layout.size))
    values = RANDOM.standard_normal(layout.shape).astype(np.float32)
    array = memory.array(tensor.buffer)
    array[:] = np.nan if poisoned else 0
    memory.put(tensor, values)
    return tensor, values


sizes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 20), st.integers(1, 50))
SMALL = [(1, 3, 7, 7), (2, 5, 3, 9), (1, 1, 14, 14), (3, 2, 9, 33), (1, 2, 5, 64), (2, 1, 31, 2)]


@pytest.mark.parametrize("isa", ISAS)
@given(shape=sizes, pads=st.tuples(st.integers(0, 3), st.integers(0, 3)), split=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_dense_to_planes_to_planes_to_dense(isa: str, shape, pads, split) -> None:
    context, memory = empty_context(isa), Memory()
    tensor, values = source(memory, Flat(shape))
    first = to_planes(context, tensor, planes(shape, pads[0]))
    second = to_planes(context, first, planes(shape, pads[1], 2), context.temporary(planes(shape, pads[1], 2)))
    dense = to_flat(context, second, context.temporary(Flat(shape)))
    run(context.steps, memory, isa, split)
    for made in (first, second, dense):
        np.testing.assert_array_equal(memory.get(made), values)


@pytest.mark.parametrize("isa", ISAS)
def test_source_padding_is_not_copied_into_other_pitches(isa: str) -> None:
    context, memory = empty_context(isa), Memory()
    tensor, values = source(memory, planes((2, 3, 7, 9), 2))
    target = to_planes(context, tensor, planes((2, 3, 7, 9), 1))
    run(context.steps, memory, isa)
    np.testing.assert_array_equal(memory.get(target), values)


def test_no_copy_where_the_layout_is_the_same() -> None:
    context = empty_context(ISAS[0])
    layout = planes((1, 4, 8, 8))
    tensor = Tensor(layout, Buffer("x", layout.size), 64)
    assert to_planes(context, tensor, layout) is tensor
    assert to_flat(context, tensor) == Tensor(Flat((1, 4, 8, 8)), tensor.buffer, 64)
    assert not context.steps


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(2, 1, 1, 2), (2, 1, 8, 8), (1, 2, 4, 4), (2, 2, 4, 4), (1, 1, 5, 3)])
def test_only_dense_planes_are_views(isa: str, shape) -> None:
    context, memory = empty_context(isa), Memory()
    tensor, values = source(memory, planes(shape))
    dense = to_flat(context, tensor)
    run(context.steps, memory, isa)
    np.testing.assert_array_equal(memory.get(dense), values)


def gathered(x: np.ndarray, taps, strides, h: int, w: int, fill: float = 0) -> np.ndarray:
    """(n, c taps, h, w) by the definition."""
    n, c, height, width = x.shape
    out = np.full((n, c, len(taps), h, w), fill, x.dtype)
    for t, (dy, dx) in enumerate(taps):
        for y in range(h):
            for column in range(w):
                at = (y * strides[0] + dy, column * strides[1] + dx)
                if 0 <= at[0] < height and 0 <= at[1] < width:
                    out[:, :, t, y, column] = x[:, :, at[0], at[1]]
    return out.reshape(n, c * len(taps), h, w)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (3, 3), (2, 1)])
@pytest.mark.parametrize("shape", [(1, 3, 7, 7), (2, 2, 9, 33), (1, 1, 13, 70)])
def test_phase_split(isa: str, shape, stride, dense: bool) -> None:
    context, memory = empty_context(isa), Memory()
    tensor, x = source(memory, Flat(shape) if dense else planes(shape, 1))
    pads = (1, 2, 1, 1)
    h, w = (shape[2] + 3) // stride[0] + 1, (shape[3] + 3) // stride[1] + 1
    layout = planes((shape[0], shape[1] * stride[0] * stride[1], h, w), 1)
    made = phase_split(context, tensor, stride, pads, layout)
    run(context.steps, memory, isa)
    taps = [(py - 1, px - 2) for py in range(stride[0]) for px in range(stride[1])]
    np.testing.assert_array_equal(memory.get(made), gathered(x, taps, stride, h, w))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize(
    ("stride", "dilation", "pad"), [((1, 1), 1, 1), ((2, 2), 1, 0), ((1, 2), 2, 2), ((4, 4), 1, 1)]
)
def test_im2col(isa: str, shape, stride, dilation: int, pad: int) -> None:
    kernel = (3, 2)
    h = (shape[2] + 2 * pad - 2 * dilation - 1) // stride[0] + 1
    w = (shape[3] + 2 * pad - dilation - 1) // stride[1] + 1
    context, memory = empty_context(isa), Memory()
    tensor, x = source(memory, planes(shape, 1))
    layout = planes((shape[0], shape[1] * 6, h, w), 2)
    made = im2col(context, tensor, kernel, stride, (pad,) * 4, (dilation,) * 2, layout)
    run(context.steps, memory, isa, 2)
    taps = [(ky * dilation - pad, kx * dilation - pad) for ky in range(3) for kx in range(2)]
    np.testing.assert_array_equal(memory.get(made), gathered(x, taps, stride, h, w))


@pytest.mark.parametrize("isa", ISAS)
@given(
    shape=sizes,
    shift=st.tuples(st.integers(-25, 25), st.integers(-55, 55)),
    size=st.tuples(*[st.integers(1, 50)] * 2),
    strides=st.tuples(*[st.integers(1, 3)] * 2),
    fill=st.sampled_from([0.0, -1.5]),
)
@settings(max_examples=40, deadline=None)
def test_any_shift_and_stride(isa: str, shape, shift, size, strides, fill) -> None:
    context, memory = empty_context(isa), Memory()
    tensor, x = source(memory, Flat(shape))
    layout = planes((shape[0], shape[1], *size), 1)
    made = shifted(context, tensor, [shift], strides, layout, fill=fill)
    run(context.steps, memory, isa, 2)
    np.testing.assert_array_equal(memory.get(made), gathered(x, [shift], strides, *size, fill))


@pytest.mark.parametrize("step", [0, 1, 2])
def test_neon_code_has_no_calls(step: int) -> None:
    assert "\tbl\t" not in assembly(CopyPlanes(step), "neon")


def test_reads_end_with_the_caller_s_array() -> None:
    """Stride 2 must not read one element behind the last one: memory may end there."""
    layout = Planes(1, 1, 1, 16, 16, 16, 16)
    for isa in ISAS:
        context, memory = empty_context(isa), Memory()
        tensor, x = source(memory, Flat((1, 1, 1, 31)))
        made = shifted(context, tensor, [(0, 0)], (1, 2), layout)
        run(context.steps, memory, isa)
        np.testing.assert_array_equal(memory.get(made)[0, 0, 0], x[0, 0, 0, ::2])
