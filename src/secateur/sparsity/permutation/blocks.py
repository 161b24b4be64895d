"""Orders of filters in which 1xN blocks lose less: filters that use the same inputs share a block.

    kept(order) = sum of |w| over the blocks that stay;  the floor(s * blocks) lowest of a layer go

    sorted     ascending L1 norm of the filters (1xN paper)
    similar    the sum of the K highest of all blocks is  min over t of  K t + sum over blocks of max(block - t, 0),
               so for a fixed threshold t every block row counts by itself; from the sorted order and from one that
               is built greedily (each block begins with the largest filter left and takes in those that add most),
               the best exchange of one filter each of two blocks is made in rounds of pairs, t being set anew after
               each sweep; the best order seen counts, sorted and unchanged order included
    balanced   the same after every filter has been scaled to one norm: it keeps less magnitude than similar, but does
               not put weak filters into blocks that then go as a whole. Behind a batch norm a weak filter counts as
               much as a strong one: a trained ResNet-20 with 30 % in 1x4 blocks, at once and without training, has
               63.8 % top-1 (unchanged 52.7, similar 27.2, sorted 23.0; CIFAR-10, 1000 images)

Source: Lin et al. 2022, "1xN Pattern for Pruning Convolutional Neural Networks" (sorted). Similar and balanced are our
own design; sorted puts filters of one size together, which need not use the same inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from secateur.sparsity.permutation.rounds import rounds_of_pairs
from secateur.sparsity.permutation.stripes import FloatArray, IntArray
from secateur.sparsity.rounding import removed_count

Rule = Literal["balanced", "similar", "sorted"]
WORK = 500_000_000
_GAIN = 1e-9


@dataclass(frozen=True, eq=False)
class BlockRows:
    """The filters of one layer, as far as blocks look at them.

    scores    (filters, columns) sum of |w| of what a filter adds to the block of each column: an input channel or
              one input position
    level     fraction of the blocks that go
    """

    scores: FloatArray
    level: float

    def kept(self, order: IntArray, n: int) -> float:
        """Magnitude of the blocks that stay when filter order[i] stands at place i."""
        sums, sizes = _blocks(self.scores[order], n)
        means = (sums / sizes[:, None]).ravel()
        removed = removed_count(means.size, self.level)
        if removed == 0:
            return float(sums.sum())
        highest = np.argpartition(means, removed - 1)[removed:]
        return float(sums.ravel()[highest].sum())

    def threshold(self, order: IntArray, n: int) -> float:
        """The mean score per filter up to which blocks go."""
        sums, sizes = _blocks(self.scores[order], n)
        means = (sums / sizes[:, None]).ravel()
        removed = removed_count(means.size, self.level)
        return float(np.partition(means, removed - 1)[removed - 1]) if removed else -np.inf


def sorted_order(norms: NDArray[np.floating]) -> IntArray:
    """Filters by their L1 norm, the lowest first; equal ones in index order."""
    return np.argsort(norms, kind="stable").astype(np.int64)


def balanced_rows(layer: BlockRows) -> BlockRows:
    """The same filters, each scaled to the mean norm of all; one of zeros stays."""
    norms = layer.scores.sum(axis=1, keepdims=True)
    scale = np.divide(norms.mean(), norms, out=np.zeros_like(norms), where=norms > 0)
    return BlockRows(layer.scores * scale, layer.level)


def similar_order(layers: Sequence[BlockRows], n: int, *, seed: int = 0, work: int = WORK) -> IntArray:
    """One order of the filters that all `layers` share, in which blocks of `n` keep most.

    layers     of the same number of filters; what they keep is summed
    work       numbers that may be looked at
    returns    (filters,) int64; never worse than `sorted_order`, nor than the order as it is
    """
    filters = len(layers[0].scores)
    columns = np.concatenate([layer.scores for layer in layers], axis=1).astype(np.float32)
    identity = np.arange(filters, dtype=np.int64)
    by_norm = sorted_order(columns.sum(axis=1, dtype=np.float64))
    seen = [identity, by_norm]
    random = np.random.default_rng(seed)
    starts = [by_norm]
    cost = filters * columns.size
    if cost <= work // 4:
        starts.append(_grown(columns, _thresholds(layers, by_norm, n), n))
        work -= cost
    for start in starts:
        seen += _refined(layers, columns, start, n, random, work // len(starts))
    return max(seen, key=lambda order: sum(layer.kept(order, n) for layer in layers))


def _blocks(rows: FloatArray, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(blocks, columns) sums, and the filters of each block: n, fewer in the last."""
    tops = np.arange(0, len(rows), n)
    sums = np.add.reduceat(rows.astype(np.float64), tops, axis=0)
    return sums, np.minimum(n, len(rows) - tops).astype(np.float64)


