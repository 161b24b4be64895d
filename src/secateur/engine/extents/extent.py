"""Bytes that a step touches, counted from the address in an argument.

A kernel checks nothing while it runs: it goes where its numbers and tables send it. What they say is worked out here
once, for all units of the step together, so that a table that leads out of its buffer is found before the first run:

    @extents_of(StridedCopy)
    def strided_copy(step: Reader) -> Iterator[Extent]: ...
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secateur.engine.program import Step

Ints = NDArray[np.int64]


class Fault(Exception):  # noqa: N818 (it is a clause, which validate makes a sentence of)
    """What is wrong with a step, as a clause; engine.validate says where."""


class Extent(NamedTuple):
    """From byte `low` to byte `high` (not included) behind the address in `field`; "scratch" is the thread's own."""

    field: str
    low: int
    high: int
    write: bool = False


class Common:
    """What steps have in common: tables, of which each is looked at once.

    steps    of a program, in any order
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.known: dict[tuple[int, object], Any] = {}
        self._readers: dict[str, dict[int, list[Step]]] = {}

    def readers(self, field: str, table: NDArray[Any]) -> Sequence[Step]:
        """The steps whose argument `field` is this table."""
        if field not in self._readers:
            found: dict[int, list[Step]] = {}
            for step in self.steps:
                if field in step.arguments:
                    found.setdefault(id(step.arguments[field]), []).append(step)
            self._readers[field] = found
        return self._readers[field][id(table)]

    def once(self, table: NDArray[Any], key: object, compute: Callable[[], Any]) -> Any:
        """What is computed from a table, kept for the steps that have the same one."""
        place = id(table), key
        if place not in self.known:
            self.known[place] = compute()
        return self.known[place]


class Reader:
    """Arguments of a step, as a kernel reads them.

    lanes     floats of a vector
    common    with the other steps of the program
    """

    def __init__(self, step: Step, lanes: int, common: Common) -> None:
        self.step = step
        self.kernel: Any = step.kernel
        self.units = step.units
        self.lanes = lanes
        self.common = common

    def integer(self, field: str) -> int:
        """An argument that is a whole number."""
        value = self.step.arguments[field]
        if not isinstance(value, int):
            raise Fault(f"'{field}' is no whole number")
        return value

    def integers(self, *fields: str) -> Iterator[int]:
        """Several of them."""
        return (self.integer(field) for field in fields)

    def table(self, field: str, count: int, kind: type[np.generic] = np.int64) -> NDArray[Any]:
        """The first `count` entries of a table, as one row."""
        value = self.step.arguments[field]
        if not isinstance(value, np.ndarray) or value.dtype != kind:
            raise Fault(f"'{field}' is no table of {kind.__name__}")
        if not 0 < count <= value.size:
            raise Fault(f"'{field}' has {value.size} entries; {count} are read")
        return value.reshape(-1)[:count]

    def records(self, field: str, words: int, kind: type[np.generic]) -> NDArray[Any]:
        """A whole table of records of `words` numbers."""
        value = self.step.arguments[field]
        if not isinstance(value, np.ndarray) or value.dtype != kind or value.size % words:
            raise Fault(f"'{field}' is no table of {words} {kind.__name__} per record")
        return value.reshape(-1, words)

    def check(self, field: str, kind: type[np.generic], count: int) -> NDArray[Any]:
        """A table of at least `count` numbers."""
        value = self.step.arguments[field]
        if not isinstance(value, np.ndarray) or value.dtype != kind or value.size < count:
            raise Fault(f"'{field}' is no table of {count} {kind.__name__}")
        return value

    def rows(self, parts: str) -> int:
        """Rows that the units are parts of."""
        return -(-self.units // positive(self.integer(parts), parts))

    def end(self, length: str, part: str, parts: str) -> int:
        """Where a row that is cut into parts ends."""
        return min(self.integer(length), self.integer(part) * positive(self.integer(parts), parts))


def positive(value: int, field: str) -> int:
    """A number that a kernel divides by or counts with."""
    if value <= 0:
        raise Fault(f"'{field}' is {value}; it must be positive")
    return value


def span(*steps: tuple[int, int]) -> tuple[int, int]:
    """Least and greatest of the sums  i step  with 0 <= i < count  over all (step, count)."""
    reach = [step * max(count - 1, 0) for step, count in steps]
    return sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)


def floats(field: str, starts: NDArray[Any] | int, low: int, high: int, *, write: bool = False) -> Extent:
    """Floats from starts + low to starts + high (not included), for every start."""
    least, most = (starts, starts) if isinstance(starts, int) else (int(starts.min()), int(starts.max()))
    return Extent(field, 4 * (least + low), 4 * (most + high), write)


Extents = Callable[[Reader], Iterator[Extent]]
_known: dict[type, Extents] = {}


def extents_of(kernel: type) -> Callable[[Extents], Extents]:
    """Register what kernels of a class touch."""

    def register(function: Extents) -> Extents:
        _known[kernel] = function
        return function

    return register


def extents(step: Step, lanes: int, common: Common) -> list[Extent]:
    """All that a step touches beside single numbers; nothing for kernels that nobody described.

    raises    Fault
    """
    known = _known.get(type(step.kernel))
    return list(known(Reader(step, lanes, common))) if known else []


def described() -> Collection[type]:
    """Classes of kernels that are described."""
    return _known
