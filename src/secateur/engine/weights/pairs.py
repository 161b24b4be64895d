"""Weights rounded to bf16, as pairs: those of two neighbouring input channels as one number of 32 bits.

    word[o, k, ...] = bf16(w[o, 2k, ...]) + 2^16 bf16(w[o, 2k + 1, ...])                        16 bits each

A word is zero when both are, so what is known about zeros of float weights holds for words: streams leave them out,
and patterns are found among them.
"""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import pairs_of


def bf16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of each number rounded as emit.pairs says; zeros, and what becomes zero, without a sign."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    nearest = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    nearest[np.isnan(values)] = (bits[np.isnan(values)] | 0x400000) >> 16
    nearest[np.abs(values) < np.finfo(np.float32).tiny] = 0
    return nearest.astype(np.uint16)


def weight_pairs(weight: NDArray[np.float32]) -> NDArray[np.uint32]:
    """(O, C, ...) -> (O, ceil(C / 2), ...), a zero in place of a missing channel."""
    o, c = weight.shape[:2]
    words = np.zeros((o, pairs_of(c), *weight.shape[2:]), np.uint32)
    bits = bf16_bits(weight)
    words[:] = bits[:, ::2]
    words[:, : c // 2] |= bits[:, 1::2].astype(np.uint32) << 16
    return words
