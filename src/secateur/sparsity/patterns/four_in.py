"""4in: 4 consecutive input channels of one filter at one kernel position, made for int8 dot-product instructions.

Such an instruction multiplies four neighbouring bytes and adds the products to one sum. Input channels are padded
to a multiple of 4 with zeros when the weights are laid out; padding is never counted here: the last block of a
layer with 3 channels has 3 weights.

Source: our own design.
"""

from dataclasses import dataclass
from typing import Self

from secateur.graph.layer_count import Kind
from secateur.sparsity.pattern import Remainder, pattern_kind
from secateur.sparsity.tiles import Tiles


@pattern_kind
@dataclass(frozen=True)
class FourIn(Tiles):
    """Blocks of 4 input channels."""

    @classmethod
    def parse(cls, spec: str, remainder: Remainder) -> Self | None:
        return cls() if spec == "4in" else None

    @classmethod
    def examples(cls) -> tuple[str, ...]:
        return ("4in",)

    def __str__(self) -> str:
        return "4in"

    def applies(self, shape: tuple[int, ...], groups: int = 1, kind: Kind = "conv") -> str | None:
        if len(shape) < 2:
            return "4in blocks need a weight of two or more dimensions"
        if groups > 1 and shape[1] == 1:
            return "4in does not apply to depthwise convolutions: every filter has one input channel"
        return None

    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, ...]:
        return (1, 4, *(1 for _ in shape[2:]))
