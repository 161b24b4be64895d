"""The hook that chooses masks again, at constant levels, in the first part of a tuning.

While it lasts, removed weights get the gradient of the masked network (straight through), so that one that has
become large comes back in the place of one that has become small. Our own design; the idea of regrowing masks after
training is UniPTS's (CVPR 2024).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from secateur.recipe import MaskRule
from secateur.sparsity import Sparsifier, SparsityPlan
from secateur.training.history import Row
from secateur.training.hooks import Hook, Scene


class Reselection(Hook):
    """Chooses the masks of the planned layers by magnitude: at the beginning, and whenever `choose_` is called."""

    def __init__(self, plan: SparsityPlan) -> None:
        self.plan = plan
        self.ended = False

    def begin(self, scene: Scene) -> None:
        self._sparsifier = Sparsifier(scene.model, self.plan, criterion="magnitude", rule=MaskRule(gradients="all"))
        self._sparsifier.begin_(1)
        self.choose_()

    def choose_(self) -> None:
        """Choose the masks by the weights as they are now."""
        self._sparsifier.choose_(0)

    def end(self) -> None:
        if not self.ended:
            self.close()
        self.ended = True

    def settled(self, row: Row) -> bool:
        return True

    def close(self) -> None:
        if hasattr(self, "_sparsifier"):
            self._sparsifier.close_()

    def state(self) -> dict[str, Tensor]:
        return {"ended": torch.tensor(self.ended)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if bool(state["ended"]):
            self.end()

    def description(self) -> dict[str, Any]:
        return {"pattern": str(self.plan.pattern), "levels": self.plan.levels}
