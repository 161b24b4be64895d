"""Kernels: W[o, i, :, :], the weights between one input channel and one filter, go together ("2D" in Distiller).

For 1x1 and linear layers a kernel is a single weight. It is 1xN with N = 1.
"""

from dataclasses import dataclass
from typing import Self

from secateur.graph.layer_count import Kind
from secateur.sparsity.pattern import Remainder, pattern_kind
from secateur.sparsity.tiles import Tiles


@pattern_kind
@dataclass(frozen=True)
class Kernel(Tiles):
    """Whole kernels."""

    @classmethod
    def parse(cls, spec: str, remainder: Remainder) -> Self | None:
        return cls() if spec == "kernel" else None

    @classmethod
    def examples(cls) -> tuple[str, ...]:
        return ("kernel",)

    def __str__(self) -> str:
        return "kernel"

    def applies(self, shape: tuple[int, ...], groups: int = 1, kind: Kind = "conv") -> str | None:
        return None if len(shape) >= 2 else "kernels need a weight of two or more dimensions"

    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, ...]:
        return (1, 1, *shape[2:])
