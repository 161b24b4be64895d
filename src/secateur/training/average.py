"""The average of the weights over the steps: what is evaluated, and the result of the training.

    avg <- d avg + (1 - d) w        after step t,   d = min(decay, (1 + t) / (10 + t))

The second term lets the average forget where the training began. It is taken of all numbers that are not whole:
weights, and the statistics of norms. Masks are not averaged; they lie over the average as over the weights, so the
average has the same zeros.

Source: Polyak & Juditsky 1992; the growing d is that of TensorFlow's ExponentialMovingAverage.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.training.history import Row
from secateur.training.hooks import Hook, Scene


class WeightAverage(Hook):
    """Averages the weights; for evaluations, and in the end, the model holds the average."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._aside: list[Tensor] = []

    def begin(self, scene: Scene) -> None:
        tensors = [*scene.model.named_parameters(), *scene.model.named_buffers()]
        self._weights = {name: tensor.detach() for name, tensor in tensors if tensor.is_floating_point()}
        self._average = {name: tensor.clone() for name, tensor in self._weights.items()}
        self._last = scene.config.epochs - 1

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        share = 1.0 - min(self.decay, (1 + step) / (10 + step))
        for name, weight in self._weights.items():
            self._average[name].lerp_(weight, share)

    def before_evaluation(self, epoch: int) -> None:
        self._aside = [weight.clone() for weight in self._weights.values()]
        self._put(list(self._average.values()))

    def after_epoch(self, row: Row) -> None:
        if row.epoch != self._last:
            self._put(self._aside)
        self._aside = []

    def close(self) -> None:
        # Broken off while the average was looked at: the weights go back to their place.
        if self._aside:
            self._put(self._aside)
            self._aside = []

    def state(self) -> dict[str, Tensor]:
        return dict(self._average)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        for name, average in self._average.items():
            average.copy_(state[name])

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for weight, value in zip(self._weights.values(), values, strict=True):
            weight.copy_(value)
