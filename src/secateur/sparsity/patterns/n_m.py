"""N:M: of every M consecutive input channels N weights stay.

    view     convolutions (kh kw C_out) x C_in, linear weights as they are; groups of M along a row
    kept     the N largest scores of a group; of equal ones the first go
    level    1 - N/M when every group has the pattern; below that, the groups that lose the least share of their
             scores get it and the others stay dense, so that a schedule may rise
    skip     multiple       C_in (per group) divisible by M, otherwise the layer stays dense
             tensor_core    also C_out divisible by 8 and C_in by 16: what sparse tensor cores take; "2:4/tensor_core"
             pad            an incomplete last group counts as if zeros filled it up;                "2:4/pad"

Source: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (2:4, m4n2_1d). Which groups come first
while a level rises is our own design.
"""

import re
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.errors import SparsityError
from secateur.graph.layer_count import Kind
from secateur.registry import unknown
from secateur.sparsity.pattern import Combine, Pattern, Remainder, pattern_kind
from secateur.sparsity.rounding import Rounding, removed_count

Skip = Literal["multiple", "tensor_core", "pad"]
LARGEST = 64
_SPEC = re.compile(r"(\d+):(\d+)(?:/([a-z_]+))?")


@dataclass(frozen=True)
class FixedLevel(Pattern):
    """What N:M in one and in two dimensions share: a unit has the pattern or is dense."""

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m <= LARGEST:
            raise SparsityError(f"{self} is not possible: N:M keeps 1 to M - 1 weights of M, M at most {LARGEST}.")

    def lacks_input_channels(self, shape: tuple[int, ...], groups: int) -> str | None:
        """Why a weight has no input channels to choose among; None where it has some."""
        if len(shape) < 2:
            return f"{self} needs a weight of two or more dimensions"
        if groups > 1 and shape[1] == 1:
            return f"{self} does not apply to depthwise convolutions: every filter has one input channel"
        return None

    @property
    def fixed_level(self) -> float | None:
        return 1 - self.n / self.m

    def removed_units(
        self, shape: tuple[int, ...], sparsity: float, rounding: Rounding = "floor", groups: int = 1
    ) -> int:
        most = 1 - self.n / self.m
        if not 0.0 <= sparsity <= most + 1e-6:
            raise SparsityError(f"{self} removes at most {most:g} of the weights, not {sparsity:g}.")
        return removed_count(self.units(shape, groups), min(sparsity / most, 1.0), rounding)


@pattern_kind
@dataclass(frozen=True)
class NM(FixedLevel):
    """N of M consecutive input channels stay.

    skip    which layers stay dense
    """

    skip: Skip = "multiple"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip not in get_args(Skip):
            raise SparsityError(unknown("rule of N:M", self.skip, get_args(Skip)))

    @classmethod
    def parse(cls, spec: str, remainder: Remainder) -> Self | None:
        match = _SPEC.fullmatch(spec)
        if match is None:
            return None
        return cls(int(match[1]), int(match[2]), match[3] or "multiple")  # pyright: ignore[reportArgumentType]

    @classmethod
    def examples(cls) -> tuple[str, ...]:
        return ("2:4", "1:4", "4:8", "2:4/tensor_core", "2:4/pad")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}" + (f"/{self.skip}" if self.skip != "multiple" else "")

    def applies(self, shape: tuple[int, ...], groups: int = 1, kind: Kind = "conv") -> str | None:
        if (reason := self.lacks_input_channels(shape, groups)) is not None:
            return reason
        each = " per group" if groups > 1 else ""
        has = f"it has {shape[1]}"
        if self.skip == "pad":
            needs = f"{self} needs at least {self.n + 1} input channels{each}, {has}"
            return None if shape[1] > self.n else needs
        if shape[1] % self.m:
            return f"{self} needs a multiple of {self.m} input channels{each}, {has}; or use {self.n}:{self.m}/pad"
        if self.skip == "tensor_core" and (shape[0] % 8 or shape[1] % 16):
            return f"sparse tensor cores need 8k filters and 16k input channels{each}, it has {shape[0]} and {shape[1]}"
        return None

    def units(self, shape: tuple[int, ...], groups: int = 1) -> int:
        rows, whole, rest = self._rows(shape)
        return rows * (whole + (rest > self.n))

    def prunable(self, shape: tuple[int, ...], groups: int = 1) -> int:
        # So many that the largest level makes exactly the zeros of all groups, the incomplete ones included.
        return self._most_zeros(shape) * self.m // (self.m - self.n)

    def zeros(self, shape: tuple[int, ...], sparsity: float, rounding: Rounding = "floor", groups: int = 1) -> int:
        units = self.units(shape, groups)
        return self.removed_units(shape, sparsity, rounding, groups) * self._most_zeros(shape) // units if units else 0

    def group_scores(self, scores: Tensor, groups: int = 1, combine: Combine = "mean") -> Tensor:
        """The share of its scores that a group loses; `combine` plays no part."""
        grouped, real, removed = self._grouped(scores)
        values = torch.where(real, grouped, 0.0).double()
        total = values.abs().sum(-1)
        lost = (values * removed).sum(-1) / torch.where(total == 0, 1.0, total)
        return lost.flatten()

    def mask_of(self, kept: Tensor, scores: Tensor, groups: int = 1) -> Tensor:
        grouped, _, removed = self._grouped(scores)
        rows = self._rows(tuple(scores.shape))[0]
        stays = ~removed
        stays |= kept.reshape(grouped.shape[:-1])[..., None]
        covered = stays.reshape(rows, -1)
        channels = scores.shape[1]
        mask = torch.ones((rows, channels), dtype=torch.bool, device=scores.device)
        width = min(channels, covered.shape[1])
        mask[:, :width] = covered[:, :width]
        positions = scores.shape[2:]
        return mask.reshape(*positions, *scores.shape[:2]).movedim((-2, -1), (0, 1)).contiguous()

    def _rows(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Rows of the view, whole groups of a row, channels of the incomplete one."""
        rows = shape[0]
        for extent in shape[2:]:
            rows *= extent
        whole, rest = divmod(shape[1], self.m)
        return rows, whole, rest if self.skip == "pad" else 0

    def _most_zeros(self, shape: tuple[int, ...]) -> int:
        rows, whole, rest = self._rows(shape)
        return rows * (whole * (self.m - self.n) + max(rest - self.n, 0))

    def _grouped(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(rows, groups, M): scores, which of them are real and not padding, and which go in the pattern."""
        rows, whole, rest = self._rows(tuple(scores.shape))
        view = scores.movedim((0, 1), (-2, -1)).reshape(rows, -1)
        width = whole * self.m + (rest if rest > self.n else 0)
        view = view[:, :width]
        view = F.pad(view, (0, -width % self.m), value=float("-inf")).reshape(rows, -1, self.m)
        real = view > float("-inf")
        # Padding is the lowest, so it goes first, and real weights make up the rest of the M - N.
        return view, real, (_ranks(view) < self.m - self.n) & real


def _ranks(values: Tensor) -> Tensor:
    """How many of a group come before each of its values: smaller ones, and equal ones with a lower index."""
    # Counting takes a fifth of the time of sorting, for groups of 4.
    parts = values.unbind(-1)
    ranks = [torch.zeros(part.shape, dtype=torch.int8, device=part.device) for part in parts]
    for low, high in combinations(range(len(parts)), 2):
        later = parts[low] <= parts[high]
        ranks[high] += later
        ranks[low] += ~later
    return torch.stack(ranks, -1)
