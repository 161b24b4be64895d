"""Network slimming: an L1 penalty on the scales of batch norms, so that whole channels become unimportant.

    loss + strength * sum over the norms of  sum |gamma|

Channels with small scales are then those to remove: criterion bn_scale, over the whole network, of filters as they
are (`remove_channels` with scope global and normalize none).
Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming" (strength 1e-4 or 1e-5).
"""

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.recipe import Regularizer
from secateur.registry import unknown
from secateur.sparsity.norms import norm_modules
from secateur.training.hooks import Hook, Scene


class NormScalePenalty(Hook):
    """The regulariser `norm_l1` of a recipe; `layers` are names or globs of batch norms."""

    def __init__(self, config: Regularizer) -> None:
        self.config = config

    def begin(self, scene: Scene) -> None:
        norms = {name: norm for name, norm in norm_modules(scene.model).items() if norm.weight is not None}
        if not norms:
            raise TrainingError("regulariser norm_l1: the network has no batch norm with a scale.")
        for glob in self.config.layers:
            if not any(fnmatchcase(name, glob) for name in norms):
                raise TrainingError(f"regulariser norm_l1: {unknown('batch norm', glob, norms)}")
        self._scales = [
            norm.weight for name, norm in norms.items() if any(fnmatchcase(name, glob) for glob in self.config.layers)
        ]

    def extra_loss(self, model: nn.Module, step: int) -> Tensor | None:
        return self.config.strength * torch.stack([scale.abs().sum() for scale in self._scales]).sum()

    def description(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")
