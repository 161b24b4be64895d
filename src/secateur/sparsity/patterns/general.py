"""General blocks: r consecutive filters x c consecutive input channels x a part of the kernel.

    block:4x1xkxk     4 filters x the whole kernels of one input channel: the same as 1x4
    block:1x8x1x1     8 input channels at one kernel position: the published 1x1x8 of Distiller

`k` is the whole extent of the kernel along that side. In weights with another number of kernel sides the two
last entries are understood where both are 1 or both are k.

Source: Distiller's block pruning (r, c, 1, 1), generalised.
"""

import re
from dataclasses import dataclass
from typing import Literal, Self

from secateur.errors import SparsityError
from secateur.graph.layer_count import Kind
from secateur.sparsity.pattern import Remainder, pattern_kind
from secateur.sparsity.tiles import Tiles

_SPEC = re.compile(r"block:(\d+)x(\d+)(?:x(\d+|k)x(\d+|k))?")
Side = int | Literal["k"]


@pattern_kind
@dataclass(frozen=True)
class Block(Tiles):
    """Blocks of `filters` x `channels` x `height` x `width` weights.

    height, width    kernel positions, or "k": all of that side
    remainder        filters and channels (per group) beyond a multiple: shorter blocks, or dense
    """

    filters: int
    channels: int
    height: Side = 1
    width: Side = 1
    remainder: Remainder = "short"

    def __post_init__(self) -> None:
        if min(side for side in (self.filters, self.channels, self.height, self.width) if side != "k") < 1:
            raise SparsityError(f"{self}: every side of a block is 1 or more.")

    @classmethod
    def parse(cls, spec: str, remainder: Remainder) -> Self | None:
        match = _SPEC.fullmatch(spec)
        if match is None:
            return None
        return cls(int(match[1]), int(match[2]), _side(match[3]), _side(match[4]), remainder)

    @classmethod
    def examples(cls) -> tuple[str, ...]:
        return ("block:1x8x1x1", "block:4x1xkxk", "block:4x4x1x1")

    def __str__(self) -> str:
        return f"block:{self.filters}x{self.channels}x{self.height}x{self.width}"

    def applies(self, shape: tuple[int, ...], groups: int = 1, kind: Kind = "conv") -> str | None:
        if len(shape) < 2:
            return f"{self} needs a weight of two or more dimensions"
        if groups > 1 and shape[1] == 1 and (self.filters > 1 or self.channels > 1):
            return f"{self} does not apply to depthwise convolutions: every filter has an input of its own"
        each = " per group" if groups > 1 else ""
        if shape[0] // groups < self.filters:
            return f"{self} needs at least {self.filters} output channels{each}, it has {shape[0] // groups}"
        if shape[1] < self.channels:
            return f"{self} needs at least {self.channels} input channels{each}, it has {shape[1]}"
        kernel = shape[2:]
        if (self.height, self.width) in ((1, 1), ("k", "k")):
            return None
        if len(kernel) != 2:
            return f"{self} has two kernel sides, the weight has {len(kernel)}"
        if any(side != "k" and extent % side for side, extent in zip((self.height, self.width), kernel, strict=True)):
            return f"the kernel of {kernel[0]}x{kernel[1]} is not a multiple of {self.height}x{self.width}"
        return None

    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, ...]:
        kernel = shape[2:]
        sides = (self.height, self.width) if len(kernel) == 2 else (self.height,) * len(kernel)
        extents = (extent if side == "k" else side for side, extent in zip(sides, kernel, strict=True))
        return (self.filters, self.channels, *extents)


def _side(text: str | None) -> Side:
    return "k" if text == "k" else int(text or 1)
