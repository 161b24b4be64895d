"""Patterns: the shapes in which weights may vanish, as plain data whose behaviour is found by its type.

A pattern is one file in `patterns/`: a frozen dataclass and the rule that keeps weights, under one decorator.

    @dataclass(frozen=True)
    class Unstructured(Pattern): ...

    @mask_rule(Unstructured)
    def keep_elements(scores, pattern, sparsity, rounding, ties, groups) -> mask

Weights are as torch stores them: (C_out, C_in/groups, kernel...) and (C_out, C_in).
"""

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, Self, TypeVar

import torch
from torch import Tensor

from secateur.errors import SparsityError
from secateur.graph.census import Kind
from secateur.registry import unknown
from secateur.sparsity.rounding import Rounding, Ties, removed_count

Remainder = Literal["short", "dense"]


class Pattern(ABC):
    """What may vanish together: a frozen dataclass whose `str` is its spec.

    remainder    what becomes of filters beyond a multiple of the block: a shorter block, or dense
    """

    remainder: Remainder = "short"

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

    def prunable(self, shape: tuple[int, ...], groups: int = 1) -> int:
        """Weights that belong to some group; the rest of the tensor stays dense."""
        return math.prod(shape)


P = TypeVar("P", bound=Pattern)
Rule = Callable[[Tensor, Any, float, Rounding, Ties, int], Tensor]
_rules: dict[type[Pattern], Rule] = {}


def mask_rule(pattern: type[Pattern]) -> Callable[[Rule], Rule]:
    """Decorator: the function that decides which weights of a tensor a pattern keeps.

    The function gets (scores, pattern, sparsity, rounding, ties, groups) and gives a mask, True = kept.
    """

    def add(rule: Rule) -> Rule:
        if pattern in _rules:
            raise ValueError(f"{pattern.__name__} has two mask rules")
        _rules[pattern] = rule
        return rule

    return add


def pattern_types() -> tuple[type[Pattern], ...]:
    """Every kind of pattern there is: the files of `patterns/`, and whatever else has a mask rule."""
    package = importlib.import_module("secateur.sparsity.patterns")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(_rules)


def parse_pattern(pattern: str | Pattern, remainder: Remainder = "short") -> Pattern:
    """The pattern a spec names: 'unstructured', '1x4', '1x4-fine', ...; a pattern is given back as it is.

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
) -> Tensor:
    """Which weights of one tensor stay: the groups with the highest scores.

    scores     one finite score per weight, larger = keep
    sparsity   fraction of the pattern's groups that go
    groups     of a grouped convolution
    returns    boolean mask of the same shape, True = kept
    raises     SparsityError  scores that are not numbers, level outside 0..1, pattern that does not apply
    """
    if not bool(torch.isfinite(scores).all()):
        raise SparsityError("the scores hold values that are not finite numbers; the weights are damaged.")
    shape = tuple(scores.shape)
    reason = pattern.applies(shape, groups)
    if reason is not None:
        raise SparsityError(f"{pattern} cannot apply to a weight of shape {shape}: {reason}.")
    return _rules[type(pattern)](scores, pattern, sparsity, rounding, ties, groups)


def remove_lowest(scores: Tensor, sparsity: float, rounding: Rounding, ties: Ties) -> Tensor:
    """The choice every score-based pattern ends in: True for the groups that stay.

    scores    any shape, one score per group; index order is the order of the flattened tensor
    """
    flat = scores.flatten()
    count = removed_count(flat.numel(), sparsity, rounding)
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = torch.kthvalue(flat, count).values
    removed = flat <= threshold
    if ties == "exact":
        surplus = int(removed.sum()) - count
        if surplus:
            equal = torch.nonzero(flat == threshold).flatten()
            removed[equal[len(equal) - surplus :]] = False
    return ~removed.reshape(scores.shape)
