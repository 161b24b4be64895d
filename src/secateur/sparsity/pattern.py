"""Patterns: the shapes in which weights may vanish, as plain data.

A pattern is one file in `patterns/`: a frozen dataclass under `@pattern_kind`. It says which weights are a unit
(they go or stay together), what a unit scores, and which mask a choice of units means; everything else is the
same for all patterns:

    make_mask      the lowest units go, as many as the level says

Most patterns cut the weight into tiles (`tiles.py`) and only say how large a tile is.

Shapes and scores are filter first, (C_out, C_in/groups, kernel...) or (C_out, C_in), also those of a transposed
convolution, which torch stores the other way round: `Layer.filter_shape`, `filters_first`.
"""

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor

from secateur.errors import SparsityError
from secateur.graph.layer_count import Kind
from secateur.registry import unknown
from secateur.sparsity.rounding import Rounding, Ties, removed_count

Remainder = Literal["short", "dense"]
Combine = Literal["mean", "sum", "max"]


class Pattern(ABC):
    """What may vanish together: a frozen dataclass whose `str` is its spec.

    remainder    what becomes of filters beyond a multiple of the block: a shorter block, or dense
    never_all    a layer without any unit would cut the network, so that some stay whatever their scores
    """

    remainder: Remainder = "short"
    never_all: ClassVar[bool] = False

    @property
    def fixed_level(self) -> float | None:
        """The largest level, at which every unit has the pattern (N:M); None where all levels are possible."""
        return None

    @classmethod
    @abstractmethod
    def parse(cls, spec: str, remainder: Remainder) -> Self | None:
        """The pattern that `spec` names, or None when it names another kind. raises SparsityError."""

    @classmethod
    @abstractmethod
    def examples(cls) -> tuple[str, ...]:
        """Specs of this kind, for error sentences and lists."""

    @abstractmethod
    def applies(self, shape: tuple[int, ...], groups: int = 1, kind: Kind = "conv") -> str | None:
        """None when a weight of that shape can have the pattern, otherwise the reason why not."""

    @abstractmethod
    def units(self, shape: tuple[int, ...], groups: int = 1) -> int:
        """How many groups of weights go or stay together: what a level is a fraction of."""

    @abstractmethod
    def group_scores(self, scores: Tensor, groups: int = 1, combine: Combine = "mean") -> Tensor:
        """One score per unit, in unit order: what decides which units go first.

        combine    how the scores of the weights of a unit become one; by their mean, short blocks at the edge
                   of the weight compete fairly with whole ones
        """

    @abstractmethod
    def mask_of(self, kept: Tensor, scores: Tensor, groups: int = 1) -> Tensor:
        """The mask, True = kept, in which the units stay that `kept` names in unit order."""

    def prunable(self, shape: tuple[int, ...], groups: int = 1) -> int:
        """Weights that belong to some unit; the rest of the tensor stays dense."""
        return math.prod(shape)

    def removed_units(
        self, shape: tuple[int, ...], sparsity: float, rounding: Rounding = "floor", groups: int = 1
    ) -> int:
        """How many units go at a level. raises SparsityError when the pattern cannot reach it."""
        return removed_count(self.units(shape, groups), sparsity, rounding)

    def zeros(self, shape: tuple[int, ...], sparsity: float, rounding: Rounding = "floor", groups: int = 1) -> int:
        """Weights that will be zero; exact where all units have one size, else the expected number."""
        units = self.units(shape, groups)
        removed = self.removed_units(shape, sparsity, rounding, groups)
        return removed * self.prunable(shape, groups) // units if units else 0


P = TypeVar("P", bound=type[Pattern])
_kinds: dict[str, type[Pattern]] = {}


def pattern_kind(pattern: P) -> P:
    """Decorator: makes a kind of pattern known, so that its specs are understood everywhere."""
    if pattern.__name__ in _kinds:
        raise ValueError(f"there are two kinds of pattern named {pattern.__name__}")
    _kinds[pattern.__name__] = pattern
    return pattern


def pattern_types() -> tuple[type[Pattern], ...]:
    """Every kind of pattern there is: the files of `patterns/`, and whatever else is registered."""
    package = importlib.import_module("secateur.sparsity.patterns")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(_kinds.values())


def parse_pattern(pattern: str | Pattern, remainder: Remainder = "short") -> Pattern:
    """The pattern a spec names: 'unstructured', '1x4', '2:4', 'filter', ...; a pattern is given back as it is.

    raises    SparsityError  unknown spec, or an impossible one such as 1x1
    """
    if isinstance(pattern, Pattern):
        return pattern
    if remainder not in ("short", "dense"):
        raise SparsityError(unknown("remainder", remainder, ("short", "dense")))
    spec = pattern.strip().lower()
    for kind in pattern_types():
        found = kind.parse(spec, remainder)
        if found is not None:
            return found
    examples = [example for kind in pattern_types() for example in kind.examples()]
    raise SparsityError(unknown("pattern", pattern, examples))


def make_mask(
    scores: Tensor,
    pattern: Pattern,
    sparsity: float,
    rounding: Rounding = "floor",
    *,
    ties: Ties = "exact",
    groups: int = 1,
    combine: Combine = "mean",
    change: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Which weights of one tensor stay: the units with the highest scores.

    scores     filter first, one finite score per weight, larger = keep
    sparsity   fraction of the weights in units that go
    groups     of a grouped convolution
    combine    how the scores of a unit's weights become one
    change     what is done to the scores of the units before they are ranked
    returns    boolean mask of the same shape, True = kept
    raises     SparsityError  scores that are not numbers, level outside 0..1, pattern that does not apply
    """
    shape = checked_shape(scores, pattern, groups)
    count, units = pattern.removed_units(shape, sparsity, rounding, groups), pattern.units(shape, groups)
    if count in (0, units):
        kept = torch.full((units,), count == 0, dtype=torch.bool, device=scores.device)
    else:
        ranked = pattern.group_scores(scores, groups, combine)
        ranked = ranked if change is None else change(ranked)
        kept = remove_lowest(ranked, count, ties)
        if pattern.never_all and not kept.any():
            kept = remove_lowest(ranked, count)
    return pattern.mask_of(kept, scores, groups)


def checked_shape(scores: Tensor, pattern: Pattern, groups: int) -> tuple[int, ...]:
    """The shape of scores that can be ranked. raises SparsityError for damaged ones, or a pattern that does not fit."""
    if not bool(torch.isfinite(scores).all()):
        raise SparsityError("the scores hold values that are not finite numbers; the weights are damaged.")
    shape = tuple(scores.shape)
    reason = pattern.applies(shape, groups)
    if reason is not None:
        raise SparsityError(f"{pattern} cannot apply to a weight of shape {shape}: {reason}.")
    return shape


def remove_lowest(scores: Tensor, count: int, ties: Ties = "exact") -> Tensor:
    """The choice every pattern ends in: True for the units that stay, `count` of the lowest go.

    scores    one per unit; equal ones go in index order
    ties      exact: exactly `count` go; threshold: everything up to the score of the last one
    """
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = torch.kthvalue(scores, count).values
    removed = scores <= threshold
    if ties == "exact":
        surplus = int(removed.sum()) - count
        if surplus:
            equal = torch.nonzero(scores == threshold).flatten()
            removed[equal[len(equal) - surplus :]] = False
    return ~removed
