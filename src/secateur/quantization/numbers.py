"""Integers that stand for floating-point numbers.

    q = clamp(round(x / step) + zero, low, high) ,   x' = step (q - zero)        round half to even

    asymmetric            step = (max - min) / (high - low) ,   zero = round(low - min / step)
    symmetric restricted  step = max |x| / (2^(b-1) - 1) ,      zero in the middle
    symmetric             step = max |x| / ((2^b - 1) / 2) ,    zero in the middle

The range always contains 0, so that 0 is an integer exactly: zeros of weights, of padding and behind ReLU stay zeros.

Source: Jacob et al. 2018 (quantization and training), section 2.1; the unrestricted symmetric step is Distiller's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secateur.errors import QuantizationError

Floats = NDArray[np.float32]
Integers = NDArray[Any]

FEWEST_BITS, MOST_BITS = 2, 16
# Below this a step cannot be divided by without leaving the float32 numbers of full precision.
_SMALLEST_STEP = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Numbers:
    """Which integers there are.

    bits          2 to 16
    signed        from -2^(b-1), otherwise from 0
    symmetric     the zero point lies in the middle: 0 of signed, 2^(b-1) of unsigned numbers
    restricted    symmetric numbers leave the lowest one out, so that the range is the same on both sides
    raises        QuantizationError
    """

    bits: int = 8
    signed: bool = False
    symmetric: bool = False
    restricted: bool = True

    def __post_init__(self) -> None:
        if not FEWEST_BITS <= self.bits <= MOST_BITS:
            raise QuantizationError(
                f"numbers have {FEWEST_BITS} to {MOST_BITS} bits, not {self.bits}; fp16 and bf16 are made by to_half."
            )

    @property
    def low(self) -> int:
        """The smallest integer."""
        lowest = -(2 ** (self.bits - 1)) if self.signed else 0
        return lowest + (self.symmetric and self.restricted)

    @property
    def high(self) -> int:
        """The largest integer."""
        return 2 ** (self.bits - self.signed) - 1

    @property
    def middle(self) -> int:
        """The zero point of symmetric numbers."""
        return 0 if self.signed else 2 ** (self.bits - 1)

    @property
    def dtype(self) -> str:
        """The numpy type that holds them."""
        return f"{'' if self.signed else 'u'}int{8 if self.bits <= 8 else 16}"


WEIGHTS = Numbers(8, signed=True, symmetric=True)
ACTIVATIONS = Numbers(8)


@dataclass(frozen=True, eq=False)
class Scale:
    """What the integers of one tensor stand for.

    step     () or (channels,) float32, larger than 0
    zero     int32 of the same shape: the integer that stands for 0
    axis     of the tensor that the channels lie on, None for one step for all
    raises   QuantizationError
    """

    step: Floats
    zero: NDArray[np.int32]
    axis: int | None
    numbers: Numbers

    def __post_init__(self) -> None:
        step, zero = np.asarray(self.step, np.float32), np.asarray(self.zero, np.int32)
        object.__setattr__(self, "step", step)
        object.__setattr__(self, "zero", zero)
        if step.shape != zero.shape or step.ndim != (0 if self.axis is None else 1):
            raise QuantizationError(
                f"a scale has one step and one zero point for all or for each channel of an axis; got steps "
                f"{step.shape}, zero points {zero.shape}, axis {self.axis}."
            )
        if not (np.isfinite(step).all() and (step > 0).all()):
            raise QuantizationError(
                f"steps are positive numbers, not {_first(step, ~(np.isfinite(step) & (step > 0)))}."
            )
        outside = (zero < self.numbers.low) | (zero > self.numbers.high)
        if outside.any():
            raise QuantizationError(
                f"a zero point is one of the integers {self.numbers.low} to {self.numbers.high}, "
                f"not {_first(zero, outside)}."
            )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Scale)
            and (self.axis, self.numbers) == (other.axis, other.numbers)
            and np.array_equal(self.step, other.step)
            and np.array_equal(self.zero, other.zero)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def range(self) -> tuple[Floats, Floats]:
        """The smallest and the largest number that can be told."""
        ends = ((end - self.zero).astype(np.float32) for end in (self.numbers.low, self.numbers.high))
        low, high = (np.asarray(self.step * end) for end in ends)
        return low, high

    def along(self, values: NDArray[Any], rank: int) -> NDArray[Any]:
        """Steps or zero points, shaped so that they meet the channels of a tensor of `rank` axes."""
        if self.axis is None:
            return values
        sides = [1] * rank
        sides[self.axis] = -1
        return values.reshape(sides)


def scale_of_range(low: ArrayLike, high: ArrayLike, numbers: Numbers, axis: int | None = None) -> Scale:
    """The scale of tensors between `low` and `high`.

    low, high    () or, with `axis`, (channels,); the range is made to contain 0. One that is empty, or too small for
                 float32, gets step 1
    raises       QuantizationError  bounds that are not numbers, or the wrong way round
    """
    lower, upper = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise QuantizationError("a range must be between finite numbers; these tensors hold NaN or infinity.")
    if (lower > upper).any():
        raise QuantizationError(f"a range goes from its smaller to its larger number, not from {low} to {high}.")
    lower, upper = np.minimum(lower, 0.0), np.maximum(upper, 0.0)
    if numbers.symmetric:
        half = 2 ** (numbers.bits - 1) - 1 if numbers.restricted else (2**numbers.bits - 1) / 2
        step = np.maximum(-lower, upper) / half
    else:
        step = (upper - lower) / (numbers.high - numbers.low)
    step = np.minimum(step, _LARGEST).astype(np.float32)
    step = np.where(step < _SMALLEST_STEP, np.float32(1), step)
    if numbers.symmetric:
        zero = np.full(step.shape, numbers.middle)
    else:
        # By the step as it is stored: zero must be where the stored step puts it.
        zero = np.clip(np.rint(numbers.low - lower / step.astype(np.float64)), numbers.low, numbers.high)
    return Scale(step, zero.astype(np.int32), axis, numbers)


def scale_of_tensor(tensor: NDArray[Any], numbers: Numbers, axis: int | None = None) -> Scale:
    """The scale of a constant by its own extremes, of each index of `axis` or of all. raises QuantizationError."""
    if not tensor.size:
        raise QuantizationError("a tensor without elements has no range.")
    others = None if axis is None else tuple(i for i in range(tensor.ndim) if i != axis % tensor.ndim)
    axis = None if axis is None else axis % tensor.ndim
    return scale_of_range(tensor.min(axis=others), tensor.max(axis=others), numbers, axis)


def to_integers(x: NDArray[Any], scale: Scale) -> Integers:
    """The integers of `x`, of the dtype of their numbers; what is outside the range becomes its end.

    The division is in float32, as in ONNX's QuantizeLinear.

    raises    QuantizationError  where `x` is NaN
    """
    values = np.asarray(x, np.float32)
    numbers = scale.numbers
    with np.errstate(over="ignore"):
        steps = np.rint(values / scale.along(scale.step, values.ndim))
    if np.isnan(steps).any():
        raise QuantizationError("NaN has no integer.")
    # Clipped before the zero point is added: large steps would lose it in float32.
    zero = scale.along(scale.zero, values.ndim)
    steps = np.clip(steps, numbers.low - zero, numbers.high - zero)
    return (steps.astype(np.int32) + zero).astype(numbers.dtype)


def to_floats(q: Integers, scale: Scale) -> Floats:
    """What integers stand for, float32, as ONNX's DequantizeLinear."""
    integers = np.asarray(q).astype(np.int32)
    return (integers - scale.along(scale.zero, integers.ndim)).astype(np.float32) * scale.along(
        scale.step, integers.ndim
    )


def rounded(x: NDArray[Any], scale: Scale) -> Floats:
    """`x` as its integers tell it. raises QuantizationError."""
    return to_floats(to_integers(x, scale), scale)


def _first(values: NDArray[Any], where: NDArray[np.bool_]) -> Any:
    return np.atleast_1d(values)[np.atleast_1d(where)][0]
