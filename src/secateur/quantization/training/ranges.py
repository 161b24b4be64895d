"""Steps and zero points of ranges, on tensors: the torch form of numbers.scale_of_range, bit for bit."""

import torch
from torch import Tensor

from secateur.quantization.numbers import Numbers

_SMALLEST_STEP = torch.finfo(torch.float32).tiny
_LARGEST = torch.finfo(torch.float32).max


def step_and_zero(low: Tensor, high: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor]:
    """(step, zero) float32 of the range between `low` and `high`, which is made to contain 0.

    An empty range gets step 1. In float64, because the step is the nearest float32 of the quotient.
    """
    lower, upper = low.double().clamp(max=0.0), high.double().clamp(min=0.0)
    if numbers.symmetric:
        half = 2 ** (numbers.bits - 1) - 1 if numbers.restricted else (2**numbers.bits - 1) / 2
        step = torch.maximum(-lower, upper) / half
    else:
        step = (upper - lower) / (numbers.high - numbers.low)
    step = step.clamp(max=_LARGEST).float()
    step = torch.where(step < _SMALLEST_STEP, torch.ones_like(step), step)
    if numbers.symmetric:
        return step, torch.full_like(step, numbers.middle)
    zero = torch.round(numbers.low - lower / step.double()).clamp(numbers.low, numbers.high)
    return step, zero.float()


def extremes(x: Tensor, per_channel: bool) -> tuple[Tensor, Tensor]:
    """(smallest, largest) of all of `x`, shape (), or of each index of axis 0, shape (n, 1, ...)."""
    if not per_channel:
        return torch.aminmax(x.detach())
    return x.detach().amin(dim=tuple(range(1, x.ndim)), keepdim=True), x.detach().amax(
        dim=tuple(range(1, x.ndim)), keepdim=True
    )


def numbers_of(mode: str, bits: int) -> Numbers:
    """The numbers of a mode of a recipe: sym, sym_full, asym_u, asym_s."""
    return Numbers(bits, signed=mode != "asym_u", symmetric=mode.startswith("sym"), restricted=mode != "sym_full")
