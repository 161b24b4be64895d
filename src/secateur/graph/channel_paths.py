"""Where the channels of a value go, as long as they stay apart.

Activate, ScaleShift, Pool, GlobalPool and depthwise Conv keep channels apart; Concat along the channels moves them; a
Reshape to two dimensions spreads each over neighbouring columns. Conv of one group and Linear mix them: there a path
ends, in a sink. On the way, a channel that is the same number everywhere stays one, if no zero padding joins it.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secateur.graph.activations import apply_activation
from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import is_fused

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Place:
    """Channel c of the producer is `spread` coordinates of axis 1 of a value, from base + c spread on."""

    value: str
    base: int
    spread: int

    def indices(self, channels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Coordinates of these channels."""
        return (self.base + channels[:, None] * self.spread + np.arange(self.spread)).reshape(-1)


@dataclass(frozen=True)
class Sink:
    """A node that mixes the channels.

    needed     (channels,) whether a weight that reads the channel is not zero
    absorbs    (channels,) whether the channel is one number, `values`, that the bias can take over
    """

    node: Node
    place: Place
    needed: Flags
    absorbs: Flags
    values: Doubles


@dataclass
class Paths:
    """All places that the channels come to, the nodes in between, and the sinks.

    dead    (channels,) whether every sink can do without the channel
    """

    dead: Flags
    places: list[Place] = field(default_factory=list[Place])
    through: list[Node] = field(default_factory=list[Node])
    sinks: list[Sink] = field(default_factory=list[Sink])


