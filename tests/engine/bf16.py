"""What bf16 is, by another package than the engine's own rounding."""

import ml_dtypes
import numpy as np

TINY = np.finfo(np.float32).tiny
SPECIAL = np.array(
    [
        *(0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, TINY, -TINY, np.finfo(np.float32).max),
        *(1e-40, -1e-40, TINY * (1 - 2**-23), 2.0**-149),  # below 2^-126
        *(1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-23, 1 + 2**-8 - 2**-23, -(1 + 2**-8)),  # halves, and beside them
        *(3.3895314e38, 3.3961775e38, -3.3961776e38, 65504.0, 0.1),  # beyond the largest one comes infinity
    ],
    np.float32,
)


def as_bf16(values: np.ndarray) -> np.ndarray:
    """The nearest bf16 numbers as float32, halves to even; below 2^-126 zeros with the sign."""
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = values.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)
    return np.where(np.abs(values) < TINY, np.copysign(np.float32(0), values), nearest).astype(np.float32)


def halves(pairs: np.ndarray) -> np.ndarray:
    """(..., k) elements of 4 bytes -> (..., k, 2) the numbers in their lower and upper halves, as float32."""
    words = np.ascontiguousarray(pairs).view(np.uint32)
    return np.stack([words << 16, words & 0xFFFF0000], -1).astype(np.uint32).view(np.float32)


def same(ours: np.ndarray, expected: np.ndarray) -> None:
    """Equal bits, but that a NaN is like any other."""
    assert ours.shape == expected.shape
    np.testing.assert_array_equal(ours, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(ours)[numbers], np.signbit(expected)[numbers])
