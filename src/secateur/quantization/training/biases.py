"""Biases as the quantized file has them: whole numbers of steps `input x weight`, by the parametrization of a bias.

    plain        b' = round(b / (s_x s_w)) s_x s_w
    with a norm  beta' = beta + (f' - f) ,   f = beta + (b - mean) s      the bias of the exported layer

Half a step of a bias is some thousandths of a step of what the layer gives, enough to turn one value in a thousand to
its neighbour, layer after layer. A norm that follows the batch is left alone: its shift is another at every step.

Our own design.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.quantization.training.activations import ActivationRule
from secateur.quantization.training.straight_through import through
from secateur.quantization.training.weights import RoundedWeight, before_rounding


class RoundedBias(nn.Module):
    """The parametrization of the bias of a layer, or of the shift of the norm that the export folds into it.

    on    otherwise the bias passes as it is
    """

    layer: nn.Module
    rounding: RoundedWeight
    source: ActivationRule

    def __init__(self, layer: nn.Module, rounding: RoundedWeight, source: ActivationRule) -> None:
        super().__init__()
        self.on = True
        # Not submodules: they have their places in the network already.
        self.__dict__.update(layer=layer, rounding=rounding, source=source)

    def forward(self, bias: Tensor) -> Tensor:
        norm = self.rounding.norm
        if not self.on or (norm is not None and norm.training):
            return bias
        with torch.no_grad():
            weight = before_rounding(self.layer)
            grid = self.rounding.grid(weight)
            if isinstance(grid, str):
                return bias
            step = grid.step * self.source.grid().step
            exported = bias if norm is None else bias + self._behind_norm(norm)
            rounded = torch.round(exported / step) * step
            # The file has finer steps for filters without weights.
            alive = self.rounding.filters_first(weight).flatten(1).any(dim=1)
            value = torch.where(alive, bias + (rounded - exported), bias)
        return through(bias, value)

    def _behind_norm(self, norm: nn.Module) -> Tensor:
        """What the norm adds beside its shift: (b - mean) gamma / sqrt(var + eps)."""
        shift = -cast(Tensor, norm.running_mean)
        if self.layer.bias is not None:
            shift = shift + cast(Tensor, self.layer.bias)
        return shift * self.rounding.scale_of_norm()


def attach_bias_(layer: nn.Module, rounding: RoundedWeight, source: ActivationRule) -> nn.Module | None:
    """Round the bias that the exported layer will have; returns whose parameter it is, None where there is none."""
    owner = layer if rounding.norm is None else rounding.norm
    if not isinstance(getattr(owner, "bias", None), nn.Parameter) or parametrize.is_parametrized(owner, "bias"):
        return None
    parametrize.register_parametrization(owner, "bias", RoundedBias(layer, rounding, source), unsafe=True)
    return owner
