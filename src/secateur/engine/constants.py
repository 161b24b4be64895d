"""The constants of a program: weights and tables next to each other, in read-only memory.

Arrays move in while a network is compiled, layer after layer, so that no two copies of all weights exist at any time.
A vector may read a little past an array's ends: there lies another constant, or GUARD bytes of zeros.
"""

import weakref
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.engine.memory import GUARD, LINE
from secateur.engine.pages import Pages
from secateur.engine.program import Step

Array = NDArray[Any]

_GUARD = -(-GUARD // LINE) * LINE
# Address space costs nothing until it is written.
_LEAST = 1 << 20


class Constants:
    """Blocks of pages that fill up; a block that is full is followed by another.

    size    bytes in use, guards included
    """

    def __init__(self, expected: int = _LEAST) -> None:
        """`expected` bytes make the first block."""
        self._expected = max(expected, _LEAST)
        self._blocks: list[Pages] = []
        self._end = 0
        # By identity: what was moved, for as long as it exists, and the arrays that it became.
        self._moved: dict[int, tuple[weakref.ref[Array], Array]] = {}
        self._placed: dict[int, Array] = {}
        self.size = 0

    def moved(self, step: Step) -> Step:
        """The same step with its constants in this memory."""
        arguments = {
            name: self.place(value) if isinstance(value, np.ndarray) else value
            for name, value in step.arguments.items()
        }
        return replace(step, arguments=arguments)

    def place(self, array: Array) -> Array:
        """The array in this memory, aligned to 64 bytes; itself if it lies here. An array that comes again is shared.

        raises    EngineError  the system has no memory
        """
        known = self._moved.get(id(array))
        if known is not None and known[0]() is array:
            return known[1]
        if self._placed.get(id(array)) is array or self._holds(array):
            return array
        placed = self._copied(array)
        self._moved[id(array)] = weakref.ref(array), placed
        self._placed[id(placed)] = placed
        return placed

    def seal(self) -> None:
        """From now on a write into this memory ends the process; nothing else can be placed."""
        self._moved.clear()
        self._placed.clear()
        for block in self._blocks:
            block.make_read_only()

    def _holds(self, array: Array) -> bool:
        if not self._blocks:
            return False
        begin: int = array.__array_interface__["data"][0]
        return any(
            block.address <= begin and begin + array.nbytes <= block.address + block.bytes.size
            for block in self._blocks
        )

    def _copied(self, array: Array) -> Array:
        size = -(-array.nbytes // LINE) * LINE
        if not self._blocks or self._end + size + _GUARD > self._blocks[-1].bytes.size:
            self._blocks.append(Pages(max(self._expected, size + 2 * _GUARD)))
            self._end = _GUARD
            self.size += 2 * _GUARD
        there = self._blocks[-1].bytes[self._end : self._end + array.nbytes]
        self._end += size
        self.size += size
        placed = there.view(array.dtype).reshape(array.shape)
        placed[...] = array
        placed.flags.writeable = False
        return placed