class Readers:
    """Who reads what in a graph, and which columns of their weights are not zero; looked up once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._readers = graph.readers()
        self._columns: dict[str, Flags] = {}

    def of(self, value: str) -> list[Node]:
        """The nodes that read a value."""
        return self._readers.get(value, [])

    def columns(self, weight: str) -> Flags:
        """(columns,) whether an input channel of a weight has anything but zeros."""
        if weight not in self._columns:
            self._columns[weight] = _nonzero_columns(self.graph.constants[weight])
        return self._columns[weight]


def follow(readers: Readers, producer: Node) -> Paths | None:
    """The paths of a Conv's or Linear's channels.

    returns    None where no channel is dead, or where a path leads to anything that is not listed above
    """
    graph = readers.graph
    rows = nonzero_rows(graph.constants[producer.inputs[1]])
    bias = graph.constants[producer.input(2)].astype(np.float64) if producer.input(2) else np.zeros(len(rows))
    slopes = graph.constants[producer.input(4)].astype(np.float64) if producer.input(4) else None
    values = apply_activation(producer.attributes["activation"], bias, slopes)
    walk = _Walk(graph, readers, Paths(np.ones(len(rows), bool)))
    followed = walk.go(Place(producer.outputs[0], 0, 1), values, ~rows & np.isfinite(values))
    return walk.paths if followed and walk.paths.sinks else None


def nonzero_rows(weight: NDArray[np.float32]) -> Flags:
    """(rows,) whether a row of a weight holds anything but zeros."""
    matrix = weight.reshape(len(weight), -1)
    # Most rows show a nonzero early: the whole weight is read only where they do not.
    found: Flags = np.any(matrix[:, :64] != 0, axis=1)
    rest = np.flatnonzero(~found)
    found[rest] = np.any(matrix[rest] != 0, axis=1)
    return found


def _nonzero_columns(weight: NDArray[np.float32]) -> Flags:
    """(columns,) whether an input channel of a weight has anything but zeros."""
    cube = weight.reshape(*weight.shape[:2], -1)
    found: Flags = np.any(cube[:16] != 0, axis=(0, 2))
    rest = np.flatnonzero(~found)
    found[rest] = np.any(cube[:, rest] != 0, axis=(0, 2))
    return found


@dataclass
class _Walk:
    graph: Graph
    readers: Readers
    paths: Paths

    def go(self, place: Place, values: Doubles, known: Flags) -> bool:
        """Follow a value to all its readers; False where the channels cannot be followed."""
        if place.value in self.graph.outputs:
            return False
        self.paths.places.append(place)
        return all(self._reader(node, place, values, known) for node in self.readers.of(place.value))

    def _reader(self, node: Node, place: Place, values: Doubles, known: Flags) -> bool:
        if node.inputs.count(place.value) != 1 or node.captured():
            return False
        if is_fused(node, "Concat"):
            return self._concat(node, place, values, known)
        if node.inputs[0] != place.value:
            return False
        if is_fused(node, "Conv", "Linear"):
            return self._weighted(node, place, values, known)
        if is_fused(node, "Activate"):
            if len(node.inputs) > 1 and place.spread > 1:
                return False
            slopes = self._operand(node, 1, place, len(values)) if len(node.inputs) > 1 else None
            return self._on(node, place, apply_activation(node.attributes["activation"], values, slopes), known)
        if is_fused(node, "ScaleShift") and place.spread == 1:
            scale, shift = (self._operand(node, index, place, len(values)) for index in (1, 2))
            return self._on(node, place, values * scale + shift, known)
        if is_fused(node, "Pool", "GlobalPool"):
            joined = any(node.attributes.get("pads", ())) and node.attributes["kind"] == "average"
            if joined and node.attributes["count_include_pad"]:
                known = known & (values == 0)
            return self._on(node, place, values, known)
        return self._reshape(node, place, values, known) if is_fused(node, "Reshape") else False

    def _operand(self, node: Node, index: int, place: Place, channels: int) -> Doubles:
        """This producer's part of a node's operand of one number per channel."""
        return self.graph.constants[node.inputs[index]][place.base : place.base + channels].astype(np.float64)

    def _on(self, node: Node, place: Place, values: Doubles, known: Flags) -> bool:
        self.paths.through.append(node)
        return self.go(Place(node.outputs[0], place.base, place.spread), values, known & np.isfinite(values))

    def _concat(self, node: Node, place: Place, values: Doubles, known: Flags) -> bool:
        if node.attributes["axis"] != 1:
            return False
        before = node.inputs[: node.inputs.index(place.value)]
        base = place.base + sum(self.graph.shape(name)[1] for name in before)
        return self._on(node, Place(place.value, base, place.spread), values, known)

    def _reshape(self, node: Node, place: Place, values: Doubles, known: Flags) -> bool:
        n, c, *sides = self.graph.shape(place.value)
        area = int(np.prod(sides))
        if tuple(node.attributes["shape"]) != (n, c * area):
            return False
        return self._on(node, Place(place.value, place.base * area, place.spread * area), values, known)

    def _weighted(self, node: Node, place: Place, values: Doubles, known: Flags) -> bool:
        """A convolution or matrix product: a sink, or depthwise and passed through."""
        weight = self.graph.constants[node.inputs[1]]
        padded = any(node.attributes.get("pads", ()))
        if node.op == "Linear" and len(self.graph.shape(place.value)) != 2:
            return False
        if node.op == "Linear" or node.attributes["group"] == 1:
            columns = self.readers.columns(node.inputs[1])[place.indices(np.arange(len(values)))]
            needed: Flags = np.any(columns.reshape(len(values), place.spread), axis=1)
            absorbs = known & (values == 0) if padded else known
            self.paths.sinks.append(Sink(node, place, needed, absorbs, values))
            self.paths.dead &= ~needed | absorbs
            return bool(np.any(self.paths.dead))
        if node.attributes["group"] != len(weight) or weight.shape[1] != 1 or node.input(3):
            return False
        own = weight[place.base : place.base + len(values)].astype(np.float64)
        bias = self._operand(node, 2, place, len(values)) if node.input(2) else np.zeros(len(values))
        slopes = self._operand(node, 4, place, len(values)) if node.input(4) else None
        rows = nonzero_rows(own.astype(np.float32))
        sums = np.where(rows, own.reshape(len(own), -1).sum(1) * np.where(known, values, 0), 0) + bias
        known = ~rows | (known & ((values == 0) | (not padded)))
        return self._on(node, place, apply_activation(node.attributes["activation"], sums, slopes), known)
