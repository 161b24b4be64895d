"""Unstructured: any subset of the weights of a tensor; the lowest scores go."""

from dataclasses import dataclass
from math import prod
from typing import Self

from torch import Tensor

from secateur.graph.census import Kind
from secateur.sparsity.pattern import Pattern, Remainder, mask_rule, remove_lowest
from secateur.sparsity.rounding import Rounding, Ties


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Every weight for itself."""

    @classmethod
    def parse(cls, spec: str, remainder: Remainder) -> Self | None:
        return cls() if spec == "unstructured" else None

    @classmethod
    def examples(cls) -> tuple[str, ...]:
        return ("unstructured",)

    def __str__(self) -> str:
        return "unstructured"

    def applies(self, shape: tuple[int, ...], groups: int = 1, kind: Kind = "conv") -> str | None:
        return None

    def units(self, shape: tuple[int, ...], groups: int = 1) -> int:
        return prod(shape)


@mask_rule(Unstructured)
def keep_elements(
    scores: Tensor, pattern: Unstructured, sparsity: float, rounding: Rounding, ties: Ties, groups: int
) -> Tensor:
    """Mask without the lowest scores."""
    return remove_lowest(scores, sparsity, rounding, ties)
