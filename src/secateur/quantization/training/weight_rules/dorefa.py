"""Weights through tanh onto levels between -1 and 1.

    x = tanh(w) / (2 max |tanh(w)|) + 1/2 ,   w' = 2 round(x (2^b - 1)) / (2^b - 1) - 1
    one bit      w' = sign(w) mean |w|

The levels are odd multiples of 1 / (2^b - 1): none of them is 0, and those of 8 bits do not fit into 8-bit integers.
The gradient passes the rounding; max |tanh(w)| counts as a constant.

Source: Zhou et al. 2016 (DoReFa-Net), equations 9 and 7.
"""

import torch
from torch import Tensor

from secateur.quantization.numbers import Numbers
from secateur.quantization.training.straight_through import round_through, through
from secateur.quantization.training.weights import Grid, WeightRule, weight_rules


@weight_rules.register("dorefa")
class DorefaWeights(WeightRule):
    """By tanh, one range for all filters."""

    def forward(self, weight: Tensor) -> Tensor:
        if self.bits == 1:
            mean = weight.detach().abs().mean()
            return through(weight, torch.where(weight < 0, -mean, mean))
        squeezed = torch.tanh(weight)
        largest = squeezed.detach().abs().amax().clamp(min=torch.finfo(weight.dtype).tiny)
        levels = 2**self.bits - 1
        # In whole steps, so that what comes out is an integer times a step and nothing else.
        odd = 2 * round_through((squeezed / (2 * largest) + 0.5) * levels) - levels
        return odd * torch.tensor(1 / levels, dtype=weight.dtype)

    def grid(self, weight: Tensor) -> Grid | str:
        if self.bits == 1:
            mean = weight.detach().abs().mean()
            step = mean if mean > 0 else torch.ones_like(mean)
            return Grid(step, torch.zeros_like(step), Numbers(2, signed=True, symmetric=True))
        if self.bits == 8:
            return "the 256 levels of dorefa and the zero of removed weights are more than 8-bit integers can tell"
        step = torch.tensor(1 / (2**self.bits - 1), dtype=weight.dtype, device=weight.device)
        return Grid(step, torch.zeros_like(step), Numbers(self.bits + 1, signed=True, symmetric=True))
