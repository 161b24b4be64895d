"""Ranges from mean and spread.

    n_std      mean -+ n std
    gauss      mean -+ alpha std ,   alpha minimises the squared error of clipping and rounding a normal distribution
    laplace    mean -+ alpha b ,     the same of a Laplace distribution

Values of one sign use all their integers on one side: they get the alpha of one bit more, and 0 as their other end.

Source: n_std: Distiller's N_STD; gauss and laplace: Banner et al. 2019 (ACIQ), table of Distiller.
"""

from collections.abc import Mapping

from secateur.errors import RecipeError
from secateur.quantization.numbers import Numbers
from secateur.quantization.observer import Observer, observers
from secateur.quantization.seen import Seen, Statistics

# bits -> alpha; of more bits than 9 that of 9.
GAUSS = {2: 1.71, 3: 2.15, 4: 2.55, 5: 2.93, 6: 3.28, 7: 3.61, 8: 3.92, 9: 4.2}
LAPLACE = {2: 2.83, 3: 3.89, 4: 5.03, 5: 6.2, 6: 7.41, 7: 8.64, 8: 9.89, 9: 11.16}


@observers.register("n_std")
class NStd(Observer):
    """n standard deviations to both sides of the mean."""

    def __init__(self, seen: Seen | None = None, n: float = 3.0) -> None:
        super().__init__(seen)
        if not n > 0:
            raise RecipeError(f"a range is a positive number of standard deviations wide, not {n}.")
        self.n = n

    def choose(self, numbers: Numbers) -> tuple[float, float]:
        facts = self.seen.statistics()
        return facts.mean - self.n * facts.std, facts.mean + self.n * facts.std


@observers.register("gauss")
class Gauss(Observer):
    """Best clipping of numbers that are distributed normally."""

    def choose(self, numbers: Numbers) -> tuple[float, float]:
        facts = self.seen.statistics()
        return _around_mean(facts, GAUSS, facts.std, numbers)


@observers.register("laplace")
class Laplace(Observer):
    """Best clipping of numbers that fall off exponentially to both sides."""

    def choose(self, numbers: Numbers) -> tuple[float, float]:
        facts = self.seen.statistics()
        return _around_mean(facts, LAPLACE, facts.b, numbers)


def _around_mean(
    facts: Statistics, alphas: Mapping[int, float], spread: float, numbers: Numbers
) -> tuple[float, float]:
    one_sign = facts.min >= 0 or facts.max <= 0
    reach = alphas[min(numbers.bits + one_sign, max(alphas))] * spread
    return (
        0.0 if facts.min >= 0 else facts.mean - reach,
        0.0 if facts.max <= 0 else facts.mean + reach,
    )
