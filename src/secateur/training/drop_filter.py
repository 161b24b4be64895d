"""DropFilter: filters of convolutions are left out at random while training, the others scaled up to make up for it.

    y[o] = m_o / (1 - p) * (W[o] * x) + b[o]          m_o = 0 with probability p, one draw for the whole batch

The draws follow from (seed, step, layer), so they are the same on every process and after a resume.

Source: Tian et al. 2018; Distiller.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.recipe import Regularizer
from secateur.sparsity import unwrapped
from secateur.sparsity.draws import generator_for
from secateur.sparsity.layers import weighted_modules
from secateur.training.hooks import Hook, Scene
from secateur.training.regularize import layers_for


def drawn(seed: int, step: int, layer: str, filters: int, probability: float) -> Tensor:
    """(filters,) float32: 0 for those that drop out, 1 / (1 - probability) for the others."""
    generator = generator_for(seed, step, layer)
    stays = torch.rand(filters, generator=generator) >= probability
    return stays / (1.0 - probability)


class DropFilters(Hook):
    """Filters drop out with probability `strength`; nothing happens outside of training."""

    def __init__(self, config: Regularizer) -> None:
        """raises TrainingError unless the strength is a probability below 1"""
        if config.strength >= 1:
            raise TrainingError(f"regulariser drop_filter: {config.strength:g} is no probability below 1.")
        self.config = config

    def begin(self, scene: Scene) -> None:
        model = unwrapped(scene.model)
        self._seed, self._step = scene.seed, 0
        modules = weighted_modules(model)
        names = [name for layer in layers_for(model, self.config) for name in (layer.name, *layer.shared)]
        self._handles = [modules[name].register_forward_hook(self._dropping(name)) for name in names]

    def before_step(self, step: int) -> None:
        self._step = step

    def close(self) -> None:
        for handle in getattr(self, "_handles", ()):
            handle.remove()

    def description(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")

    def _dropping(self, name: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def drop(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if not module.training:
                return output
            factors = drawn(self._seed, self._step, name, cast(int, module.out_channels), self.config.strength)
            factors = factors.to(output).reshape(-1, *(1,) * (output.ndim - 2))
            if module.bias is None:
                return output * factors
            bias = cast(Tensor, module.bias).to(output).reshape(factors.shape)
            return (output - bias) * factors + bias

        return drop
