"""Depthwise convolutions of 8-bit integers, and averages over windows, which are such with weights of one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.quad_depthwise import QuadDepthwise
from secateur.engine.layout import Planes, Quads, planes, quads, quads_of
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.depthwise import strides_in_place
from secateur.engine.lowering.parts import parts_of_rows
from secateur.engine.lowering.quad_relayout import Part, gather_channels, to_bytes
from secateur.engine.lowering.relayout import phase_split, plane_offsets, to_planes
from secateur.engine.lowering.requantized import Requantized
from secateur.engine.lowering.source import padded
from secateur.engine.program import Argument
from secateur.engine.target import Target

Table = NDArray[np.int32 | np.float32]


def rows_together(height: int, kernel_h: int, target: Target, stride: int, *, residual: bool) -> int:
    """Output rows per step: those that share an interleaving of four rows, where registers hold their sums."""
    spare = 4 - kernel_h % 4 if kernel_h % 4 else 0
    sharing = 1 + spare // stride
    most = 2 if target.registers >= 32 and not residual else 1
    return min(sharing, most, height)


def emit_quad_depthwise(
    context: Context,
    layer: str,
    shape: ConvShape,
    weight: NDArray[np.int8],
    bias: NDArray[np.int32],
    x: Tensor,
    y: Tensor,
    residual: Tensor | None,
    ends: Requantized,
    slope: NDArray[np.float32] | None = None,
    shares: NDArray[np.float32] | None = None,
) -> QuadDepthwise:
    """The steps of one convolution with a channel per group (multiplier o / c); returns the kernel for the report.

    x, y       quads; the padding of x is the zero point that the bias is for. y may be dense bytes of one pixel
    residual   quads, not y
    weight     (O, 1, kh, kw)
    bias       (O,) with all that zero points add
    shares     (height, width) float32 instead of a scale per channel
    """
    multiplier = shape.o // shape.c
    if multiplier > 1:
        assert isinstance(x.layout, Quads)
        repeated = context.temporary(replace(x.layout, words=_with_planes(x.layout, shape.o), c=shape.o))
        gather_channels(context, [Part(x, np.repeat(np.arange(shape.c), multiplier))], repeated)
        x = repeated
    out = y
    if not isinstance(y.layout, Quads):
        out = context.temporary(quads((shape.n, shape.o, shape.out_h, shape.out_w), ends.zero))
    count = quads_of(shape.o)
    inner = replace(shape, c=count, o=count, groups=count)
    (kh, kw), (sh, sw), (dh, dw) = shape.kernel, shape.strides, shape.dilations
    ys, xs = [ky * dh for ky in range(kh)], [kx * dw for kx in range(kw)]
    words, own = x.words, out.words.planes
    if strides_in_place(shape):
        source = padded(context, inner.densely, words)
        taps = tuple((0, ty - shape.pads[0], tx - shape.pads[1]) for ty in ys for tx in xs)
        origins = plane_offsets(source)[0][:count]
        stride = sh
    else:
        size = (shape.out_h + shape.reach[0] // sh, shape.out_w + shape.reach[1] // sw)
        phases = planes((shape.n, count * sh * sw, *size), fill=words.planes.fill)
        source = phase_split(context, words, shape.strides, shape.pads, phases)
        taps = tuple(((ty % sh) * sw + tx % sw, ty // sh, tx // sw) for ty in ys for tx in xs)
        origins = np.arange(count) * sh * sw * phases.plane_stride
        stride = 1
    kernel = QuadDepthwise(
        taps,
        kw,
        rows_together(shape.out_h, kh, context.target, stride, residual=residual is not None),
        stride,
        ends.how,
        ends.activation,
        residual=residual is not None,
        shares=shares is not None,
    )
    rows, parts = parts_of_rows(context, shape.n * count, shape.out_h)
    rows = max(rows, kernel.together)
    parts = -(-shape.out_h // rows)
    scales = _by_quads(ends.scales) if shares is None else _shares(shares, kernel, context.target.lanes)
    other = residual.words.planes if residual else None
    arguments: dict[str, Argument] = {
        "x": source.address,
        "y": out.address,
        "residual": residual.address if residual else 0,
        "bias": _by_quads(bias),
        "weights": _weights(kernel, weight.reshape(shape.o, kh, kw)),
        "scales": scales,
        "slope": 0 if slope is None else _by_quads(slope),
        "origins": origins,
        "numbers": ends.numbers,
        "planes": count,
        "parts": parts,
        "rows": rows,
        "h": shape.out_h,
        "w": shape.out_w,
        "x_pitch": source.planes.pitch,
        "x_plane": source.planes.plane_stride,
        "x_image": source.planes.image_stride,
        "y_pitch": own.pitch,
        "y_plane": own.plane_stride,
        "y_image": own.image_stride,
        "residual_pitch": other.pitch if other else 0,
        "residual_plane": other.plane_stride if other else 0,
        "residual_image": other.image_stride if other else 0,
        "zero": ends.zero * 0x10001,
        "fill": 0,
    }
    reads = (source, *((residual,) if residual else ()))
    context.emit(layer, kernel, arguments, shape.n * count * parts, reads=reads, writes=(out,))
    if out is not y:
        to_bytes(context, out, y)
    return kernel


def with_padding(context: Context, x: Tensor, zero: int) -> Tensor:
    """Quads whose padding holds a byte."""
    layout = x.layout
    assert isinstance(layout, Quads)
    if layout.fill == zero:
        return x
    made = to_planes(context, x.words, replace(x.words.planes, fill=zero))
    return Tensor(replace(layout, words=made.planes), made.buffer, made.offset)


def _with_planes(layout: Quads, channels: int) -> Planes:
    assert isinstance(layout.words, Planes)
    count = quads_of(channels)
    return replace(layout.words, c=count, image_stride=count * layout.words.plane_stride)


def _weights(kernel: QuadDepthwise, weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """(quads, entries, 4 channels, 4 rows) of weights (O, kh, kw); zeros where a row meets none."""
    count = quads_of(len(weight))
    wide = np.zeros((4 * count, *weight.shape[1:]), np.int8)
    wide[: len(weight)] = weight
    wide = wide.reshape(count, 4, *weight.shape[1:])
    made = np.zeros((count, len(kernel.entries), 4, 4), np.int8)
    for i, entry in enumerate(kernel.entries):
        for slot, tap in enumerate(entry.taps):
            if tap is not None:
                made[:, i, :, slot] = wide[:, :, tap, entry.column]
    return made


def _by_quads(values: Table) -> Table:
    """Numbers per channel, zeros for channels that the last quad lacks."""
    made = np.zeros(4 * quads_of(len(values)), values.dtype)
    made[: len(values)] = values
    return made


def _shares(shares: NDArray[np.float32], kernel: QuadDepthwise, lanes: int) -> NDArray[np.float32]:
    """(height, vectors, 4, lanes): scales of positions in the order of the kernel's sums."""
    h, w = shares.shape
    vectors = -(-w // lanes)
    wide = np.zeros((h, vectors * lanes), np.float32)
    wide[:, :w] = shares
    order = np.array(kernel.pixels(lanes)).reshape(4, lanes)
    return wide.reshape(h, vectors, lanes)[:, :, order]


def ones(kernel: Sequence[int], channels: int) -> NDArray[np.int8]:
    """Weights of a sum over windows."""
    return np.ones((channels, 1, kernel[0], kernel[1]), np.int8)
