"""What is known of every tensor while a network runs once: its ids, or which parameter it shows.

A value of the network has ids (`secateur.channels.ids`). A view of a parameter has coordinates instead: for every
axis of the parameter the index that each entry of the view came from, so that a transposed or reshaped weight is
still known axis by axis. Everything else is a constant, of no channel.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from secateur.channels.groups import IntArray
from secateur.channels.ids import ChannelIds
from secateur.registry import Registry


@dataclass(frozen=True)
class Weight:
    """A view of a parameter or buffer.

    coordinates    axis of the parameter (of those longer than 1) -> index there, in the shape of the view
    """

    name: str
    shape: tuple[int, ...]
    coordinates: dict[int, Tensor]

    def axis(self, view_axis: int) -> int | None:
        """The axis of the parameter that an axis of the view runs over, from first to last; None if none does."""
        for axis, coordinate in self.coordinates.items():
            others = [i for i in range(coordinate.ndim) if i != view_axis % coordinate.ndim]
            if any(coordinate.stride(i) and coordinate.shape[i] > 1 for i in others):
                continue
            line = coordinate[tuple(0 if i in others else slice(None) for i in range(coordinate.ndim))]
            if line.numel() == self.shape[axis] and torch.equal(line, torch.arange(self.shape[axis])):
                return axis
        return None

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Weight":
        return Weight(self.name, self.shape, {axis: move(index) for axis, index in self.coordinates.items()})


@dataclass(frozen=True)
class Call:
    """One operator that ran. `name` has no trailing underscore: in place or not, channels meet alike."""

    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        """An argument by its position or its name."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)

    def tensors(self) -> Iterator[Tensor]:
        yield from (leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor))


class SideTable:
    """The ids of values and the coordinates of weights, and what rules do with both."""

    def __init__(self, network: nn.Module) -> None:
        self.ids = ChannelIds()
        self._values: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._weights: WeakIdKeyDictionary = WeakIdKeyDictionary()
        for name, parameter in network.named_parameters():
            self._declare(name, parameter, True)
        for name, buffer in network.named_buffers():
            self._declare(name, buffer, False)

    def _declare(self, name: str, tensor: Tensor, parameter: bool) -> None:
        self.ids.tensor(name, tuple(tensor.shape), parameter=parameter)
        coordinates: dict[int, Tensor] = {}
        for axis, length in enumerate(tensor.shape):
            if length > 1:
                line = torch.arange(length).reshape([-1 if i == axis else 1 for i in range(tensor.ndim)])
                coordinates[axis] = line.expand(tensor.shape)
        self._weights[tensor] = Weight(name, tuple(tensor.shape), coordinates)

    # ------------------------------------------------------------------------------------------------- asking

    def knows(self, tensor: Tensor) -> bool:
        return tensor in self._values or tensor in self._weights

    def is_value(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor) and tensor in self._values

    def weight(self, tensor: Any) -> Weight | None:
        return self._weights.get(tensor) if isinstance(tensor, Tensor) else None

    def vector(self, tensor: Any) -> str | None:
        """The name of the parameter with one entry per channel that a tensor is."""
        weight = self.weight(tensor)
        if weight is None or len(weight.shape) != 1 or tensor.numel() != weight.shape[0]:
            return None
        return weight.name if tensor.numel() == 1 or weight.axis(0) == 0 else None

    def plain(self, tensor: Any) -> Weight | None:
        """The parameter that a tensor is, axis by axis in its own order; None for any other view."""
        weight = self.weight(tensor)
        if weight is None or tuple(tensor.shape) != weight.shape:
            return None
        return weight if all(weight.axis(axis) == axis for axis in weight.coordinates) else None

    def of(self, tensor: Tensor) -> IntArray:
        """Ids of any tensor; a parameter along one axis makes channels of its own, any other one is fixed."""
        found = self._values.get(tensor)
        if found is not None:
            return found.numpy()
        weight = self.weight(tensor)
        if weight is not None and len(weight.coordinates) == 1:
            ((axis, index),) = weight.coordinates.items()
            return self.ids.produced(weight.name, axis, weight.shape[axis], "parameter")[index.numpy()]
        if weight is not None:
            self.fix(tensor, "its weight is computed from another")
        return np.broadcast_to(np.int64(-1), tuple(tensor.shape))

    # ------------------------------------------------------------------------------------------------ telling

    def set(self, tensor: Tensor, ids: IntArray) -> None:
        """The ids of a result, broadcast to its shape; a result of no channel at all is a constant."""
        whole = np.broadcast_to(ids, tuple(tensor.shape))
        if (whole >= 0).any():
            self._values[tensor] = _repeating(whole)

    def set_weight(self, tensor: Tensor, weight: Weight) -> None:
        self._weights[tensor] = weight

    def fix(self, tensor: Tensor, reason: str) -> None:
        """A value or a parameter keeps all its channels."""
        weight = self.weight(tensor)
        if weight is not None:
            for axis in weight.coordinates:
                length = weight.shape[axis]
                self.ids.freeze(self.ids.produced(weight.name, axis, length, "parameter"), reason)
        elif tensor in self._values:
            self.ids.freeze(self._values[tensor].numpy(), reason)

    def along(self, tensor: Tensor, axis: int) -> IntArray:
        """One atom per index of an axis of a value."""
        return self.ids.along(self.of(tensor), axis)

    def varies(self, tensor: Tensor, axis: int) -> bool:
        return self.ids.varies(self.of(tensor), axis)


Rule = Callable[[SideTable, Call], None]
operator_rules: Registry[Rule] = Registry("operator")


def rule(names: str) -> Callable[[Rule], Rule]:
    """Decorator that files a rule under the names of ATen operators, separated by spaces, no trailing underscores."""
    return operator_rules.register(*names.split())


def lined(atoms: IntArray, axis: int, ndim: int) -> IntArray:
    """Atoms as an axis of an array of `ndim` axes, the others of length 1."""
    return atoms.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])


def _repeating(array: IntArray) -> Tensor:
    """The array as a tensor; what repeats by stride 0 repeats in it too."""
    base = array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]
    return torch.from_numpy(np.array(base)).expand(array.shape)
