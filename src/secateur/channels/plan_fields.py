"""Fields of plans that came from outside: each reader raises TypeError or ValueError for anything else."""

import math
from typing import Any

_LIMIT = 2**62


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LIMIT:
        raise ValueError(f"{value!r} is no whole number")
    return value


def pair(value: Any) -> tuple[int, int]:
    before, after = value
    return whole(before), whole(after)


def number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)
