"""The sparsifier: keeps the masks of a network at the level that a schedule asks for.

    level of layer l at time t = plan level of l * s(t) / s_final

Masks are recomputed from the stored dense weights, so a removed weight may come back while the schedule
rises.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from secateur.recipe import MaskRule
from secateur.sparsity.draws import generator_for
from secateur.sparsity.layers import weighted_modules
from secateur.sparsity.leader import check_leader, follow_leader_
from secateur.sparsity.mask import mask_of, set_mask_, set_scale_
from secateur.sparsity.mask_keeper import MaskKeeper
from secateur.sparsity.plan import PlannedLayer, SparsityPlan
from secateur.sparsity.schedule import Schedule, Timing
from secateur.sparsity.scheduling.one_shot import OneShot
from secateur.sparsity.scoring import Scorer, Scoring
from secateur.sparsity.statistics import LayerStatistics


class Sparsifier(MaskKeeper):
    """Keeps the masks of a network at the level that a schedule asks for.

    Building one gives the planned layers masks that keep everything. The same seed chooses the same weights
    on every device and every rank; random scores are drawn once per layer, so that rising levels give nested
    masks.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: SparsityPlan,
        schedule: Schedule | None = None,
        criterion: str | Scoring | None = None,
        seed: int = 0,
        statistics: Mapping[str, LayerStatistics] | None = None,
        rule: MaskRule | None = None,
        leader: str | None = None,
    ) -> None:
        """A sparsifier of `model` as it is now.

        schedule      one-shot when None
        criterion     that of the plan when None
        statistics    of `gather_statistics`, for criteria that look at data
        rule          scheduled, and masks that hold, when None
        leader        the layer whose choice all others take over; by default each chooses for itself
        raises        SparsityError
        """
        self.schedule = schedule or OneShot(plan.sparsity)
        scoring = criterion if isinstance(criterion, Scoring) else Scoring(criterion or plan.criterion)
        self.seed = seed
        self.leader = leader
        if leader is not None:
            check_leader(plan, leader)
        self.scorer = Scorer(model, scoring, statistics)
        super().__init__(model, plan, rule)
        if scoring.rule.drawn == "chance":
            for module in self._layers().values():
                set_scale_(module, 1.0)

    @property
    def criterion(self) -> str:
        return self.scorer.scoring.criterion

    @property
    def timing(self) -> Timing:
        return self.schedule

    def choose_(self, position: int) -> None:
        """Choose the masks at the level of an epoch or iteration.

        raises    SparsityError  weights that are not finite numbers, with the layer's name
        """
        final = self.schedule.final
        share = self.schedule.sparsity_at(position) / final if final else 1.0
        modules = weighted_modules(self.model)
        for layer in self.plan.layers:
            if layer.level is not None and self.leader in (None, layer.name):
                self._choose_(modules[layer.name], layer, layer.level * share)
        if self.leader is not None:
            follow_leader_(self.model, self.plan, self.leader)
        if self.scorer.scoring.rule.drawn == "chance":
            for module in self._layers().values():
                mask = mask_of(module)
                set_scale_(module, mask.numel() / max(1, int(mask.sum())))

    def at_final(self, position: int) -> bool:
        return position >= self.schedule.first and self.schedule.sparsity_at(position) == self.schedule.final

    def description(self) -> dict[str, Any]:
        return {
            "schedule": repr(self.schedule),
            "mask": self.rule.model_dump(mode="json"),
            "criterion": repr(self.scorer.scoring),
            "seed": self.seed,
            "levels": dict(self.plan.levels),
            "pattern": str(self.plan.pattern),
            **({"leader": self.leader} if self.leader else {}),
        }

    @torch.no_grad()
    def _choose_(self, module: nn.Module, layer: PlannedLayer, level: float) -> None:
        generator = generator_for(self.seed, layer.name)
        plan = self.plan
        set_mask_(module, self.scorer.mask(layer, module, plan.pattern, level, generator, plan.rounding, plan.ties))
