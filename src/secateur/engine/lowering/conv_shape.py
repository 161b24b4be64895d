"""The numbers that describe a convolution, and where its source has to lie."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

from secateur.engine.layout import Planes, pairs_of, quads_of
from secateur.graph.ir import Graph, Node


@dataclass(frozen=True)
class ConvShape:
    """Sizes of a 2-D convolution; pads are (top, left, bottom, right).

    quads    inputs are counted in quads of 8-bit integers (`in_quads`)
    pairs    inputs are counted in pairs of bf16 numbers (`in_pairs`)
    """

    n: int
    c: int
    h: int
    w: int
    o: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    groups: int
    out_h: int
    out_w: int
    quads: bool = False
    pairs: bool = False

    @cached_property
    def reach(self) -> tuple[int, int]:
        """Rows and columns from the first tap to the last."""
        (kh, kw), (dh, dw) = self.kernel, self.dilations
        return (kh - 1) * dh, (kw - 1) * dw

    @cached_property
    def pointwise(self) -> bool:
        """Each output pixel reads the input pixel at its own place only."""
        return self.kernel == (1, 1) and self.strides == (1, 1) and self.pads == (0, 0, 0, 0)

    @cached_property
    def border(self) -> int:
        """Zero columns per row, and rows per plane, that reading the source in place needs.

        With strides the source is split into phases, which hold their padding as ordinary elements.
        """
        if self.strides != (1, 1):
            extra = (self.reach[0] // self.strides[0], self.reach[1] // self.strides[1])
            return max(extra)
        below = self.out_h - 1 + self.reach[0] - self.pads[0] - (self.h - 1)
        right = self.out_w - 1 + self.reach[1] - self.pads[1] - (self.w - 1)
        return max(self.pads[0], self.pads[1], below, right, 0)

    @cached_property
    def densely(self) -> "ConvShape":
        """With stride 1, as far as this one reads: of its outputs this one computes every stride-th."""
        out_h, out_w = (
            (size - 1) * step + 1 for size, step in zip((self.out_h, self.out_w), self.strides, strict=True)
        )
        return replace(self, strides=(1, 1), out_h=out_h, out_w=out_w)

    @cached_property
    def out_border(self) -> int:
        """Columns beyond the output's own that its rows need so that the source can have the same pitch."""
        return self.border if self.strides != (1, 1) else max(self.border, self.w + self.border - self.out_w)

    @cached_property
    def in_quads(self) -> "ConvShape":
        """The same with inputs counted in quads, whole ones in each group."""
        return replace(self, c=self.groups * quads_of(self.c // self.groups), quads=True)

    @cached_property
    def in_pairs(self) -> "ConvShape":
        """The same with inputs counted in pairs, whole ones in each group."""
        return replace(self, c=self.groups * pairs_of(self.c // self.groups), pairs=True)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds with all weights, of floats, quads or pairs."""
        return self.n * self.out_h * self.out_w * self.o * (self.c // self.groups) * self.kernel[0] * self.kernel[1]


def reads_in_place(shape: ConvShape, layout: Planes, pitch: int | None = None) -> bool:
    """Whether planes have the zeros around them that a stride-1 convolution reads.

    pitch    of the rows that the convolution wants; any when not given
    """
    gap = layout.plane_stride - ((layout.h - 1) * layout.pitch + layout.w)
    fits = layout.pad >= shape.border and gap >= shape.border * (layout.pitch + 1)
    return fits and pitch in (None, layout.pitch)


def conv_shape(node: Node, graph: Graph) -> ConvShape:
    """The numbers of a Conv node of the normal form."""
    n, c, h, w = graph.shape(node.inputs[0])
    o, _, kh, kw = graph.shape(node.inputs[1])
    out = graph.shape(node.outputs[0])
    attributes = node.attributes
    return ConvShape(
        *(n, c, h, w, o, (kh, kw)),
        cast(tuple[int, int], tuple(attributes["strides"])),
        cast(tuple[int, int, int, int], tuple(attributes["pads"])),
        cast(tuple[int, int], tuple(attributes["dilations"])),
        int(attributes["group"]),
        *(out[2], out[3]),
    )
