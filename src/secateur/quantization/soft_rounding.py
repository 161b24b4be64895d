"""Rounding that gradients can move: every weight lies between the two numbers of its grid around it.

    W^ = step clamp(floor(W / step) + h(V), low - zero, high - zero)        h(V) = clamp(1.2 sigmoid(V) - .1, 0, 1)
    sum of 1 - |2 h - 1|^beta           draws h to 0 or 1 as beta falls
    at last   h > .5 rounds up

V starts where W^ = W. A weight that is zero stays zero. Source: Nagel et al. 2020 (AdaRound), section 3.2.
"""

import math

import torch
from torch import Tensor

from secateur.quantization.numbers import Scale

STRETCH = 1.2
OFFSET = -0.1


def rectified_sigmoid(v: Tensor) -> Tensor:
    """h(V)."""
    return (STRETCH * v.sigmoid() + OFFSET).clamp(0.0, 1.0)


def inverse_sigmoid(h: Tensor) -> Tensor:
    """V with h(V) = h, for h in [0, 1]."""
    return torch.log((h - OFFSET) / (STRETCH + OFFSET - h))


class SoftWeight:
    """One weight while its rounding is learned.

    weight    as the network multiplies with it
    scale     of the tensor, or along an axis of `weight` as it is given
    """

    def __init__(self, weight: Tensor, scale: Scale) -> None:
        numbers = scale.numbers
        self.step = torch.from_numpy(scale.along(scale.step, weight.dim()).copy())
        zero = torch.from_numpy(scale.along(scale.zero, weight.dim()).astype("float32"))
        self.low, self.high = numbers.low - zero, numbers.high - zero
        self.kept = weight != 0
        steps = weight / self.step
        self.floor = steps.floor()
        self.rest = steps - self.floor
        self.nearest = self._of(steps.round())
        self.v = inverse_sigmoid(self.rest).requires_grad_(True)
        # Where both neighbours are clamped to one number there is nothing to learn.
        self.free = self.kept & (self.floor >= self.low) & (self.floor < self.high) & (self.rest > 0)

    def soft(self) -> Tensor:
        """W^ between the grid's numbers."""
        return self._of(self.floor + rectified_sigmoid(self.v))

    @torch.no_grad()
    def hard(self) -> Tensor:
        """W^ on the grid."""
        up = (rectified_sigmoid(self.v) > 0.5).float()
        # A weight that lies on the grid has nowhere to go.
        return self._of(self.floor + torch.where(self.rest > 0, up, 0.0))

    def pull(self, beta: float) -> Tensor:
        """Sum of 1 - |2 h - 1|^beta over the weights that can move."""
        h = rectified_sigmoid(self.v)
        return ((1 - (2 * h - 1).abs().pow(beta)) * self.free).sum()

    @property
    def turned(self) -> float:
        """Share of the weights that are not rounded to nearest."""
        return float((self.hard() != self.nearest).float().mean())

    def _of(self, steps: Tensor) -> Tensor:
        clamped = torch.minimum(torch.maximum(steps, self.low), self.high)
        return torch.where(self.kept, clamped, 0.0) * self.step


def falling_beta(step: int, steps: int, first: float, last: float, warmup: float) -> float:
    """beta at a step: `first` until the warm-up is over, then down to `last` along a cosine."""
    begin = warmup * steps
    if step < begin:
        return first
    done = min((step - begin) / max(steps - begin, 1.0), 1.0)
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * done))
