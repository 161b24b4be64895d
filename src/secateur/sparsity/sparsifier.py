"""The sparsifier: keeps the masks of a network at the level that a schedule asks for.

    level of layer l at time t = plan level of l * s(t) / s_final

Masks are recomputed from the stored dense weights, so a removed weight may come back while the schedule
rises.
"""

from collections.abc import Mapping
from zlib import crc32

import torch
from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity.layers import layers_of, unwrapped, weighted_modules
from secateur.sparsity.mask import attach_masks_, set_mask_
from secateur.sparsity.plan import PlannedLayer, SparsityPlan
from secateur.sparsity.schedule import OneShot, Schedule
from secateur.sparsity.scoring import Scorer, Scoring
from secateur.sparsity.statistics import LayerStatistics


class Sparsifier:
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
    ) -> None:
        """Attach masks that keep everything.

        schedule      one-shot when None
        criterion     that of the plan when None
        statistics    of `gather_statistics`, for criteria that look at data
        raises        SparsityError
        """
        self.model = unwrapped(model)
        self.plan = plan
        self.schedule = schedule or OneShot(plan.sparsity)
        scoring = criterion if isinstance(criterion, Scoring) else Scoring(criterion or plan.criterion)
        self.seed = seed
        _check_fits(self.model, plan)
        self.scorer = Scorer(self.model, scoring, statistics)
        attach_masks_(self.model, plan.levels)

    def update_(self, position: int) -> bool:
        """Recompute the masks if they are due at this epoch or iteration.

        returns    whether masks were recomputed
        raises     SparsityError  weights that are not finite numbers, with the layer's name
        """
        if not self.schedule.due(position):
            return False
        final = self.schedule.final
        share = self.schedule.sparsity_at(position) / final if final else 1.0
        modules = weighted_modules(self.model)
        for layer in self.plan.layers:
            if layer.level is not None:
                self._choose_(modules[layer.name], layer, layer.level * share)
        return True

    @torch.no_grad()
    def _choose_(self, module: nn.Module, layer: PlannedLayer, level: float) -> None:
        # One number of 32 bits per seed and layer: the generator ignores everything above them.
        generator = torch.Generator().manual_seed(crc32(f"{self.seed} {layer.name}".encode()))
        plan = self.plan
        set_mask_(module, self.scorer.mask(layer, module, plan.pattern, level, generator, plan.rounding, plan.ties))


def _check_fits(model: nn.Module, plan: SparsityPlan) -> None:
    shapes = {layer.name: layer.shape for layer in layers_of(model)}
    for layer in plan.layers:
        if layer.level is None:
            continue
        if layer.name not in shapes:
            raise SparsityError(f"the plan prunes {layer.name}, which the model does not have.")
        if shapes[layer.name] != layer.shape:
            raise SparsityError(
                f"the plan is for another model: {layer.name} has shape {shapes[layer.name]}, not {layer.shape}."
            )
