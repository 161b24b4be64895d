"""AC/DC: dense and sparse phases in turn, the last one sparse.

    epochs      warmup dense; then sparse, dense, sparse, ... of `phase` epochs each; the last `last` sparse
    compress    at the start of a sparse phase the units of smallest mean |w| go: those of the whole network where the
                plan's allocation is global, within the bounds of every layer; otherwise, and of layers whose level is
                given, as many of each as the plan says; they become zero
    decompress  at the start of a dense phase everything is trained again, from zero where it had been removed

Source: Peste et al. 2021.
"""

from typing import Any

import torch

from secateur.recipe import AcDc
from secateur.sparsity import SparsityPlan, as_stored, filters_first, make_mask, set_mask_
from secateur.training.history import Row
from secateur.training.hooks import Hook, Scene
from secateur.training.methods.rigl import forget_
from secateur.training.methods.units import Units, prune_to_, units_of


def is_sparse(config: AcDc, epoch: int, epochs: int) -> bool:
    """Whether an epoch belongs to a sparse phase."""
    if epoch >= epochs - config.last:
        return True
    return epoch >= config.warmup and (epoch - config.warmup) // config.phase % 2 == 0


class AcDcPhases(Hook):
    """Compresses and decompresses the planned layers phase by phase."""

    def __init__(self, plan: SparsityPlan, config: AcDc) -> None:
        self.plan, self.config = plan, config

    def begin(self, scene: Scene) -> None:
        self._scene = scene
        self._units = units_of(scene.model, self.plan, "acdc", competing=False)

    @torch.no_grad()
    def before_epoch(self, epoch: int) -> None:
        now = self._sparse(epoch)
        before = epoch > 0 and self._sparse(epoch - 1)
        if now == before:
            return
        if now:
            self._compress_()
            return
        for unit in self._units:
            forget_(unit, ~unit.mask.mask, self._scene.optimizer)
            unit.mask.mask.fill_(True)

    def settled(self, row: Row) -> bool:
        return self._sparse(row.epoch)

    def description(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json") | {"pattern": str(self.plan.pattern), "levels": self.plan.levels}

    def _sparse(self, epoch: int) -> bool:
        return is_sparse(self.config, epoch, self._scene.config.epochs)

    def _compress_(self) -> None:
        together: list[Units] = []
        for unit in self._units:
            if "global" in self.plan.allocation and not unit.layer.fixed:
                together.append(unit)
            else:
                self._compress_layer_(unit)
        if together:
            means = [unit.mean_of(unit.weight.abs()) for unit in together]
            prune_to_(together, means, sum(unit.layer.zeros for unit in together))

    def _compress_layer_(self, unit: Units) -> None:
        layer, plan = unit.layer, self.plan
        scores = filters_first(unit.weight.abs(), layer.kind, layer.groups)
        mask = make_mask(scores, plan.pattern, layer.level or 0.0, plan.rounding, ties=plan.ties, groups=layer.groups)
        set_mask_(unit.module, as_stored(mask, layer.kind, layer.groups))
