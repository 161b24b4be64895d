"""Sums of products of whole numbers, exactly.

Products are at most 255 x 128 and a sum has fewer than 2^31 of them, so float64 holds every partial sum; the result is
taken modulo 2^32 as 32-bit registers do.
"""

from collections.abc import Sequence

import numpy as np

from secateur.graph.quantized.grid import Bytes, Integers, centred


def convolution(
    x: Bytes, zero: int, w: Bytes, strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int], group: int
) -> Integers:
    """Sums of (x - zero) w over every window; padding is zero.

    x          (n, c, h, w);  w  (o, c / group, kh, kw)
    pads       (top, left, bottom, right)
    returns    (n, o, rows, columns)
    """
    n, o, kernel = len(x), len(w), w.shape[2:]
    top, left, bottom, right = pads
    padded = np.pad(centred(x, zero).astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows, columns = (
        (side - (k - 1) * d - 1) // s + 1
        for side, k, s, d in zip(padded.shape[2:], kernel, strides, dilations, strict=True)
    )
    matrix = w.astype(np.float64).reshape(group, o // group, -1)
    total = np.zeros((n, group, o // group, rows * columns))
    taps = matrix.reshape(group, o // group, w.shape[1], *kernel)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            y, z = i * dilations[0], j * dilations[1]
            window = padded[:, :, y : y + (rows - 1) * strides[0] + 1 : strides[0]]
            window = window[:, :, :, z : z + (columns - 1) * strides[1] + 1 : strides[1]]
            total += taps[:, :, :, i, j] @ window.reshape(n, group, w.shape[1], rows * columns)
    return _wrapped(total).reshape(n, o, rows, columns)


def product(x: Bytes, zero: int, w: Bytes) -> Integers:
    """Sums of (x - zero) w over the last side of x.

    x          (..., k);  w  (o, k)
    returns    (..., o)
    """
    return _wrapped(centred(x, zero).astype(np.float64) @ w.astype(np.float64).T)


def _wrapped(total: np.ndarray) -> Integers:
    return total.astype(np.int64).astype(np.int32)
