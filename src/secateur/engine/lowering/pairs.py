"""Layers in bf16, where the user asks for it: pairs of input channels, rounded in front of the layer.

Values between layers stay float32, and so do sums: a layer rounds what it multiplies, nothing else. Convolutions whose
groups have whole pairs of channels do, and products with a matrix of weights; depthwise ones, transposed ones, and
products of two values compute in float32 as ever.
"""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.pairs import PairPlanes, PairRows
from secateur.engine.layout import ALIGN, Flat, Picked, Planes, Tiled, pairs_of
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.parts import parts_of
from secateur.engine.lowering.relayout import plane_offsets, to_planes
from secateur.engine.weights.pairs import weight_pairs
from secateur.engine.weights.streams import Weights

_UPPER = -0x10000


def multiplied(context: Context, shape: ConvShape, weight: NDArray[np.float32]) -> tuple[ConvShape, Weights]:
    """What the convolution kernel multiplies: pairs of bf16 where they are asked for and fit, else what is given."""
    whole = shape.groups == 1 or shape.c // shape.groups % 2 == 0
    return (shape.in_pairs, weight_pairs(weight)) if context.bf16 and whole else (shape, weight)


def paired_maps(context: Context, name: str) -> Tensor:
    """A value (n, c, h, w) of floats as pairs, a tensor (n, ceil(c / 2), h, w); readers of one value share it."""
    if name not in context.paired:
        context.paired[name] = pair_planes(context, context.tensor(name))
    return context.paired[name]


def pair_planes(context: Context, tensor: Tensor) -> Tensor:
    """Maps of floats as maps of pairs that lie alike, in planes or in tiles."""
    if isinstance(tensor.layout, Flat):
        tensor = to_planes(context, tensor)
    n, c, h, w = tensor.shape
    count = pairs_of(c)
    layout = tensor.layout.whole if isinstance(tensor.layout, Picked) else tensor.layout
    assert isinstance(layout, Planes | Tiled)
    if isinstance(layout, Tiled):
        own: Planes | Tiled = Tiled(n, count, h, w, layout.pitch, layout.lines)
        target = context.temporary(own)
        sources, targets = _tile_offsets(layout), _tile_offsets(own)
        length, cut = layout.tile, len(layout.lines)
    else:
        stride = layout.plane_stride
        own = Planes(n, count, h, w, layout.pitch, stride, count * stride)
        target = context.temporary(own)
        sources, targets = plane_offsets(tensor)[0].reshape(n, 1, c), plane_offsets(target)[0].reshape(n, 1, count)
        length, cut = layout.vectors * ALIGN, 1
    # What is missing behind an odd number of channels is read from the last one, and masked.
    places = np.stack([sources[:, :, ::2], sources[:, :, np.minimum(np.arange(count) * 2 + 1, c - 1)]], -1)
    masks = np.full((n, cut, count), _UPPER, np.int32)
    if c % 2:
        masks[:, :, -1] = 0
    planes_of_all = n * cut * count
    part, parts = parts_of(context, planes_of_all, length)
    context.emit(
        context.layer,
        PairPlanes(),
        {
            "x": tensor.address,
            "y": target.address,
            "sources": places.reshape(-1),
            "targets": targets.reshape(-1),
            "masks": masks.reshape(-1),
            "parts": parts,
            "part": part,
            "length": length,
        },
        planes_of_all * parts,
        reads=(tensor,),
        writes=(target,),
    )
    return target


def pair_rows(context: Context, tensor: Tensor, rows: int, inputs: int) -> Tensor:
    """A dense (rows, inputs) of floats as a dense (rows, ceil(inputs / 2)) of pairs."""
    target = context.temporary(Flat((rows, pairs_of(inputs))))
    context.emit(
        context.layer,
        PairRows(),
        {"x": tensor.address, "y": target.address, "inputs": inputs, "pairs": pairs_of(inputs)},
        rows,
        reads=(tensor,),
        writes=(target,),
    )
    return target


def _tile_offsets(layout: Tiled) -> np.ndarray:
    """(n, tiles, c) where the channels of each tile begin."""
    steps = (layout.image_stride, layout.tile_stride, layout.channel_stride)
    n, t, c = np.ix_(range(layout.n), range(len(layout.lines)), range(layout.c))
    return n * steps[0] + t * steps[1] + c * steps[2]
