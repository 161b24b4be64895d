"""Convolutions of every primitive and format against float64, between guards of NaN."""

import numpy as np
import pytest

from engine import harness
from secateur.engine.choice import Choice
from secateur.engine.layout import Flat, Planes
from secateur.engine.lowering.context import Tensor
from secateur.engine.lowering.conv import emit_conv
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.depthwise import emit_depthwise
from secateur.engine.lowering.epilogue import Epilogue
from secateur.graph.ir import Activation


def reference(x, weight, bias, shape: ConvShape, residual=None, activation=None, slope=None):
    """Float64 result, and the sum of absolute terms that bounds the rounding error."""
    (kh, kw), (sh, sw), (dh, dw) = shape.kernel, shape.strides, shape.dilations
    top, left, bottom, right = shape.pads
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom + sh), (left, right + sw)))
    per, out = shape.c // shape.groups, shape.o // shape.groups
    total = np.zeros((shape.n, shape.o, shape.out_h, shape.out_w))
    size = np.zeros_like(total)
    for g in range(shape.groups):
        for ky in range(kh):
            for kx in range(kw):
                rows = slice(ky * dh, ky * dh + sh * shape.out_h, sh)
                columns = slice(kx * dw, kx * dw + sw * shape.out_w, sw)
                part = padded[:, g * per : (g + 1) * per, rows, columns][:, :, : shape.out_h, : shape.out_w]
                w = weight[g * out : (g + 1) * out, :, ky, kx].astype(np.float64)
                total[:, g * out : (g + 1) * out] += np.einsum("oc,nchw->nohw", w, part)
                size[:, g * out : (g + 1) * out] += np.einsum("oc,nchw->nohw", abs(w), abs(part))
    if bias is not None:
        total += bias[:, None, None]
        size += abs(bias)[:, None, None]
    if residual is not None:
        total += residual
        size += abs(residual)
    if activation == "relu":
        total = np.maximum(total, 0)
    if activation == "prelu":
        total = np.where(total < 0, total * slope[:, None, None], total)
    return total, size


def make_shape(n, c, h, w, o, kernel, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), groups=1) -> ConvShape:
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    out_h = (h + pads[0] + pads[2] - reach[0] - 1) // strides[0] + 1
    out_w = (w + pads[1] + pads[3] - reach[1] - 1) // strides[1] + 1
    return ConvShape(n, c, h, w, o, kernel, strides, pads, dilations, groups, out_h, out_w)


SHAPES = {
    "pointwise": make_shape(1, 5, 7, 7, 9, (1, 1)),
    "pointwise_batch": make_shape(3, 17, 14, 9, 20, (1, 1)),
    "same": make_shape(2, 6, 13, 11, 10, (3, 3), pads=(1, 1, 1, 1)),
    "same_5x5": make_shape(1, 3, 9, 31, 6, (5, 5), pads=(2, 2, 2, 2)),
    "valid": make_shape(1, 4, 12, 17, 5, (3, 3)),
    "asymmetric": make_shape(1, 4, 10, 11, 6, (3, 3), strides=(2, 2), pads=(0, 0, 1, 1)),
    "asymmetric_stride_1": make_shape(1, 4, 10, 11, 6, (2, 2), pads=(0, 0, 1, 1)),
    "strided": make_shape(2, 5, 15, 16, 7, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
    "stem": make_shape(1, 3, 33, 35, 16, (7, 7), strides=(2, 2), pads=(3, 3, 3, 3)),
    "stride_3": make_shape(1, 4, 17, 19, 5, (3, 5), strides=(3, 2), pads=(1, 2, 0, 1)),
    "strided_pointwise": make_shape(1, 8, 15, 14, 12, (1, 1), strides=(2, 2)),
    "dilated": make_shape(1, 4, 15, 16, 8, (3, 3), pads=(4, 4, 4, 4), dilations=(4, 4)),
    "row": make_shape(1, 6, 5, 33, 7, (1, 7), pads=(0, 3, 0, 3)),
    "column": make_shape(1, 6, 33, 5, 7, (7, 1), pads=(3, 0, 3, 0)),
    "grouped": make_shape(2, 8, 9, 9, 12, (3, 3), pads=(1, 1, 1, 1), groups=4),
    "grouped_strided": make_shape(1, 8, 9, 9, 12, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), groups=2),
    "to_one_pixel": make_shape(2, 4, 3, 3, 6, (3, 3)),
    "padding_larger_than_map": make_shape(1, 3, 2, 2, 4, (5, 5), pads=(4, 4, 4, 4)),
    "one_row": make_shape(1, 4, 1, 40, 6, (1, 3), pads=(0, 1, 0, 1)),
}
CHOICES = [
    Choice("dense", "direct", 8, 3),
    Choice("dense", "gemm", 4, 2),
    Choice("dense", "pack", 4, 2),
    Choice("block", "direct", 4, 3),
    Choice("block", "gemm", 2, 4),
    Choice("block", "pack", 4, 2),
    Choice("block", "pack", 2, 2, block=7),
    Choice("block", "direct", 4, 2, block=5),
    Choice("panel", "direct", 2, 4),
    Choice("panel", "pack", 3, 2, block=10),
    Choice("panel", "gemm", 4, 2),
    Choice("panel", "direct", 1, 5),
    Choice("block", "direct", 4, 2, resident=256),
    Choice("dense", "direct", 4, 2, block=9),
    Choice("rows", "direct", 4, 3),
    Choice("rows", "direct", 3, 2, block=11),
    Choice("rows", "pack", 2, 3, block=6),
    Choice("rows", "gemm", 2, 3),
]


