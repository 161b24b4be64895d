"""Whole filters, input channels, and rows and columns of linear layers; masked, the tensor keeps its size.

    filter     W[o, :, :, :]                  everything that one output channel is computed from
    channel    W[:, i, :, :]                  everything that one input channel is used for, inside its group
    row        W[:, i] of a linear layer      one input feature  (Distiller counts rows of the transposed matrix)
    column     W[o, :] of a linear layer      one output feature

    kept       the next multiple of q filters above n - removed(s n), and q at least: "filter/8" for q = 8

Where q divides n that is floor(floor(s n) / q) q removed, as Distiller counts. Not all structures go at any level:
a layer without filters would cut the network.

Source: Distiller (structures with a group size, table of rows and columns).
"""

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

from secateur.errors import SparsityError
from secateur.graph.layer_count import Kind
from secateur.sparsity.pattern import Remainder, pattern_kind
from secateur.sparsity.rounding import Rounding, removed_count
from secateur.sparsity.tiles import Tiles


@dataclass(frozen=True)
class Structure(Tiles):
    """A structure of which some always stay.

    round_to    how many stay is a multiple of this
    """

    word: ClassVar[str]
    linear: ClassVar[bool] = False
    never_all: ClassVar[bool] = True
    round_to: int = 1

    def __post_init__(self) -> None:
        if self.round_to < 1:
            raise SparsityError(f"{self}: what stays is a multiple of 1 or more.")

    @classmethod
    def parse(cls, spec: str, remainder: Remainder) -> Self | None:
        match = re.fullmatch(rf"{cls.word}(?:/(\d+))?", spec)
        return cls(int(match[1] or 1)) if match else None

    @classmethod
    def examples(cls) -> tuple[str, ...]:
        return (cls.word, f"{cls.word}/8")

    def __str__(self) -> str:
        return self.word if self.round_to == 1 else f"{self.word}/{self.round_to}"

    @abstractmethod
    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, ...]: ...

    def applies(self, shape: tuple[int, ...], groups: int = 1, kind: Kind = "conv") -> str | None:
        if len(shape) < 2:
            return f"a {self.word} needs a weight of two or more dimensions"
        if self.linear and len(shape) != 2:
            return f"{self.word}s are those of linear layers; a convolution has filters and channels"
        if groups > 1 and shape[1] == 1:
            return f"a depthwise convolution loses a {self.word} only together with the layer before it; use kernel"
        return None

    def removed_units(
        self, shape: tuple[int, ...], sparsity: float, rounding: Rounding = "floor", groups: int = 1
    ) -> int:
        units, step = self.units(shape, groups), self.round_to
        kept = units - removed_count(units, sparsity, rounding)
        if rounding == "ceil":
            multiples = kept // step
        elif rounding == "nearest":
            multiples = (2 * kept + step) // (2 * step)
        else:
            multiples = -(-kept // step)
        return units - min(max(multiples, 1) * step, units)


def _one_filter(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, *shape[1:])


def _one_channel(shape: tuple[int, ...], groups: int) -> tuple[int, ...]:
    return (shape[0] // groups, 1, *shape[2:])


@pattern_kind
@dataclass(frozen=True)
class Filter(Structure):
    """Whole filters."""

    word = "filter"

    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, ...]:
        return _one_filter(shape)


@pattern_kind
@dataclass(frozen=True)
class Channel(Structure):
    """Whole input channels."""

    word = "channel"

    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, ...]:
        return _one_channel(shape, groups)


@pattern_kind
@dataclass(frozen=True)
class Row(Structure):
    """Input features of linear layers."""

    word = "row"
    linear = True

    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, ...]:
        return _one_channel(shape, groups)


@pattern_kind
@dataclass(frozen=True)
class Column(Structure):
    """Output features of linear layers."""

    word = "column"
    linear = True

    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, ...]:
        return _one_filter(shape)
