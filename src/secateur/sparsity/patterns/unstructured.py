"""Unstructured: any subset of the weights of a tensor; the lowest scores go."""

from dataclasses import dataclass
from typing import Self

from secateur.sparsity.pattern import Remainder, pattern_kind
from secateur.sparsity.tiles import Tiles


@pattern_kind
@dataclass(frozen=True)
class Unstructured(Tiles):
    """Every weight for itself."""

    @classmethod
    def parse(cls, spec: str, remainder: Remainder) -> Self | None:
        return cls() if spec == "unstructured" else None

    @classmethod
    def examples(cls) -> tuple[str, ...]:
        return ("unstructured",)

    def __str__(self) -> str:
        return "unstructured"

    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, ...]:
        return (1,) * len(shape)
