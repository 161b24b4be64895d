"""8-bit weights as quads: those of four neighbouring input channels as one number of 32 bits.

    word[o, k, ...] = w[o, 4k, ...] + 2^8 w[o, 4k + 1, ...] + 2^16 w[o, 4k + 2, ...] + 2^24 w[o, 4k + 3, ...]   bytes

A word is zero when all four are, so what is known about zeros of float weights holds for words: streams leave them out,
and patterns are found among them.
"""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import quads_of


def weight_quads(weight: NDArray[np.int8]) -> NDArray[np.uint32]:
    """(O, C, ...) -> (O, ceil(C / 4), ...), zeros in place of missing channels."""
    o, c = weight.shape[:2]
    padded = np.zeros((o, quads_of(c), 4, *weight.shape[2:]), np.uint8)
    padded.reshape(o, -1, *weight.shape[2:])[:, :c] = weight.view(np.uint8)
    words = np.ascontiguousarray(np.moveaxis(padded, 2, -1)).view("<u4")
    return words.reshape(words.shape[:-1]).astype(np.uint32, copy=False)


def single_channels(words: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """(O, C / 4, ...) quads -> (O, C, ...) weights, as far as they are zero or not; no channels that only fill up."""
    bytes_ = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)
    single = np.ascontiguousarray(np.moveaxis(bytes_, -1, 2)).reshape(len(words), -1, *words.shape[2:])
    count = single.shape[1]
    added = 3 if count else 0
    while added and single[:, count - added :].any():
        added -= 1
    return single[:, : count - added]


def row_sums(weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """(O,) sums of the weights of each output."""
    return weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int64)


def reach(weight: NDArray[np.int8], bias: NDArray[np.int32] | None) -> NDArray[np.int64]:
    """(O,) the largest magnitude that a sum of products with numbers of 8 bits can have, bias included."""
    sizes = np.abs(weight.reshape(len(weight), -1).astype(np.int16)).sum(axis=1, dtype=np.int64) * 255
    return sizes if bias is None else sizes + np.abs(bias.reshape(-1).astype(np.int64))
