"""Selections of channels that are read where they lie (layout.Picked).

A convolution's list of positions holds the distance of every plane that it reads; copies, pooling, depthwise kernels
and operators on single numbers have tables of planes. Which planes they are, and in which order, costs nothing.
"""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import Picked, Planes
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.conv_shape import ConvShape, reads_in_place
from secateur.graph.channel_selection import of_groups, takes
from secateur.graph.ir import Node

Ints = NDArray[np.int64]


def pick(context: Context, node: Node, channels: Ints) -> Tensor | None:
    """The output of a node as a view of channels of its first input; None where somebody has to have it copied."""
    x, name = context.tensor(node.inputs[0]), node.outputs[0]
    wanted, graph = context.layout_of(name), context.graph
    if name in context.views or not isinstance(wanted, Planes):
        return None
    whole = x.layout.whole if isinstance(x.layout, Picked) else x.layout
    if not isinstance(whole, Planes) or _rows(whole) != _rows(wanted):
        return None
    if not all(takes(graph, reader, name, channels) for reader in graph.nodes if name in reader.reads()):
        return None
    known = np.array(x.layout.channels) if isinstance(x.layout, Picked) else np.arange(whole.c)
    return Tensor(Picked(whole, tuple(known[channels].tolist())), x.buffer, x.offset)


def whole_of(tensor: Tensor) -> Tensor:
    """The tensor that a picked one's channels belong to."""
    assert isinstance(tensor.layout, Picked)
    return Tensor(tensor.layout.whole, tensor.buffer, tensor.offset)


def read_in_place(x: Tensor, shape: ConvShape, pitch: int | None = None) -> tuple[Tensor, Ints, int] | None:
    """How a stride-1 convolution reads a picked input where it lies; None where it needs a copy.

    pitch      of the rows that the convolution wants; any when not given
    returns    the whole tensor; its channel for each channel of the first group; how many channels further on each
               next group's lie
    """
    if not isinstance(x.layout, Picked) or not reads_in_place(shape, x.layout.whole, pitch):
        return None
    groups = of_groups(np.array(x.layout.channels), shape.groups)
    return None if groups is None else (whole_of(x), *groups)


def _rows(layout: Planes) -> tuple[int, ...]:
    return (layout.h, layout.w, layout.pitch, layout.plane_stride)
