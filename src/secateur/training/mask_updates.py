"""The hook that lets a sparsifier choose masks while a network is trained."""

from typing import Any

from secateur.errors import TrainingError
from secateur.sparsity import Sparsifier, unwrapped
from secateur.training.hooks import Hook, Scene


class MaskUpdates(Hook):
    """Asks a sparsifier for new masks at every epoch or every step, whichever its schedule counts in."""

    def __init__(self, sparsifier: Sparsifier) -> None:
        self.sparsifier = sparsifier

    def begin(self, scene: Scene) -> None:
        if self.sparsifier.model is not unwrapped(scene.model):
            raise TrainingError("the sparsifier was built for another model than the one to train.")

    def before_epoch(self, epoch: int) -> None:
        if self.sparsifier.schedule.unit == "epoch":
            self.sparsifier.update_(epoch)

    def before_step(self, step: int) -> None:
        if self.sparsifier.schedule.unit == "iteration":
            self.sparsifier.update_(step)

    def description(self) -> dict[str, Any]:
        sparsifier = self.sparsifier
        return {
            "schedule": repr(sparsifier.schedule),
            "criterion": sparsifier.criterion,
            "seed": sparsifier.seed,
            "levels": dict(sparsifier.plan.levels),
            "pattern": str(sparsifier.plan.pattern),
        }
