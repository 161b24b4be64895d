"""Rounding whose gradient is that of not rounding.

    forward     x' = step (clamp(round(x / step) + zero, low, high) - zero)        as numbers.rounded, bit for bit
    backward    dx'/dx = 1 inside the range and 0 outside of it

Source: Bengio et al. 2013 (the estimator), Jacob et al. 2018, section 3.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from secateur.quantization.numbers import Numbers


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, smooth: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # In place on one new tensor: activations are large, and every pass over them costs as much as a ReLU.
        value = torch.div(x, step).round_()
        ctx.save_for_backward((value >= low).logical_and_(value <= high))
        # + 0.0 makes +0 of the -0 that rounding makes of small negative numbers.
        return torch.clamp(value, low, high, out=value).mul_(step).add_(0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


class _Times(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] * ctx.factor, None


_through = cast(Callable[[Tensor, Tensor], Tensor], _Through.apply)  # type: ignore[reportUnknownMemberType]
_affine = cast(Callable[..., Tensor], _Affine.apply)  # type: ignore[reportUnknownMemberType]
_times = cast(Callable[[Tensor, float], Tensor], _Times.apply)  # type: ignore[reportUnknownMemberType]


def through(smooth: Tensor, value: Tensor) -> Tensor:
    """`value`, whose gradient goes to `smooth` as it comes. Both have one shape."""
    return _through(smooth, value.detach())


def round_through(x: Tensor) -> Tensor:
    """`x` rounded half to even."""
    return through(x, torch.round(x.detach()))


def affine(x: Tensor, step: Tensor, zero: Tensor, numbers: Numbers) -> Tensor:
    """`x` as integers with this step and zero point tell it; step and zero point get no gradient.

    step, zero    shaped so that they meet `x`; zero holds whole numbers
    """
    zero = zero.detach()
    return _affine(x, step.detach(), numbers.low - zero, numbers.high - zero)


def gradient_times(x: Tensor, factor: float) -> Tensor:
    """`x`, whose gradient is multiplied by `factor`."""
    return _times(x, factor)
