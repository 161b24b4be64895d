"""A transposed convolution as an ordinary one whose outputs are phases.

    out[q s + p] = sum over taps k with s | p + pad - k d of   w[k] x[q + e(p, k)]      e(p, k) = (p + pad - k d) / s

One axis; p < s is the phase. All phases together are one stride-1 convolution of x with s times as many outputs, whose
kernel covers the offsets e of all phases and holds zeros where a phase has no tap. Offsets with a common divisor are a
dilation, so that stride 1 gives back the flipped kernel.
"""

from dataclasses import dataclass
from math import gcd
from typing import cast

import numpy as np
from numpy.typing import NDArray

from secateur.engine.lowering.conv_shape import ConvShape
from secateur.graph.ir import Graph, Node

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Axis:
    """Taps of one axis.

    taps      (phase, tap of the transposed kernel, tap of the phases' kernel)
    before    zeros before the first element
    spacing   dilation of the phases' kernel
    size      its length
    """

    taps: tuple[tuple[int, int, int], ...]
    before: int
    spacing: int
    size: int


@dataclass(frozen=True)
class Phases:
    """One stride-1 convolution for all phases.

    shape     its outputs are ordered (group, phase row, phase column, output of the group)
    strides   of the transposed convolution
    outputs   (height, width) of the transposed convolution
    """

    shape: ConvShape
    strides: tuple[int, int]
    outputs: tuple[int, int]
    rows: Axis
    columns: Axis


def axis_of(kernel: int, stride: int, pad: int, dilation: int) -> Axis:
    """The taps of one axis and where they read."""
    found = [
        (phase, tap, (phase + pad - tap * dilation) // stride)
        for phase in range(stride)
        for tap in range(kernel)
        if (phase + pad - tap * dilation) % stride == 0
    ]
    # Zeros before the map cannot be fewer than none.
    low = min(0, *(offset for _, _, offset in found))
    spacing = gcd(*(offset - low for _, _, offset in found)) or 1
    taps = tuple((phase, tap, (offset - low) // spacing) for phase, tap, offset in found)
    return Axis(taps, -low, spacing, max(place for _, _, place in taps) + 1)


def phases_of(node: Node, graph: Graph) -> Phases:
    """The convolution that a ConvTranspose of the normal form is."""
    n, c, h, w = graph.shape(node.inputs[0])
    _, per_group, kh, kw = graph.shape(node.inputs[1])
    _, outputs, out_h, out_w = graph.shape(node.outputs[0])
    attributes = node.attributes
    sh, sw = attributes["strides"]
    dh, dw = attributes["dilations"]
    top, left = attributes["pads"][:2]
    rows, columns = axis_of(kh, sh, top, dh), axis_of(kw, sw, left, dw)
    height, width = -(-out_h // sh), -(-out_w // sw)
    after = [
        max(0, size + (axis.size - 1) * axis.spacing - axis.before - had)
        for size, axis, had in ((height, rows, h), (width, columns, w))
    ]
    shape = ConvShape(
        *(n, c, h, w, outputs * sh * sw, (rows.size, columns.size), (1, 1)),
        pads=(rows.before, columns.before, after[0], after[1]),
        dilations=(rows.spacing, columns.spacing),
        groups=outputs // per_group,
        out_h=height,
        out_w=width,
    )
    return Phases(shape, cast(tuple[int, int], (sh, sw)), (out_h, out_w), rows, columns)


def phase_weight(phases: Phases, weight: Floats) -> Floats:
    """The convolution's weight (O sh sw, C / groups, kh, kw).

    weight   of the transposed convolution, (C, O / groups, kh, kw)
    """
    shape, (sh, sw) = phases.shape, phases.strides
    channels, per_group = shape.c // shape.groups, weight.shape[1]
    made = np.zeros((shape.groups, sh, sw, per_group, channels, *shape.kernel), np.float32)
    grouped = weight.reshape(shape.groups, channels, per_group, *weight.shape[2:])
    for py, ky, y in phases.rows.taps:
        for px, kx, x in phases.columns.taps:
            made[:, py, px, :, :, y, x] = grouped[:, :, :, ky, kx].swapaxes(1, 2)
    return made.reshape(shape.o, channels, *shape.kernel)


def phase_bias(phases: Phases, bias: Floats | None) -> Floats | None:
    """The bias of every output of the convolution."""
    if bias is None:
        return None
    sh, sw = phases.strides
    groups = phases.shape.groups
    return np.repeat(bias.reshape(groups, 1, -1), sh * sw, axis=1).reshape(-1)
