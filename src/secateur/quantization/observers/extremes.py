"""Ranges from extremes: of all numbers, their moving mean over batches, their mean over images.

    minmax     min x, max x
    moving     e_0 of the first batch ,  e <- decay e + (1 - decay) e_batch        for both ends
    average    mean over images of min x and max x

Source: minmax and moving: Jacob et al. 2018; average: Distiller's AVG clipping.
"""

from secateur.errors import RecipeError
from secateur.quantization.numbers import Numbers
from secateur.quantization.observer import Observer, observers
from secateur.quantization.seen import Seen


@observers.register("minmax")
class MinMax(Observer):
    """Everything that was seen."""

    def choose(self, numbers: Numbers) -> tuple[float, float]:
        facts = self.seen.statistics()
        return facts.min, facts.max


@observers.register("moving")
class Moving(Observer):
    """The exponential mean of the batches' extremes; it depends on the order and the size of the batches."""

    needs_histogram = True

    def __init__(self, seen: Seen | None = None, decay: float = 0.9) -> None:
        super().__init__(seen)
        if not 0 <= decay < 1:
            raise RecipeError(f"a moving mean decays by a share from 0 to below 1, not {decay}.")
        self.decay = decay

    def choose(self, numbers: Numbers) -> tuple[float, float]:
        low, high = self.seen.extremes[0]
        for next_low, next_high in self.seen.extremes[1:]:
            low = self.decay * low + (1 - self.decay) * next_low
            high = self.decay * high + (1 - self.decay) * next_high
        return low, high


@observers.register("average")
class Average(Observer):
    """The mean over images of each image's extremes."""

    def choose(self, numbers: Numbers) -> tuple[float, float]:
        facts = self.seen.statistics()
        return facts.avg_min, facts.avg_max