def _thresholds(layers: Sequence[BlockRows], order: IntArray, n: int) -> FloatArray:
    """(columns of all layers,) the threshold of a filter's share of a block."""
    parts = [np.full(layer.scores.shape[1], layer.threshold(order, n)) for layer in layers]
    # Where nothing goes, every order keeps the same: the value plays no part, but must be finite.
    return np.nan_to_num(np.concatenate(parts), neginf=0.0).astype(np.float32)


def _grown(columns: FloatArray, thresholds: FloatArray, n: int) -> IntArray:
    """Blocks built one after the other: the largest filter left, then those with which it keeps most."""
    order: list[int] = []
    norms = columns.sum(axis=1)
    left = np.arange(len(columns))
    above = columns - thresholds
    while len(left):
        at = int(norms[left].argmax())
        block = above[left[at]].copy()
        order.append(int(left[at]))
        left = np.delete(left, at)
        for _ in range(min(n - 1, len(left))):
            at = int(np.maximum(above[left] + block, 0.0).sum(axis=1).argmax())
            block += above[left[at]]
            order.append(int(left[at]))
            left = np.delete(left, at)
    return np.array(order, dtype=np.int64)


def _refined(
    layers: Sequence[BlockRows],
    columns: FloatArray,
    start: IntArray,
    n: int,
    random: np.random.Generator,
    work: int,
) -> list[IntArray]:
    """The orders after each sweep of exchanges, the start first."""
    order, found = start.copy(), [start]
    stripes = len(order) // n
    best = sum(layer.kept(order, n) for layer in layers)
    while stripes > 1 and work > 0:
        above = columns - _thresholds(layers, order, n)
        for pairs in rounds_of_pairs(stripes, random):
            work -= len(pairs) * n * n * columns.shape[1] * 4
            _exchange_(order, above, pairs, n)
            if work <= 0:
                break
        found.append(order.copy())
        kept = sum(layer.kept(order, n) for layer in layers)
        if kept <= best + 1e-5 * abs(best):
            break
        best = kept
    return found


def _exchange_(order: IntArray, above: FloatArray, pairs: IntArray, n: int) -> None:
    """Of each pair of blocks, the best exchange of one filter each, where one gains."""
    places = pairs[:, :, None] * n + np.arange(n)
    held = above[order[places]]
    sums = held.sum(axis=2)
    before = np.maximum(sums, 0.0).sum(axis=(1, 2))
    best, choice = before + _GAIN * np.maximum(1.0, before), np.full(len(pairs), -1)
    for number, (i, j) in enumerate(np.ndindex(n, n)):
        change = held[:, 1, j] - held[:, 0, i]
        value = np.maximum(sums[:, 0] + change, 0.0).sum(axis=1) + np.maximum(sums[:, 1] - change, 0.0).sum(axis=1)
        better = value > best
        best[better], choice[better] = value[better], number
    gaining = np.flatnonzero(choice >= 0)
    left = places[gaining, 0, choice[gaining] // n]
    right = places[gaining, 1, choice[gaining] % n]
    order[left], order[right] = order[right], order[left]
