"""What an allocation can be told, with the values of a careful user."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from secateur.errors import SparsityError
from secateur.registry import unknown
from secateur.sparsity.sensitivity import SensitivityTable

Decay = Literal["linear", "geometric"]


@dataclass(frozen=True)
class AllocationOptions:
    """What an allocation can be told. Each one reads what concerns it; the bounds concern all.

    cap                   the largest level of one layer
    floor                 the smallest density of one layer
    level_max_factor      no level above target * this; 1 leaves nothing but the uniform allocation
    density_min_factor    no density below (1 - target) * this; likewise
    tolerance             how far the total may be from the target, where an allocation moves in steps. MSBench's .015
                          is more than what separates two rows of a table
    power                 exponent of erk and er
    tuning, decay         of energy: by how much early layers get less, and in which form
    sensitivity           of sensitivity: what every layer costs at every level
    bound                 of sensitivity: the largest cost, in place of a target
    raises                SparsityError  a number that makes no sense
    """

    cap: float = 0.99
    floor: float = 0.0
    level_max_factor: float | None = None
    density_min_factor: float | None = None
    tolerance: float = 0.002
    power: float = 1.0
    tuning: float = 0.5
    decay: Decay = "linear"
    sensitivity: SensitivityTable | None = None
    bound: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.cap <= 1.0:
            raise SparsityError(f"a cap is above 0 and at most 1, not {self.cap}.")
        if not 0.0 <= self.floor < 1.0:
            raise SparsityError(f"a floor is a density of at least 0 and below 1, not {self.floor}.")
        for name, value in (("tuning", self.tuning), ("tolerance", self.tolerance)):
            if not 0.0 <= value <= 1.0:
                raise SparsityError(f"{name} is a number from 0 to 1, not {value}.")
        for name, value in (
            ("power", self.power),
            ("level_max_factor", self.level_max_factor),
            ("density_min_factor", self.density_min_factor),
            ("bound", self.bound),
        ):
            if value is not None and not (math.isfinite(value) and value >= 0.0):
                raise SparsityError(f"{name} is a number of at least 0, not {value}.")
        if self.decay not in get_args(Decay):
            raise SparsityError(unknown("decay", self.decay, get_args(Decay)))


def check_level(name: str, level: float) -> None:
    """raises SparsityError unless the level of the layer `name` is a fraction"""
    if not 0.0 <= level <= 1.0:
        raise SparsityError(f"{name}: a level is a fraction from 0 to 1, not {level}.")
