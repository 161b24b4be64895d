"""Ranges from mean and spread.

    n_std      mean -+ n std
    gauss      mean -+ alpha std ,   alpha minimises the squared error of clipping and rounding a normal distribution
    laplace    mean -+ alpha b ,     the same of a Laplace distribution

Of values that are never negative the folded distributions with alpha for one more bit are taken (ACIQ's fused ReLU):
range 0 to alpha' of the spread about 0, where b is the mean and std the root of the mean square.

Source: n_std: Distiller's N_STD; gauss and laplace: Banner et al. 2019 (ACIQ), table of Distiller.
"""

import math

from secateur.errors import RecipeError
from secateur.quantization.numbers import Numbers
from secateur.quantization.observer import Observer, observers
from secateur.quantization.seen import Seen

# bits -> alpha, for 2 to 8 bits.
GAUSS = {2: 1.71, 3: 2.15, 4: 2.55, 5: 2.93, 6: 3.28, 7: 3.61, 8: 3.92}
LAPLACE = {2: 2.83, 3: 3.89, 4: 5.03, 5: 6.2, 6: 7.41, 7: 8.64, 8: 9.89}
# The same for values of one sign.
HALF_GAUSS = {2: 1.86, 3: 2.28, 4: 2.66, 5: 3.02, 6: 3.36, 7: 3.69, 8: 4.2}
HALF_LAPLACE = {2: 3.89, 3: 5.02, 4: 6.2, 5: 7.41, 6: 8.64, 7: 9.89, 8: 11.16}


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
        bits = min(max(numbers.bits, 2), 8)
        if facts.min >= 0:
            return 0.0, HALF_GAUSS[bits] * math.hypot(facts.std, facts.mean)
        return facts.mean - GAUSS[bits] * facts.std, facts.mean + GAUSS[bits] * facts.std


@observers.register("laplace")
class Laplace(Observer):
    """Best clipping of numbers that fall off exponentially to both sides."""

    def choose(self, numbers: Numbers) -> tuple[float, float]:
        facts = self.seen.statistics()
        bits = min(max(numbers.bits, 2), 8)
        if facts.min >= 0:
            return 0.0, HALF_LAPLACE[bits] * facts.mean
        return facts.mean - LAPLACE[bits] * facts.b, facts.mean + LAPLACE[bits] * facts.b
