"""Which pattern the zeros of a weight matrix form; found in the zeros, not declared (ENGINE.md 3.14).

    fill(N) = nonzeros / (N x blocks with a nonzero)        blocks: N neighbouring output channels at one position
    1xN     = the largest N in 2..32 with fill(N) >= 0.95

A block pattern is further "of whole kernels" when all taps of a kernel are kept or gone together.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BLOCKS = tuple(range(2, 33))
FILL = 0.95
DENSE = 0.995
_SCREENED_COLUMNS = 128


@dataclass(frozen=True)
class Pattern:
    """What the zeros of one layer look like.

    kind        dense (no zeros worth a word), unstructured, or blocks
    n           output channels per block; 1 unless kind is blocks
    kernels     blocks cover whole kernels
    density     nonzeros / weights
    fill        nonzeros / elements of kept blocks
    empty_rows  output channels without a nonzero
    fills       N -> fill, for block lengths that come into question
    single      of quads: the same for their weights one by one
    """

    kind: str
    n: int
    kernels: bool
    density: float
    fill: float
    empty_rows: int
    fills: dict[int, float]
    single: "Pattern | None" = None

    @cached_property
    def sparsity(self) -> float:
        """Zeros / weights."""
        return 1 - self.density

    def __str__(self) -> str:
        if self.kind == "dense":
            return "dense"
        name = "unstructured" if self.kind == "unstructured" else f"1x{self.n}" + ("" if self.kernels else "-fine")
        text = f"{name} {100 * self.sparsity:.1f} %"
        return text + (f", fill {self.fill:.2f}" if self.kind == "blocks" and self.fill < 0.995 else "")


def detect(weight: NDArray[np.generic], groups: int = 1) -> Pattern:
    """The pattern of a weight (O, C / groups, kh, kw) or (O, K)."""
    rows = len(weight)
    kept = (weight != 0).reshape(rows, -1)
    count = int(np.count_nonzero(kept))
    words = packed(kept if count < kept.size else kept[:, :1])
    density = count / kept.size if kept.size else 0.0
    empty = rows - int(np.count_nonzero(words.any(axis=1)))
    lengths = _candidates(kept, groups) if density <= DENSE else []
    fills = {n: count / max(occupied(words, n, groups), 1) for n in lengths}
    matching = [n for n, fill in fills.items() if fill >= FILL]
    kind, n = "unstructured", 1
    if density > DENSE:
        kind = "dense"
    elif matching and count:
        kind, n = "blocks", max(matching)
    taps = int(np.prod(weight.shape[2:])) if weight.ndim == 4 else 1
    kernels = count == kept.size or _whole_kernels(kept, taps)
    return Pattern(kind, n, kernels, density, fills.get(n, 1.0), empty, fills)


def packed(kept: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """(rows, columns / 64) one bit for each element: blocks are looked for with a 64th of the work."""
    bits = np.packbits(kept, axis=1)
    whole = np.zeros((len(kept), -(-bits.shape[1] // 8) * 8), np.uint8)
    whole[:, : bits.shape[1]] = bits
    return whole.view(np.uint64)


def occupied(words: NDArray[np.uint64], n: int, groups: int) -> int:
    """Elements of the 1xN blocks with a nonzero; blocks do not cross groups of a grouped convolution."""
    per_group = len(words) // groups
    if not words.size:
        return 0
    blocks = -(-per_group // n)
    starts = np.arange(0, per_group, n)
    if groups > 1:
        starts = (np.arange(groups)[:, None] * per_group + starts).reshape(-1)
    used = np.bitwise_or.reduceat(words, starts, axis=0)
    missing = blocks * n - per_group  # the last block of a group may be shorter
    return n * _ones(used) - (missing * _ones(used[blocks - 1 :: blocks]) if missing else 0)


def _ones(words: NDArray[np.uint64]) -> int:
    bits = np.unpackbits(np.ascontiguousarray(words).reshape(-1).view(np.uint8))
    return int(np.count_nonzero(bits.view(np.bool_)))


def _candidates(kept: NDArray[np.bool_], groups: int) -> list[int]:
    """Block lengths that a sample of the columns does not rule out."""
    rows = len(kept) // groups
    # numpy packs columns that lie next to each other ten times as fast.
    words = packed(np.ascontiguousarray(kept[:, :: max(1, kept.shape[1] // _SCREENED_COLUMNS)]))
    count = _ones(words)
    ruled_out: set[int] = set()
    for n in BLOCKS:
        if n > rows:
            break
        # Longer blocks that consist of these are no better filled.
        if n not in ruled_out and count < 0.9 * occupied(words, n, groups):
            ruled_out.update(range(n, BLOCKS[-1] + 1, n))
    return [n for n in BLOCKS if n <= rows and n not in ruled_out]


def _whole_kernels(kept: NDArray[np.bool_], taps: int) -> bool:
    if taps == 1:
        return True
    # Most weights without whole kernels show it in their first row.
    return all(_rows_of_kernels(part, taps) for part in (kept[:1], kept))


def _rows_of_kernels(kept: NDArray[np.bool_], taps: int) -> bool:
    bits = kept.view(np.uint8).reshape(-1, taps)
    # Adding whole columns: numpy's sum along so short an axis takes four times as long.
    per_kernel = np.zeros(len(bits), np.uint32)
    for tap in range(taps):
        per_kernel += bits[:, tap]
    # A kept kernel may hold a weight that happens to be zero.
    return bool(np.all((per_kernel == 0) | (per_kernel >= taps - 1)))