def sparse_weight(rng: np.random.Generator, shape: ConvShape, density: float) -> np.ndarray:
    weight = rng.standard_normal((shape.o, shape.c // shape.groups, *shape.kernel)).astype(np.float32)
    return weight * (rng.random(weight.shape) < density)


def check(isa, shape, emit, *, density=0.4, pad=None, seed=0, residual=False, activation=None):
    rng = np.random.default_rng(seed)
    weight = sparse_weight(rng, shape, density)
    bias = rng.standard_normal(shape.o).astype(np.float32)
    slope = rng.random(shape.o).astype(np.float32) if activation == "prelu" else None
    border = shape.border if pad is None else pad
    pads = {(shape.h, shape.w): border, (shape.out_h, shape.out_w): border}
    context = harness.empty_context(isa, pads=pads)
    memory = harness.Memory()
    x = context.temporary(context.layout((shape.n, shape.c, shape.h, shape.w)), "x")
    y = context.temporary(context.layout((shape.n, shape.o, shape.out_h, shape.out_w)), "y")
    values = rng.standard_normal(x.shape).astype(np.float32)
    memory.put(x, values)
    other: Tensor | None = None
    added = None
    if residual:
        other = context.temporary(y.layout, "residual")
        added = rng.standard_normal(other.shape).astype(np.float32)
        memory.put(other, added)
    act = Activation(activation) if activation else None
    emit(context, shape, weight, bias, x, y, Epilogue(other, act, slope))
    harness.run(context.steps, memory, isa, split=2)
    got = memory.get(y)
    want, size = reference(values, weight, bias, shape, added, activation, slope)
    terms = shape.c // shape.groups * shape.kernel[0] * shape.kernel[1]
    bound = 1.01 * (terms + 4) * 2.0**-24 * size + 1e-30
    assert (abs(got - want) <= bound).all(), abs(got - want).max()


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_every_primitive_and_format(name: str, choice: Choice) -> None:
    def emit(context, shape, weight, bias, x, y, epilogue):
        emit_conv(context, "layer", shape, weight, bias, x, y, choice, epilogue)

    check(harness.ISAS[0], SHAPES[name], emit, seed=hash(name) % 100)


@pytest.mark.parametrize("isa", harness.ISAS)
@pytest.mark.parametrize("activation", [None, "relu", "prelu"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("choice", [CHOICES[0], CHOICES[3], CHOICES[6], CHOICES[8]], ids=str)
def test_epilogues(isa: str, choice: Choice, residual: bool, activation: str | None) -> None:
    def emit(context, shape, weight, bias, x, y, epilogue):
        emit_conv(context, "layer", shape, weight, bias, x, y, choice, epilogue)

    check(isa, SHAPES["same"], emit, residual=residual, activation=activation)


@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("choice", [CHOICES[4], CHOICES[6], CHOICES[9], CHOICES[11]], ids=str)
def test_densities(choice: Choice, density: float) -> None:
    def emit(context, shape, weight, bias, x, y, epilogue):
        emit_conv(context, "layer", shape, weight, bias, x, y, choice, epilogue)

    check(harness.ISAS[0], SHAPES["strided"], emit, density=density)


@pytest.mark.parametrize("choice", CHOICES[:5], ids=str)
def test_without_room_for_borders_the_input_is_copied(choice: Choice) -> None:
    def emit(context, shape, weight, bias, x, y, epilogue):
        emit_conv(context, "layer", shape, weight, bias, x, y, choice, epilogue)

    check(harness.ISAS[0], SHAPES["dilated"], emit, pad=0)
    check(harness.ISAS[0], SHAPES["same"], emit, pad=0, residual=True)


DEPTHWISE = {
    "same": make_shape(2, 6, 14, 14, 6, (3, 3), pads=(1, 1, 1, 1), groups=6),
    "strided": make_shape(1, 5, 15, 17, 5, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), groups=5),
    "multiplier": make_shape(2, 3, 9, 20, 9, (3, 3), pads=(1, 1, 1, 1), groups=3),
    "5x5": make_shape(1, 4, 7, 7, 4, (5, 5), pads=(2, 2, 2, 2), groups=4),
    "asymmetric": make_shape(1, 4, 11, 12, 4, (3, 3), strides=(2, 2), pads=(0, 0, 1, 1), groups=4),
    "dilated": make_shape(1, 4, 19, 20, 4, (3, 3), pads=(2, 2, 2, 2), dilations=(2, 2), groups=4),
    "column": make_shape(1, 4, 19, 5, 4, (3, 1), pads=(1, 0, 1, 0), groups=4),
    "to_one_pixel": make_shape(2, 4, 3, 3, 4, (3, 3), groups=4),
}


@pytest.mark.parametrize("isa", harness.ISAS)
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(name: str, isa: str) -> None:
    def emit(context, shape, weight, bias, x, y, epilogue):
        emit_depthwise(context, "layer", shape, weight, bias, x, y, epilogue)

    check(isa, DEPTHWISE[name], emit, density=0.8)
    check(isa, DEPTHWISE[name], emit, residual=True, activation="relu", pad=0)


def test_layouts_of_the_cases_differ() -> None:
    """The table of cases holds flat outputs as well as planes."""
    context = harness.empty_context(harness.ISAS[0])
    kinds = {type(context.layout((s.n, s.o, s.out_h, s.out_w))) for s in SHAPES.values()}
    assert kinds == {Flat, Planes}


def test_padding_stays_zero_between_blocks_of_positions() -> None:
    """Behind the last plane begins the padding of another tensor, which another thread may be reading meanwhile."""
    shape = SHAPES["same"]
    rng = np.random.default_rng(0)
    context = harness.empty_context(harness.ISAS[0], pads={(shape.h, shape.w): 1})
    memory = harness.Memory()
    x = context.temporary(context.layout((shape.n, shape.c, shape.h, shape.w)), "x")
    y = context.temporary(context.layout((shape.n, shape.o, shape.out_h, shape.out_w)), "y")
    memory.put(x, rng.standard_normal(x.shape).astype(np.float32))
    weight, bias = sparse_weight(rng, shape, 0.5), rng.standard_normal(shape.o).astype(np.float32)
    choice = Choice("block", "direct", 4, 2, block=9)
    emit_conv(context, "layer", shape, weight, bias, x, y, choice, Epilogue())
    assert len(context.steps) == 6
    for step in context.steps:
        harness.run([step], memory, harness.ISAS[0])
        memory.get(y)  # looks at everything around the maps
