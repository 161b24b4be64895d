"""The sparsifier of threshold rules: the weights decide how sparse a layer gets.

What a rule measures of a layer (deviation, mean) is measured when its masks are chosen for the first time, and is
part of a checkpoint from then on.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import SparsityError
from secateur.recipe import MaskRule
from secateur.sparsity.layers import as_stored, filters_first, stored_weight, weighted_modules
from secateur.sparsity.mask import mask_of, masks, set_mask_
from secateur.sparsity.mask_keeper import MaskKeeper
from secateur.sparsity.plan import PlannedLayer, SparsityPlan
from secateur.sparsity.schedule import Timing
from secateur.sparsity.thresholds import ThresholdRule, WeightStatistics


class ThresholdSparsifier(MaskKeeper):
    """Keeps the masks of a network as a threshold rule says.

    The levels of the plan say nothing but which layers are meant: those that have one.
    """

    def __init__(
        self, model: nn.Module, plan: SparsityPlan, thresholds: ThresholdRule, rule: MaskRule | None = None
    ) -> None:
        """raises SparsityError for a pattern with a fixed level, or a layer that the rule says nothing of"""
        if plan.pattern.fixed_level is not None:
            raise SparsityError(
                f"{plan.pattern} keeps a fixed share of every group, so a threshold cannot choose its weights; "
                f"give a level."
            )
        for name in plan.levels:
            if thresholds.names is not None and name not in thresholds.names:
                raise SparsityError(f"{name}: no threshold and no sensitivity is given for it.")
        self.thresholds = thresholds
        self._known: dict[str, WeightStatistics] = {}
        super().__init__(model, plan, rule)

    @property
    def timing(self) -> Timing:
        return self.thresholds

    def choose_(self, position: int) -> None:
        """Choose the masks at the thresholds of an epoch.

        raises    SparsityError  weights that are not finite numbers, with the layer's name
        """
        modules = weighted_modules(self.model)
        for layer in self.plan.layers:
            if layer.level is not None:
                self._choose_(modules[layer.name], layer, position)

    @torch.no_grad()
    def _choose_(self, module: nn.Module, layer: PlannedLayer, epoch: int) -> None:
        pattern, groups = self.plan.pattern, layer.groups
        weight = filters_first(stored_weight(module), layer.kind, groups)
        if not bool(torch.isfinite(weight).all()):
            raise SparsityError(f"{layer.name}: its weights are not finite numbers, so that none is above a threshold.")
        if layer.name not in self._known:
            self._known[layer.name] = WeightStatistics.of(weight)
        scores = weight.abs()
        sizes = pattern.group_scores(scores, groups, "max" if self.thresholds.of == "max" else "mean")
        mask = filters_first(mask_of(module), layer.kind, groups)
        there = pattern.group_scores(mask.to(scores.dtype), groups, "max") > 0
        kept = self.thresholds.keep(layer.name, sizes, there, self._known[layer.name], epoch)
        set_mask_(module, as_stored(pattern.mask_of(kept, scores, groups), layer.kind, groups))

    def at_final(self, position: int) -> bool:
        """Thresholds have no sparsity to reach: the masks of the last scheduled epoch are the final ones."""
        stop = self.thresholds.stop
        return stop is not None and self.thresholds.scheduled(position) == self.thresholds.scheduled(stop - 1)

    def state(self) -> dict[str, Tensor]:
        return {
            name: torch.tensor([known.deviation, known.magnitude, known.magnitude_deviation], dtype=torch.float64)
            for name, known in self._known.items()
        }

    def restore_(self, state: Mapping[str, Tensor]) -> None:
        self._known = {name: WeightStatistics(*(float(value) for value in state[name])) for name in state}

    def description(self) -> dict[str, Any]:
        return {
            "thresholds": repr(self.thresholds),
            "mask": self.rule.model_dump(mode="json"),
            "layers": list(self.plan.levels),
            "pattern": str(self.plan.pattern),
        }


def reached(model: nn.Module, plan: SparsityPlan) -> SparsityPlan:
    """The plan with the levels and zeros that the masks of its layers have now."""
    found = masks(model)

    def counted(layer: PlannedLayer) -> PlannedLayer:
        if layer.level is None or layer.name not in found:
            return layer
        mask = found[layer.name]
        zeros = int(mask.numel() - mask.sum())
        return replace(layer, level=zeros / mask.numel(), zeros=zeros)

    counted_plan = replace(plan, layers=tuple(map(counted, plan.layers)))
    return replace(counted_plan, sparsity=counted_plan.achieved)
