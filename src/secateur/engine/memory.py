"""Where the buffers of a program lie in its arena.

A buffer is alive from the first to the last step that reads or writes it. Buffers of one group that are never alive
together may share memory: the largest is placed first, each into the smallest gap that fits (best fit). In front of
every group, and behind the last, are GUARD bytes that stay what stands for 0 in the group, because vectors read a
little past a buffer's ends.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import lcm

from secateur.engine.layout import next_multiple
from secateur.engine.program import Buffer, Step

GUARD = 4096 + 64
LINE = 64


@dataclass(frozen=True)
class Region:
    """The memory of one group: `size` bytes from byte `start` of the arena, behind `guard` bytes of `fill`."""

    group: str
    start: int
    size: int
    zeroed: bool
    guard: int = GUARD
    fill: int = 0


@dataclass(frozen=True)
class Plan:
    """The arena: `size` bytes with guards, and the byte at which each buffer begins."""

    regions: tuple[Region, ...]
    places: Mapping[Buffer, int]
    size: int


def lifetimes(steps: Sequence[Step]) -> dict[Buffer, tuple[int, int]]:
    """First and last step of every buffer of the arena. A zeroed buffer that is only read lives all the time."""
    spans: dict[Buffer, tuple[int, int]] = {}
    written: set[Buffer] = set()
    for index, step in enumerate(steps):
        written.update(step.writes)
        for buffer in (*step.reads, *step.writes):
            if not buffer.external:
                spans[buffer] = (spans.get(buffer, (index, index))[0], index)
    for buffer in spans.keys() - written:
        spans[buffer] = (0, len(steps) - 1)
    return spans


def plan_memory(steps: Sequence[Step]) -> Plan:
    """The arena of these steps."""
    spans = lifetimes(steps)
    groups: dict[str, list[Buffer]] = {}
    for buffer in spans:
        groups.setdefault(buffer.group, []).append(buffer)
    regions: list[Region] = []
    places: dict[Buffer, int] = {}
    end = 0
    for group, buffers in groups.items():
        # The zeros in front of a group of planes are the padding above its first one: as many as between planes.
        guard = max([GUARD, *(buffer.align * buffer.item for buffer in buffers if buffer.zeroed)])
        start = next_multiple(end + guard, LINE)
        inside, size = _place(buffers, spans)
        places.update({buffer: start + offset for buffer, offset in inside.items()})
        regions.append(Region(group, start, size, buffers[0].zeroed, start - end, buffers[0].fill))
        end = start + size
    return Plan(tuple(regions), places, next_multiple(end + GUARD, LINE))


def _place(buffers: Iterable[Buffer], spans: Mapping[Buffer, tuple[int, int]]) -> tuple[dict[Buffer, int], int]:
    """Byte of each buffer inside the memory of its group, and the bytes of the group."""
    placed: list[tuple[int, int, int, int]] = []  # begin, end, first step, last step; in order
    offsets: dict[Buffer, int] = {}
    for buffer in sorted(buffers, key=lambda buffer: (-buffer.size * buffer.item, spans[buffer], buffer.name)):
        first, last = spans[buffer]
        size, align = buffer.size * buffer.item, lcm(buffer.align * buffer.item, LINE)
        best, best_gap = 0, -1
        free = 0
        for begin, end, other_first, other_last in placed:
            if other_last < first or last < other_first:
                continue
            gap = begin - free
            if size <= gap and (best_gap < 0 or gap < best_gap):
                best, best_gap = free, gap
            free = max(free, next_multiple(end, align))
        offset = best if best_gap >= 0 else free
        offsets[buffer] = offset
        placed.append((offset, offset + size, first, last))
        placed.sort()
    return offsets, max((end for _, end, _, _ in placed), default=0)
