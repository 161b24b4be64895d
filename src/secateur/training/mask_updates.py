"""The hook that lets a sparsifier choose masks while a network is trained."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from secateur.errors import TrainingError
from secateur.sparsity import MaskKeeper, unwrapped
from secateur.training.history import Row
from secateur.training.hooks import Hook, Scene


class MaskUpdates(Hook):
    """Asks a sparsifier for new masks before every step, and lets it keep its mask rule around the optimiser."""

    def __init__(self, sparsifier: MaskKeeper) -> None:
        self.sparsifier = sparsifier

    def begin(self, scene: Scene) -> None:
        if self.sparsifier.model is not unwrapped(scene.model):
            raise TrainingError("the sparsifier was built for another model than the one to train.")
        self._scene = scene
        self.sparsifier.begin_(scene.steps_per_epoch)

    def before_step(self, step: int) -> None:
        if self.sparsifier.before_step_(step) and self.sparsifier.rule.reset_optimizer:
            self._scene.optimizer.state.clear()

    def after_backward(self, step: int) -> None:
        self.sparsifier.after_backward_()

    def after_step(self, step: int) -> None:
        self.sparsifier.after_step_()

    def end(self) -> None:
        self.sparsifier.finish_(self._scene.steps - 1)

    def settled(self, row: Row) -> bool:
        by_epoch = self.sparsifier.timing.unit == "epoch"
        return self.sparsifier.settled(row.epoch if by_epoch else (row.epoch + 1) * self._scene.steps_per_epoch - 1)

    def close(self) -> None:
        self.sparsifier.close_()

    def state(self) -> dict[str, Tensor]:
        return self.sparsifier.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.sparsifier.restore_(state)

    def description(self) -> dict[str, Any]:
        return self.sparsifier.description()
