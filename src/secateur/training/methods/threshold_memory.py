"""What methods that learn a threshold for every layer keep in a checkpoint, and let go of at the end."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from secateur.training.hooks import Hook
from secateur.training.optimizer import load_optimizer_tensors_, optimizer_tensors


class ThresholdMemory(Hook):
    """A hook with thresholds, their optimiser, and handles on the layers that use them."""

    _thresholds: Sequence[Tensor]
    _optimizer: torch.optim.Optimizer
    _handles: Sequence[Any] = ()

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = ()

    def state(self) -> dict[str, Tensor]:
        thresholds = {f"threshold.{number}": value.detach() for number, value in enumerate(self._thresholds)}
        return thresholds | {f"sgd.{name}": value for name, value in optimizer_tensors(self._optimizer).items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        for number, threshold in enumerate(self._thresholds):
            threshold.copy_(state[f"threshold.{number}"])
        memory = {name.removeprefix("sgd."): value for name, value in state.items() if name.startswith("sgd.")}
        load_optimizer_tensors_(self._optimizer, memory)
