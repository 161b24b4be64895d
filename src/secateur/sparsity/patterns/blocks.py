"""1xN: N consecutive filters share which positions they keep.

    kernel      W[jN:(j+1)N, i, :, :]        "1x4": the whole kernels of one input channel go together
    position    W[jN:(j+1)N, i, ky, kx]      "1x4-fine": one input position; the same thing for 1x1 layers
    score       mean of the element scores of a block;  removed: the floor(s * blocks) lowest of the layer

With |w| as element score the ranking is that of the block's L1 norm. The mean, not the sum, lets the shorter
block of a remainder compete fairly. Blocks never cross the groups of a grouped convolution.

Source: Lin et al. 2022, "1xN Pattern for Pruning Convolutional Neural Networks" (kernel). The fine variant is
our own design. Filters are not rearranged here.
"""

import re
from dataclasses import dataclass
from typing import Literal, Self

from secateur.errors import SparsityError
from secateur.graph.layer_count import Kind
from secateur.sparsity.pattern import Remainder, pattern_kind
from secateur.sparsity.tiles import Tiles

Span = Literal["kernel", "position"]
_SPEC = re.compile(r"1x(\d+)(-fine)?")


@pattern_kind
@dataclass(frozen=True)
class BlockOf(Tiles):
    """Blocks of `n` consecutive output filters.

    span         what of a filter belongs to the block: the kernel of one input channel, or one input position
    remainder    C_out (per group) beyond a multiple of n: one shorter block, or dense
    """

    n: int = 4
    span: Span = "kernel"
    remainder: Remainder = "short"

    def __post_init__(self) -> None:
        if not 2 <= self.n <= 32:
            raise SparsityError(
                f"1x{self.n} blocks are not possible: N goes from 2 to 32 (for N = 1 use kernel or unstructured)."
            )

    @classmethod
    def parse(cls, spec: str, remainder: Remainder) -> Self | None:
        match = _SPEC.fullmatch(spec)
        if match is None:
            return None
        return cls(int(match[1]), "position" if match[2] else "kernel", remainder)

    @classmethod
    def examples(cls) -> tuple[str, ...]:
        return tuple(f"1x{n}{fine}" for n in (2, 4, 8, 16, 32) for fine in ("", "-fine"))

    def __str__(self) -> str:
        return f"1x{self.n}{'-fine' if self.span == 'position' else ''}"

    def applies(self, shape: tuple[int, ...], groups: int = 1, kind: Kind = "conv") -> str | None:
        if len(shape) < 2:
            return f"{self} blocks need a weight of two or more dimensions"
        if groups > 1 and shape[1] == 1:
            return f"{self} does not apply to depthwise convolutions: every filter has an input of its own"
        if shape[0] // groups < self.n:
            each = " per group" if groups > 1 else ""
            return f"{self} blocks need at least {self.n} output channels{each}, it has {shape[0] // groups}"
        return None

    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, ...]:
        kernel = shape[2:] if self.span == "kernel" else (1,) * len(shape[2:])
        return (self.n, 1, *kernel)
