"""How many of n groups go at level s.

    floor        floor(s n)        the default, and the rule of Distiller, DeGirum and 1xN
    ceil         ceil(s n)
    nearest      s n rounded, halves up
    complement   n - int((1 - s) n) in double precision, exactly as MSBench: 901 of 1000 at .9
    percentile   round((n - 1) s) + 1, halves to even, as PocketFlow: up to and with the nearest-rank percentile, so
                 that one goes even at s = 0

The first three add or take 1e-6 so that a binary fraction such as .29 * 100 does not lose one.
Ties: `exact` removes exactly that many, equal scores in index order; `threshold` removes everything up to the
score of the last one, as systems do that keep what is strictly greater (more may go, never fewer).
"""

import math
from typing import Literal, get_args

from secateur.errors import SparsityError
from secateur.registry import unknown

Rounding = Literal["floor", "ceil", "nearest", "complement", "percentile"]
Ties = Literal["exact", "threshold"]

_SLACK = 1e-6


def removed_count(n: int, sparsity: float, rounding: Rounding = "floor") -> int:
    """Groups to remove out of `n`, between 0 and `n`.

    raises    SparsityError  a level outside 0..1 or an unknown rounding
    """
    if not 0.0 <= sparsity <= 1.0:
        raise SparsityError(f"a sparsity is a fraction from 0 to 1, not {sparsity}.")
    if rounding == "floor":
        count = math.floor(sparsity * n + _SLACK)
    elif rounding == "ceil":
        count = math.ceil(sparsity * n - _SLACK)
    elif rounding == "nearest":
        count = math.floor(sparsity * n + 0.5 + _SLACK)
    elif rounding == "complement":
        count = n - int((1.0 - sparsity) * n)
    elif rounding == "percentile":
        count = round((n - 1) * sparsity) + 1
    else:
        raise SparsityError(unknown("rounding", rounding, get_args(Rounding)))
    return min(max(count, 0), n)
