"""Criteria: scores of weights, larger = keep.

A criterion is one function in `scores/` under one decorator; it gets everything that is known about a layer and
gives one score per weight, or one per filter.

    @score_rule("magnitude", "l1")
    def magnitude(inputs: ScoreInputs) -> Tensor:
        return inputs.weight.abs()

A pattern combines the scores of the weights of a unit: their mean, sum or maximum, as the criterion says. Scores
never depend on the current mask.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Generator, Tensor

from secateur.errors import SparsityError
from secateur.graph.layer_count import Kind
from secateur.registry import Registry
from secateur.sparsity.norms import NormScale
from secateur.sparsity.pattern import Combine, Pattern
from secateur.sparsity.patterns.structures import Column, Filter
from secateur.sparsity.statistics import ActivationStatistics, GradientStatistics, LayerStatistics

Need = Literal["activations", "gradients", "norm"]
Per = Literal["weight", "filter"]
Drawn = Literal["count", "chance"]


def _seed_0() -> Generator:
    return Generator().manual_seed(0)


@dataclass(frozen=True)
class ScoreInputs:
    """What a criterion may look at.

    weight        filter first: (C_out, C_in/groups, kernel...), also of a transposed convolution
    generator     on the CPU, for criteria that draw
    norm          of the batch norm that follows; None where there is none
    statistics    None where nothing was gathered
    """

    weight: Tensor
    groups: int = 1
    kind: Kind = "conv"
    generator: Generator = field(default_factory=_seed_0)
    norm: NormScale | None = None
    statistics: LayerStatistics | None = None

    @property
    def activations(self) -> ActivationStatistics:
        """raises SparsityError where they were not gathered"""
        if self.statistics is None or self.statistics.activations is None:
            raise SparsityError("there are no statistics of its activations; gather_statistics makes them from images.")
        return self.statistics.activations

    @property
    def gradients(self) -> GradientStatistics:
        """raises SparsityError where they were not gathered"""
        if self.statistics is None or self.statistics.gradients is None:
            raise SparsityError("there are no statistics of its gradients; gather_statistics makes them from images.")
        return self.statistics.gradients

    @property
    def filters(self) -> Tensor:
        """(C_out, weights of a filter), in double precision."""
        return self.weight.double().flatten(1)


ScoreFunction = Callable[[ScoreInputs], Tensor]


@dataclass(frozen=True)
class Criterion:
    """How weights are scored.

    scores     one finite number per weight, or per filter
    combine    how the scores of a unit's weights become one
    needs      what must be known besides the weights
    per        "filter": only for patterns that remove whole filters
    drawn      how the units that go are drawn: `count`, so many of them, each as likely; `chance`, each with the level
               as its chance, so that their number varies
    """

    name: str
    scores: ScoreFunction
    combine: Combine = "mean"
    needs: frozenset[Need] = frozenset()
    per: Per = "weight"
    drawn: Drawn | None = None

    def applies(self, pattern: Pattern) -> str | None:
        """None when the criterion can rank the units of that pattern, otherwise the reason why not."""
        if self.per == "weight" or isinstance(pattern, Filter | Column):
            return None
        return (
            f"criterion {self.name} scores whole filters, so it goes with the pattern filter or column, not {pattern}"
        )

    def weight_scores(self, inputs: ScoreInputs) -> Tensor:
        """One score per weight, in the shape of `inputs.weight`. raises SparsityError for missing statistics."""
        with torch.no_grad():
            found = self.scores(inputs)
        if self.per == "filter":
            found = found.reshape(-1, *(1 for _ in inputs.weight.shape[1:])).expand(inputs.weight.shape)
        return found

    def filter_scores(self, scores: Tensor) -> Tensor:
        """(C_out,) one score per filter, in double precision, from one per weight, filter first."""
        each = scores.flatten(1).double()
        return each.amax(1) if self.combine == "max" else each.sum(1) if self.combine == "sum" else each.mean(1)


criteria: Registry[Criterion] = Registry("criterion")


def score_rule(
    *names: str, combine: Combine = "mean", needs: Iterable[Need] = (), per: Per = "weight", drawn: Drawn | None = None
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Decorator: makes a function a criterion, under each of `names`."""
    # All weights of a filter have its score: the maximum gives it back without the rounding of a sum.
    combined: Combine = "max" if per == "filter" else combine

    def add(scores: ScoreFunction) -> ScoreFunction:
        criteria.register(*names)(Criterion(names[0], scores, combined, frozenset(needs), per, drawn))
        return scores

    return add
