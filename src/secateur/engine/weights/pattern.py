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
    """

    kind: str
    n: int
    kernels: bool
    density: float
    fill: float
    empty_rows: int
    fills: dict[int, float]

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


def detect(weight: NDArray[np.float32], groups: int = 1) -> Pattern:
    """The pattern of a weight (O, C / groups, kh, kw) or (O, K)."""
    rows = len(weight)
    kept = (weight != 0).reshape(rows, -1)
    count = int(np.count_nonzero(kept))
    density = count / kept.size if kept.size else 0.0
    empty = rows - int(np.count_nonzero(kept.any(axis=1)))
    lengths = _candidates(kept, groups) if density <= DENSE else []
    fills = {n: count / max(occupied(kept, n, groups), 1) for n in lengths}
    matching = [n for n, fill in fills.items() if fill >= FILL]
    kind, n = "unstructured", 1
    if density > DENSE:
        kind = "dense"
    elif matching and count:
        kind, n = "blocks", max(matching)
    return Pattern(kind, n, _whole_kernels(weight, kept), density, fills.get(n, 1.0), empty, fills)


def occupied(kept: NDArray[np.bool_], n: int, groups: int = 1) -> int:
    """Elements of the 1xN blocks with a nonzero; blocks do not cross groups of a grouped convolution."""
    per_group = len(kept) // groups
    starts = np.array([g * per_group + i for g in range(groups) for i in range(0, per_group, n)])
    if not kept.size:
        return 0
    used = np.bitwise_or.reduceat(kept.view(np.uint8), starts, axis=0)
    sizes = np.diff(np.append(starts, len(kept)))
    return int(np.count_nonzero(used, axis=1) @ sizes)


def _candidates(kept: NDArray[np.bool_], groups: int) -> list[int]:
    """Block lengths that a sample of the columns does not rule out."""
    rows = len(kept) // groups
    sample = kept[:, :: max(1, kept.shape[1] // _SCREENED_COLUMNS)]
    count = int(np.count_nonzero(sample))
    lengths = [n for n in BLOCKS if n <= rows]
    return [n for n in lengths if count >= 0.9 * occupied(np.ascontiguousarray(sample), n, groups)]


def _whole_kernels(weight: NDArray[np.float32], kept: NDArray[np.bool_]) -> bool:
    taps = int(np.prod(weight.shape[2:])) if weight.ndim == 4 else 1
    if taps == 1:
        return True
    per_kernel = np.count_nonzero(kept.reshape(len(kept), -1, taps), axis=2)
    # A kept kernel may hold a weight that happens to be zero.
    return bool(np.all((per_kernel == 0) | (per_kernel >= taps - 1)))
