"""What is searched: decisions in order, each an action between a lower bound and 1.

    state of decision l --learner--> action --problem--> share of layer l, ..., table of all shares --> reward

A problem remembers nothing: what has been decided so far is given to it as the list of shares.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

State = NDArray[np.float32]


class Problem(Protocol):
    """One decision after the other.

    names    of the layers or groups that are decided on, in order
    width    numbers of a state
    low      smallest action
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def width(self) -> int: ...

    @property
    def low(self) -> float: ...

    def state(self, shares: Sequence[float]) -> State:
        """What the learner sees after the first len(shares) decisions; zeros after the last one."""
        ...

    def share(self, shares: Sequence[float], action: float) -> float:
        """What the next action comes to, once it is cut so that the target stays within reach."""
        ...

    def stored(self, action: float, share: float) -> float:
        """The action as the learner is to remember it."""
        ...

    def reward(self, shares: Sequence[float], accuracy: float) -> float:
        """What a whole table is worth. accuracy: a fraction."""
        ...

    def description(self) -> dict[str, Any]:
        """Plain JSON: all that makes two problems different."""
        ...


def by_maximum(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every column divided by its maximum; a column of zeros stays."""
    largest = columns.max(axis=0)
    return columns / np.where(largest > 0, largest, 1.0)
