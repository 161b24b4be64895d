"""What is known of the values of an ONNX file while its nodes are walked over, and what rules do with it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.channels.groups import IntArray, Role
from secateur.channels.ids import ChannelIds
from secateur.channels.onnx_network import OnnxNetwork, View
from secateur.graph.ir import Graph, Node
from secateur.registry import Registry


@dataclass(frozen=True)
class Reader:
    """A node whose weight mixes channels: it may take over what a channel without a reader leaves behind.

    weight      the stored tensor as the node reads it
    reads       axis of the view that runs over the channels that it reads; of one group, where there are several
    makes       axis of the view that runs over the channels that it makes
    columns     (channels,) atoms that it reads
    rows        (outputs,) atoms that it makes
    """

    node: Node
    weight: View
    reads: int
    makes: int
    columns: IntArray
    rows: IntArray
    groups: int = 1


@dataclass(frozen=True)
class Shuffle:
    """Reshapes and transposes that together pick channels of a value in another order.

    picks    channel i of the target is channel picks[i] of the source
    """

    nodes: tuple[Node, ...]
    source: str
    target: str
    axis: int
    picks: IntArray


@dataclass
class OnnxTrace:
    """The ids of values, and what was found on the way.

    values      value -> ids, in its shape; constants and values of unknown shape have none
    readers     nodes that mix channels, in order
    shuffles    chains of nodes that only reorder channels
    done        names of nodes whose outputs are known before their turn
    """

    network: OnnxNetwork
    ids: ChannelIds = field(default_factory=ChannelIds)
    values: dict[str, IntArray] = field(default_factory=dict[str, IntArray])
    readers: list[Reader] = field(default_factory=list[Reader])
    shuffles: list[Shuffle] = field(default_factory=list[Shuffle])
    done: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self._uses: set[tuple[str, str, int]] = set()
        self._nodes = self.graph.readers()
        self._statistics = {
            name for node in self.graph.nodes if node.op == "BatchNormalization" for name in node.inputs[3:5]
        }
        for name, shape in self.network.stored.items():
            self.ids.tensor(name, shape, parameter=bool(shape) and name not in self._statistics)

    @property
    def graph(self) -> Graph:
        return self.network.graph

    # ------------------------------------------------------------------------------------------------- asking

    def nodes_of(self, name: str) -> list[Node]:
        """The nodes that read a value."""
        return self._nodes.get(name, [])

    def is_value(self, name: str) -> bool:
        return name in self.values

    def shape(self, name: str) -> tuple[int, ...]:
        return self.graph.shape(name)

    def of(self, name: str) -> IntArray:
        """Ids of a value; a constant is of no channel."""
        found = self.values.get(name)
        return np.broadcast_to(np.int64(-1), self.shape(name)) if found is None else found

    def along(self, name: str, axis: int) -> IntArray:
        """One atom per index of an axis of a value."""
        return self.ids.along(self.of(name), axis)

    def varies(self, name: str, axis: int) -> bool:
        return self.ids.varies(self.of(name), axis)

    def constant(self, name: str) -> NDArray[Any] | None:
        return self.graph.constants.get(name)

    # ------------------------------------------------------------------------------------------------ telling

    def set(self, name: str, ids: IntArray) -> None:
        """The ids of a result, broadcast to its shape."""
        if name:
            self.values[name] = np.broadcast_to(ids, self.shape(name))

    def freeze(self, node: Node, reason: str) -> None:
        """All channels that a node reads stay."""
        for name in node.reads():
            if name in self.values:
                self.ids.freeze(self.values[name], reason)

    def produced(self, node: Node, view: View, axis: int, role: Role = "producer") -> IntArray:
        """Atoms of the axis of a stored tensor that an axis of a view is."""
        stored = self._stored(node, view, axis)
        return self.ids.produced(view.tensor, stored, self.network.stored[view.tensor][stored], role)

    def member(self, node: Node, view: View, axis: int, atoms: IntArray, role: Role, groups: int = 1) -> None:
        """Entry i of an axis of a view belongs to the channel of atoms[i]."""
        self.ids.member(view.tensor, self._stored(node, view, axis), atoms, role, groups)

    def applied(self, view: View, positions: int) -> None:
        """A weight is applied so often to one image."""
        self.ids.tensor(view.tensor, self.network.stored[view.tensor], positions // max(self.batch, 1))

    @property
    def batch(self) -> int:
        """Images that the graph computes at once."""
        shape = self.shape(self.graph.inputs[0]) if self.graph.inputs else ()
        return shape[0] if shape else 1

    def _stored(self, node: Node, view: View, axis: int) -> int:
        stored = view.axes[axis]
        assert stored is not None, "an axis of length 1 has no channels"
        self._uses.add((node.name, view.tensor, stored))
        return stored

    def close(self) -> None:
        """Outputs of the network stay, and tensors that a node reads in a way that no rule told of."""
        for name in self.graph.outputs:
            # A node whose output has no known shape has frozen what it reads.
            if name in self.values:
                self.ids.freeze(self.values[name], "output of the network")
        axes = {(tensor, axis) for _, tensor, axis in self._uses}
        for node in self.graph.nodes:
            for name in node.reads():
                view = self.network.view(name) if self.graph.types.get(name) else None
                if view is None or (node.op in ("Identity", "Cast", "Transpose", "Squeeze", "Unsqueeze")):
                    continue
                for axis, length in enumerate(self.network.stored[view.tensor]):
                    if (view.tensor, axis) in axes and (node.name, view.tensor, axis) not in self._uses:
                        atoms = self.ids.produced(view.tensor, axis, length)
                        self.ids.freeze(atoms, f"{view.tensor} is also read by {called(node)}")


Rule = Callable[[OnnxTrace, Node], None]
onnx_rules: Registry[Rule] = Registry("ONNX operator")


def rule(names: str) -> Callable[[Rule], Rule]:
    """Decorator that files a rule under the names of ONNX operators, separated by spaces."""
    return onnx_rules.register(*names.split())


def refuse(trace: OnnxTrace, node: Node, reason: str) -> None:
    """What a node reads is frozen, and what it writes is of no channel."""
    trace.freeze(node, reason)
    for name in node.outputs:
        if name in trace.graph.types:
            trace.set(name, np.broadcast_to(np.int64(-1), trace.shape(name)))


def called(node: Node) -> str:
    return f"{node.op} '{node.name}'"


def lined(atoms: IntArray, axis: int, ndim: int) -> IntArray:
    """Atoms as an axis of an array of `ndim` axes, the others of length 1."""
    return atoms.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])


def mixed(trace: OnnxTrace, name: str, axes: Iterable[int]) -> bool:
    """Whether any of these axes of a value is an axis of channels."""
    return any(trace.varies(name, axis) for axis in axes)
