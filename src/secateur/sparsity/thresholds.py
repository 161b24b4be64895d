"""Threshold rules: units of weights go by their size alone; how many that are, the weights decide.

    threshold      keep  |w| > t
    sensitivity    keep  |w| > q sigma          sigma: deviation of the layer's weights, taken once
    baidu          keep  |w| > eps(e)           r = start + offset, f = every
                   slope = 2 q f / (2 (r - start) + 3 (end - r))
                   eps(e) = slope (e - start + 1) / f                                             e < r
                          = (slope (r - start + 1) + slope mult (e - r + 1)) / f                  e >= r
    splice         a = (mu + q sigma) low,  b = (mu + q sigma) high      mu, sigma: of |w|, taken once
                   |w| < a goes, |w| >= b comes back, what lies between stays as it is
                   q grows: q (1 + growth (e - start))

|w| is the size of a unit: its largest weight, or the mean of its magnitudes; of a single weight both are |w|.

Source: Distiller (MagnitudeParameterPruner, SensitivityPruner, BaiduRNNPruner, SplicingPruner); Han et al. 2015;
Narang et al. 2017 (exploring sparsity in recurrent networks); Guo, Yao & Chen 2016 (dynamic network surgery).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from secateur.errors import SparsityError
from secateur.sparsity.schedule import Unit, check_window, due_every

Size = Literal["max", "mean_abs"]


@dataclass(frozen=True)
class WeightStatistics:
    """Of one layer's dense weights, as they were when masks were chosen for the first time.

    deviation         of the weights
    magnitude         mean of their magnitudes
    magnitude_deviation    deviation of the magnitudes;  both deviations divide by n - 1
    """

    deviation: float
    magnitude: float
    magnitude_deviation: float

    @classmethod
    def of(cls, weight: Tensor) -> "WeightStatistics":
        values = weight.detach().double().cpu().flatten()
        sizes = values.abs()
        if len(values) < 2:
            return cls(0.0, float(sizes.sum()), 0.0)
        return cls(float(values.std()), float(sizes.mean()), float(sizes.std()))


@dataclass(frozen=True, kw_only=True)
class ThresholdRule(ABC):
    """When masks are chosen, and which units stay then; epochs from `start` to below `end` (None: to the last)."""

    start: int = 0
    end: int | None = None
    every: int = 1
    of: Size = "mean_abs"

    def __post_init__(self) -> None:
        check_window(self.start, self.end, self.every)

    @property
    def unit(self) -> Unit:
        return "epoch"

    @property
    def first(self) -> int:
        return self.start

    @property
    def stop(self) -> int | None:
        return self.end

    def due(self, position: int) -> bool:
        return due_every(position, self.start, self.end, self.every)

    def scheduled(self, epoch: int) -> int:
        """The last scheduled epoch at or before `epoch`: the threshold stays between two of them."""
        last = epoch if self.end is None else min(epoch, self.end - 1)
        return self.start + (last - self.start) // self.every * self.every

    @property
    def names(self) -> frozenset[str] | None:
        """The layers that the rule says something of; None: any."""
        return None

    @abstractmethod
    def keep(self, layer: str, sizes: Tensor, kept: Tensor, known: WeightStatistics, epoch: int) -> Tensor:
        """Which units stay, as booleans in their order.

        sizes    one per unit
        kept     the units that are there now
        """


@dataclass(frozen=True, kw_only=True)
class FixedThresholds(ThresholdRule):
    """layer -> t: units larger than t stay."""

    thresholds: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def names(self) -> frozenset[str] | None:
        return frozenset(self.thresholds)

    def keep(self, layer: str, sizes: Tensor, kept: Tensor, known: WeightStatistics, epoch: int) -> Tensor:
        return sizes > self.thresholds[layer]


@dataclass(frozen=True, kw_only=True)
class Sensitivities(ThresholdRule):
    """layer -> q: units larger than q deviations of the layer's weights stay."""

    sensitivities: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def names(self) -> frozenset[str] | None:
        return frozenset(self.sensitivities)

    def keep(self, layer: str, sizes: Tensor, kept: Tensor, known: WeightStatistics, epoch: int) -> Tensor:
        return sizes > self.sensitivities[layer] * known.deviation


@dataclass(frozen=True, kw_only=True)
class SpliceRule(ThresholdRule):
    """layer -> q: small units go, large ones come back, what lies between stays as it is."""

    sensitivities: Mapping[str, float] = field(default_factory=dict[str, float])
    low: float = 0.9
    high: float = 1.1
    growth: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.low <= self.high:
            raise SparsityError(f"splicing needs low above 0 and at most high, not {self.low:g} and {self.high:g}.")

    @property
    def names(self) -> frozenset[str] | None:
        return frozenset(self.sensitivities)

    def bounds(self, layer: str, known: WeightStatistics, epoch: int) -> tuple[float, float]:
        """(a, b) of an epoch."""
        q = self.sensitivities[layer] * (1.0 + self.growth * (self.scheduled(epoch) - self.start))
        middle = known.magnitude + q * known.magnitude_deviation
        return middle * self.low, middle * self.high

    def keep(self, layer: str, sizes: Tensor, kept: Tensor, known: WeightStatistics, epoch: int) -> Tensor:
        low, high = self.bounds(layer, known, epoch)
        return torch.where(sizes < low, False, torch.where(sizes >= high, True, kept))


@dataclass(frozen=True, kw_only=True)
class BaiduRamp(ThresholdRule):
    """One threshold for all layers, which rises slowly at first and `slope_mult` times as fast from `offset` on."""

    end: int  # type: ignore[assignment]
    q: float
    offset: int
    slope_mult: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.offset <= self.end - self.start:
            raise SparsityError(
                f"the offset {self.offset} of a baidu ramp must lie within its epochs {self.start} to {self.end}."
            )

    def threshold_at(self, epoch: int) -> float:
        """eps of an epoch; 0 before the start."""
        if epoch < self.start:
            return 0.0
        at, ramp = self.scheduled(epoch), self.start + self.offset
        slope = 2 * self.q * self.every / (2 * (ramp - self.start) + 3 * (self.end - ramp))
        if at < ramp:
            return slope * (at - self.start + 1) / self.every
        return (slope * (ramp - self.start + 1) + slope * self.slope_mult * (at - ramp + 1)) / self.every

    def keep(self, layer: str, sizes: Tensor, kept: Tensor, known: WeightStatistics, epoch: int) -> Tensor:
        return sizes > self.threshold_at(epoch)
