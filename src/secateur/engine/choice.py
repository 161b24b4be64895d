"""How one layer is computed: format of the weights, primitive, register tile. What the tuner chooses.

format      dense   every position, one list of positions for all panels
            block   positions where any of `rows` neighbouring output channels is nonzero (1xN blocks)
            panel   positions grouped by which of `rows` output channels are nonzero (unstructured)
            rows    `rows` output channels in lockstep, each with its own positions
            bytes   8-bit integers: single input channels, positions where any of `rows` output channels is nonzero
primitive   direct  read the input (or its phase planes, for strides) in place
            gemm    read the materialised im2col matrix
            pack    copy each tile's positions into the thread's own scratch memory first
"""

from dataclasses import dataclass
from typing import Literal

Format = Literal["dense", "block", "panel", "rows", "bytes"]
Primitive = Literal["direct", "gemm", "pack"]


@dataclass(frozen=True)
class Choice:
    """One way to compute a convolution.

    rows      R, output channels in registers together
    vectors   V, vectors of pixels in registers together, at most
    block     positions (input channel, ky, kx) between which sums wait in memory; None: all positions at once
    resident  bytes of weights that all tiles use before the next ones are read; None: all weights for every tile
    most      panel: rows of the largest pattern; larger sets of rows are walked in parts. None: R
    """

    format: Format
    primitive: Primitive
    rows: int
    vectors: int
    block: int | None = None
    resident: int | None = None
    most: int | None = None

    def __str__(self) -> str:
        text = f"{self.format} {self.rows}x{self.vectors} {self.primitive}"
        if self.most:
            text += f" by {self.most}"
        if self.block:
            text += f" of {self.block}"
        return text
