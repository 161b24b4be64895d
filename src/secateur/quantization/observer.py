"""What an observer is: numbers go in, a range comes out. One file per family in observers/."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from secateur.errors import QuantizationError, RecipeError
from secateur.quantization.numbers import Numbers, Scale, scale_of_range
from secateur.quantization.seen import Seen
from secateur.registry import Registry


class Observer(ABC):
    """Chooses the range of one value.

    needs_histogram    False where saved statistics are enough
    """

    needs_histogram = False

    def __init__(self, seen: Seen | None = None) -> None:
        """`seen` may be shared by several observers."""
        self.seen = Seen() if seen is None else seen

    def add(self, batch: NDArray[Any]) -> None:
        """Take a batch into account, images on the first axis. raises QuantizationError for NaN and infinity."""
        self.seen.add(batch)

    def range(self, numbers: Numbers) -> tuple[float, float]:
        """(low, high), not beyond the extremes that were seen. raises QuantizationError."""
        if self.needs_histogram and not self.seen.has_histogram:
            raise QuantizationError(
                f"{type(self).__name__} needs a histogram, which saved statistics do not have; calibrate with images, "
                f"or take minmax, average, n_std, gauss or laplace."
            )
        facts = self.seen.statistics()
        low, high = self.choose(numbers)
        return min(max(low, facts.min), facts.max), max(min(high, facts.max), facts.min)

    def scale(self, numbers: Numbers) -> Scale:
        """The scale of the range. raises QuantizationError."""
        return scale_of_range(*self.range(numbers), numbers)

    @abstractmethod
    def choose(self, numbers: Numbers) -> tuple[float, float]:
        """(low, high); `range` cuts them off at the extremes."""


observers: Registry[Callable[..., Observer]] = Registry("observer")


def make_observer(name: str, seen: Seen, options: Mapping[str, Any] | None = None) -> Observer:
    """The observer of this name. raises RecipeError for an unknown name, or options that it does not have."""
    maker = observers[name]
    try:
        return maker(seen, **(options or {}))
    except TypeError as error:
        raise RecipeError(f"observer '{name}' does not take these options: {error}.") from error
