"""From a layer to its scores and its mask: the criterion, what it needs, and two options.

    fold_norm    every filter times gamma / sqrt(var + eps) of the batch norm that follows, before it is scored
    noise        with this probability all scores of the layer are multiplied with draws from N(0, 1)

Source: Distiller (folded norms; noise as in its automated compression).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from secateur.errors import SparsityError
from secateur.sparsity.criterion import Criterion, Need, ScoreInputs, criteria
from secateur.sparsity.layers import Layer, as_stored, filters_first, stored_weight, unwrapped
from secateur.sparsity.norms import NormScale, following_norms, norm_modules, norm_scale
from secateur.sparsity.pattern import Pattern, checked_shape, make_mask, remove_lowest
from secateur.sparsity.plan import PlannedLayer
from secateur.sparsity.rounding import Rounding, Ties
from secateur.sparsity.statistics import LayerStatistics


@dataclass(frozen=True)
class Scoring:
    """How weights are scored. raises SparsityError, RecipeError for an unknown criterion."""

    criterion: str = "magnitude"
    fold_norm: bool = False
    noise: float = 0.0

    def __post_init__(self) -> None:
        _ = criteria[self.criterion]
        if not 0.0 <= self.noise <= 1.0:
            raise SparsityError(f"noise is a probability from 0 to 1, not {self.noise}.")

    @property
    def rule(self) -> Criterion:
        return criteria[self.criterion]

    @property
    def needs(self) -> frozenset[Need]:
        """What must be known besides the weights."""
        folded: frozenset[Need] = frozenset({"norm"} if self.fold_norm else ())
        return self.rule.needs | folded

    def check(self, pattern: Pattern) -> None:
        """raises SparsityError unless the criterion can rank the units of `pattern`"""
        reason = self.rule.applies(pattern)
        if reason is not None:
            raise SparsityError(f"{reason}.")


class Scorer:
    """Scores the layers of one network, and makes masks from scores.

    The norms that follow the layers are found once, here; their numbers are read when scores are asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        scoring: Scoring,
        statistics: Mapping[str, LayerStatistics] | None = None,
    ) -> None:
        """statistics: of `gather_statistics`, for criteria that look at data. raises SparsityError, ModelError."""
        self.model = unwrapped(model)
        self.scoring = scoring
        self.statistics = statistics
        missing = sorted(scoring.needs & {"activations", "gradients"})
        if missing and statistics is None:
            raise SparsityError(
                f"criterion {scoring.criterion} looks at {' and '.join(missing)} on data; give the statistics that "
                f"secateur.training.gather_statistics makes from images."
            )
        self._norms: Mapping[str, str] = following_norms(self.model) if "norm" in scoring.needs else {}

    def scores(self, layer: Layer | PlannedLayer, module: nn.Module, generator: Generator) -> Tensor:
        """One score per weight, filter first. raises SparsityError with the layer's name."""
        weight = filters_first(stored_weight(module).detach(), layer.kind, layer.groups)
        norm = self._norm(layer.name)
        if self.scoring.fold_norm and norm is not None:
            weight = weight.double() * norm.scale.reshape(-1, *(1 for _ in weight.shape[1:]))
        known = None
        if self.statistics is not None and layer.name in self.statistics:
            known = self.statistics[layer.name].to(weight.device)
        inputs = ScoreInputs(weight, layer.groups, layer.kind, generator, norm, known)
        try:
            return self.scoring.rule.weight_scores(inputs)
        except SparsityError as error:
            raise SparsityError(f"{layer.name}: {error}") from error

    def mask(
        self,
        layer: PlannedLayer,
        module: nn.Module,
        pattern: Pattern,
        level: float,
        generator: Generator,
        rounding: Rounding = "floor",
        ties: Ties = "exact",
    ) -> Tensor:
        """Which weights stay at `level`, as the layer stores them. raises SparsityError with the layer's name."""
        self.scoring.check(pattern)
        rule, noise = self.scoring.rule, self.scoring.noise
        scores = self.scores(layer, module, generator)

        def change(values: Tensor) -> Tensor:
            return _noisy(values, noise, generator) if noise else values

        try:
            if rule.drawn == "chance":
                mask = _drawn(scores, pattern, level, layer.groups, generator)
            elif rule.drawn == "count" and pattern.fixed_level is None:
                mask = _counted(scores, pattern, level, layer.groups, generator, rounding)
            else:
                mask = make_mask(
                    # Where every group of weights has the pattern in the end, what counts are the scores inside it.
                    scores if pattern.fixed_level is None else change(scores),
                    pattern,
                    level,
                    rounding,
                    ties=ties,
                    groups=layer.groups,
                    combine=rule.combine,
                    change=change,
                )
        except SparsityError as error:
            raise SparsityError(f"{layer.name}: {error}") from error
        return as_stored(mask, layer.kind, layer.groups)

    def _norm(self, name: str) -> NormScale | None:
        if name not in self._norms:
            return None
        return norm_scale(norm_modules(self.model)[self._norms[name]])


def _drawn(scores: Tensor, pattern: Pattern, level: float, groups: int, generator: Generator) -> Tensor:
    """Every unit goes with the chance that the level gives it."""
    shape = checked_shape(scores, pattern, groups)
    units = pattern.units(shape, groups)
    chance = level / (pattern.fixed_level or 1.0)
    draws = torch.rand(units, generator=generator, dtype=torch.float64).to(scores.device)
    kept = draws >= chance
    fewest = units - pattern.removed_units(shape, pattern.fixed_level or 1.0, "floor", groups)
    if int(kept.sum()) < fewest:
        kept[draws.argsort(descending=True)[:fewest]] = True
    return pattern.mask_of(kept, scores, groups)


def _counted(
    scores: Tensor, pattern: Pattern, level: float, groups: int, generator: Generator, rounding: Rounding
) -> Tensor:
    """As many units go as the level says, each as likely as every other."""
    shape = checked_shape(scores, pattern, groups)
    draws = torch.rand(pattern.units(shape, groups), generator=generator, dtype=torch.float64)
    kept = remove_lowest(draws, pattern.removed_units(shape, level, rounding, groups))
    return pattern.mask_of(kept.to(scores.device), scores, groups)


def _noisy(values: Tensor, chance: float, generator: Generator) -> Tensor:
    if float(torch.rand((), generator=generator)) >= chance:
        return values
    draws = torch.randn(values.shape, generator=generator, dtype=torch.float64)
    return values * draws.to(values.device)
