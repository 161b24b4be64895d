"""Which entries of the values of an ONNX file stay when channels go.

the entries of a value that stay are a box: some indices of every axis, in their old order
"""

import math

import numpy as np
from numpy.typing import NDArray

from secateur.channels.groups import IntArray
from secateur.channels.onnx_table import OnnxTrace

Flags = NDArray[np.bool_]


class Boxes:
    """Looks at values through the channels that go.

    gone    (atoms,) whether the channel of an atom goes
    """

    def __init__(self, trace: OnnxTrace, gone: Flags) -> None:
        self.trace, self._gone = trace, gone
        self._known: dict[str, list[Flags] | None] = {}

    def flags(self, atoms: IntArray) -> Flags:
        """Which atoms stay; what is of no channel does."""
        return (atoms < 0) | ~self._gone[np.maximum(atoms, 0)]

    def axes(self, name: str) -> list[Flags] | None:
        """Which indices of each axis of a value stay; None where what stays is no box."""
        if name not in self._known:
            self._known[name] = self._axes(name)
        return self._known[name]

    def _axes(self, name: str) -> list[Flags] | None:
        if name not in self.trace.values:
            return [np.ones(side, bool) for side in self.trace.shape(name)]
        ids = self.trace.of(name)
        short = ids[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in ids.strides)]
        kept = self.flags(short)
        found = [kept.any(axis=tuple(i for i in range(kept.ndim) if i != axis)) for axis in range(kept.ndim)]
        if kept.sum() != math.prod(int(flags.sum()) for flags in found):
            return None
        return [np.broadcast_to(flags, side) for flags, side in zip(found, ids.shape, strict=True)]

    def is_whole(self, name: str) -> bool:
        """Whether nothing of a value goes."""
        axes = self.axes(name)
        return axes is not None and all(flags.all() for flags in axes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value that is a box."""
        axes = self.axes(name)
        assert axes is not None
        return tuple(int(flags.sum()) for flags in axes)
