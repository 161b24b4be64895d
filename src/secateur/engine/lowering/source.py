"""What a convolution reads, and where its positions lie there.

source     direct  stride 1: the input itself; otherwise its phases (a stride-s convolution is a stride-1 convolution
                   over s x s times as many planes)
           gemm    the im2col matrix, one plane per position
place      of position (c, ky, kx) = distance of its plane and tap from the tile's first pixel
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from secateur.engine.choice import Choice
from secateur.engine.layout import Planes, Tiled, planes
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.conv_shape import ConvShape, reads_in_place
from secateur.engine.lowering.picked import read_in_place
from secateur.engine.lowering.relayout import im2col, phase_split, picked_pixels, shifted, to_planes

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """What a convolution reads.

    tensor   planes of the output's pitch, or tiles
    places   (positions of one group,) in units, ascending after `order`
    order    (positions of one group,) the positions of the weight matrix by place
    unit     bytes
    shift    elements from a tile's first output to its first input
    group    units from one group's first channel to the next one's
    """

    tensor: Tensor
    places: Ints
    order: Ints
    unit: int
    shift: int
    group: int


def source_of(context: Context, shape: ConvShape, x: Tensor, inner: Planes, choice: Choice) -> Source:
    """The source of a convolution of x; steps that make it where it is not x itself.

    inner    pitch of the sums
    """
    (kh, kw), (sh, sw), (dh, dw) = shape.kernel, shape.strides, shape.dilations
    channels = shape.c // shape.groups
    c, ky, kx = (a.reshape(-1) for a in np.meshgrid(range(channels), range(kh), range(kw), indexing="ij"))
    if isinstance(x.layout, Tiled):
        tensor = x if shape.pointwise else picked_pixels(context, x, shape.strides, like(inner, shape.c, x.layout.fill))
        return Source(tensor, c, np.arange(channels), tensor.maps.channel_stride * 4, 0, channels)
    if choice.primitive == "gemm" and not shape.pointwise:
        layout = like(inner, shape.c * kh * kw, x.fill)
        matrix = im2col(context, x, shape.kernel, shape.strides, shape.pads, shape.dilations, layout)
        count = channels * kh * kw
        everything = np.arange(count, dtype=np.int64)
        return Source(matrix, everything, everything, layout.plane_stride * 4, 0, count)
    if shape.strides == (1, 1):
        lies = read_in_place(x, shape, inner.pitch)
        tensor, picks, step = lies or (padded(context, shape, x, inner.pitch), np.arange(channels), channels)
        own, c = tensor.planes, picks[c]
        if shape.pointwise:
            order = np.argsort(c, kind="stable")
            return Source(tensor, c[order], order, own.plane_stride * 4, 0, step)
        places = c * own.plane_stride + ky * dh * own.pitch + kx * dw
        shift = -(shape.pads[0] * own.pitch + shape.pads[1])
        group = step * own.plane_stride
    else:
        if shape.kernel == (1, 1):  # only the pixels that it meets
            layout = like(inner, shape.c, x.fill)
            tensor = shifted(context, x, [(-shape.pads[0], -shape.pads[1])], shape.strides, layout)
            return Source(tensor, c, np.arange(channels), layout.plane_stride * 4, 0, channels)
        phases = sh * sw
        height, width = shape.out_h + shape.reach[0] // sh, shape.out_w + shape.reach[1] // sw
        rows = max(-(-inner.plane_stride // inner.pitch), height)
        stride = max(inner.plane_stride, -(-rows * inner.pitch // 16) * 16)
        planes_of_all = shape.c * phases
        split = Planes(
            *(shape.n, planes_of_all, height, width, inner.pitch, stride, planes_of_all * stride), fill=x.fill
        )
        tensor = phase_split(context, x, shape.strides, shape.pads, split)
        y, x_ = ky * dh, kx * dw
        plane = (c * sh + y % sh) * sw + x_ % sw
        places = plane * stride + (y // sh) * inner.pitch + x_ // sw
        shift, group = 0, channels * phases * stride
    order = np.argsort(places, kind="stable")
    return Source(tensor, places[order], order, 4, shift, group)


def padded(context: Context, shape: ConvShape, x: Tensor, pitch: int | None = None) -> Tensor:
    """The input in planes with zeros around that the taps of a stride-1 convolution may read.

    pitch    of its rows; any when not given
    """
    if isinstance(x.layout, Planes) and reads_in_place(shape, x.layout, pitch):
        return x
    pad = shape.border if pitch is None else pitch - shape.w
    if pad < shape.border:
        raise AssertionError("the layout of the sums leaves no room for the borders")
    wanted = planes((shape.n, shape.c, shape.h, shape.w), pad, max(shape.border, 1), x.fill)
    return to_planes(context, x, wanted)


def like(layout: Planes, channels: int, fill: int = 0) -> Planes:
    """Maps of the same geometry with another number of channels, side by side.

    fill    each byte of what is zero in them
    """
    return replace(layout, c=channels, image_stride=channels * layout.plane_stride, fill=fill)
