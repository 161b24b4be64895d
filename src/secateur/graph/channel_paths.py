"""Where the channels of values go, as long as they stay apart.

Activate, ScaleShift, Pool, GlobalPool, depthwise Conv and the scaling of SqueezeExcite keep channels apart; Concat
along the channels moves them; a Reshape to two dimensions spreads each over neighbouring columns. A sum (Add, or a
residual operand) gives its operands and its result the same channels: they are followed together, forward and back.
Conv of one group and Linear mix channels: paths begin behind them, at producers, and end in front of them, at sinks.
The means that a SqueezeExcite multiplies are a sink too.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secateur.graph.ir import RESIDUAL, Graph, Node
from secateur.graph.rewrite import is_fused

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Place:
    """Channel c is `spread` coordinates of axis 1 of a value, from base + c spread on."""

    value: str
    base: int
    spread: int

    def indices(self, channels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Coordinates of these channels."""
        return (self.base + channels[:, None] * self.spread + np.arange(self.spread)).reshape(-1)


@dataclass(frozen=True)
class Link:
    """A node that writes the channels to a place.

    sources    where it finds them; for a producer, residual operands alone
    """

    node: Node
    sources: tuple[Place, ...]
    target: Place


@dataclass
class Paths:
    """All places that some channels come to, the nodes that write these, and the nodes at the ends.

    useless    (channels,) whether the ends seen so far may do without a channel, as far as can be told on the way
    """

    useless: Flags
    places: set[Place] = field(default_factory=set[Place])
    links: list[Link] = field(default_factory=list[Link])
    sinks: list[tuple[Node, Place]] = field(default_factory=list[tuple[Node, Place]])

    @property
    def channels(self) -> int:
        """How many."""
        return len(self.useless)


class Readers:
    """Who writes and reads what in a graph, and which parts of its weights are zero; looked up once.

    known    the same of an earlier graph, whose constants are those of this one where they have the same names
    """

    def __init__(self, graph: Graph, known: "Readers | None" = None) -> None:
        self.graph = graph
        self.producer = graph.producer()
        self.order = {id(node): index for index, node in enumerate(graph.nodes)}
        self._readers = graph.readers()
        self._columns: dict[str, Flags] = known._columns if known else {}
        self._rows: dict[str, Flags] = known._rows if known else {}

    def of(self, value: str) -> list[Node]:
        """The nodes that read a value."""
        return self._readers.get(value, [])

    def columns(self, weight: str) -> Flags:
        """(columns,) whether an input channel of a weight has anything but zeros."""
        if weight not in self._columns:
            self._columns[weight] = _nonzero_columns(self.graph.constants[weight])
        return self._columns[weight]

    def needed(self, node: Node, place: Place, channels: int) -> Flags:
        """(channels,) whether a weight of a sink that reads the channel is not zero."""
        columns = self.columns(node.inputs[1])[place.indices(np.arange(channels))]
        return np.any(columns.reshape(channels, place.spread), axis=1)

    def rows(self, weight: str) -> Flags:
        """(rows,) whether an output channel of a weight has anything but zeros."""
        if weight not in self._rows:
            self._rows[weight] = _nonzero_rows(self.graph.constants[weight])
        return self._rows[weight]


def follow(readers: Readers, producer: Node) -> tuple[Paths, bool]:
    """The paths of a producer's channels, and of all that are added to them.

    returns    the paths, and whether that is all of them: not where a path leads to an output or input of the graph, or
               to anything that is not listed above, nor where every channel is needed
    """
    channels = len(readers.graph.constants[producer.inputs[1]])
    everything = np.ones(channels, bool)
    walk = _Walk(readers, Paths(everything))
    waiting = [(Place(producer.outputs[0], 0, 1), everything)]
    while waiting:
        place, known = waiting.pop()
        if place not in walk.paths.places:
            more = walk.visit(place, known)
            if more is None or not walk.paths.useless.any():
                return walk.paths, False
            waiting += more
    walk.paths.links.sort(key=lambda link: readers.order[id(link.node)])
    return walk.paths, True


def mixes(graph: Graph, node: Node) -> bool:
    """Whether a node is a Conv of one group, or a Linear of two dimensions."""
    if is_fused(node, "Conv"):
        return node.attributes["group"] == 1
    return is_fused(node, "Linear") and len(graph.shape(node.outputs[0])) == 2


def _nonzero_rows(weight: NDArray[np.float32]) -> Flags:
    matrix = weight.reshape(len(weight), -1)
    # Most rows show a nonzero early: the whole weight is read only where they do not.
    found: Flags = np.any(matrix[:, :64] != 0, axis=1)
    rest = np.flatnonzero(~found)
    found[rest] = np.any(matrix[rest] != 0, axis=1)
    return found


def _nonzero_columns(weight: NDArray[np.float32]) -> Flags:
    cube = weight.reshape(*weight.shape[:2], -1)
    found = np.zeros(cube.shape[1], bool)
    begin, count = 0, 16
    # Most columns show a nonzero early: fewer and fewer are looked at in more and more rows.
    while begin < len(cube) and not found.all():
        rest = np.flatnonzero(~found)
        part = cube[begin : begin + count, rest] if begin else cube[:count]
        found[rest] = np.any(np.any(part != 0, axis=0), axis=1)
        begin, count = begin + count, 2 * count
    return found


@dataclass(frozen=True)
class _Walk:
    """Methods return further places, None where the channels cannot be followed."""

    readers: Readers
    paths: Paths

    @property
    def graph(self) -> Graph:
        return self.readers.graph

    def visit(self, place: Place, known: Flags) -> list[tuple[Place, Flags]] | None:
        """Follow a value to what it is made of and to all its readers.

        known    (channels,) all channels that may be the same number everywhere; more come to be that on the way only
                 behind depthwise filters of zeros
        """
        if place.value in self.graph.outputs:
            return None
        self.paths.places.add(place)
        sources = self._written(place) if self._is_whole(place) else []
        if sources is None:
            return None
        writer = self.readers.producer[place.value]
        if mixes(self.graph, writer):
            known = known & ~self.readers.rows(writer.inputs[1])
        found = [(source, np.ones_like(known)) for source in sources]
        for node in self.readers.of(place.value):
            for index in (index for index, name in enumerate(node.inputs) if name == place.value):
                ends = index == 0 and mixes(self.graph, node)
                if ends or (index == 0 and is_fused(node, "SqueezeExcite")):
                    self._end(node, place, known)
                if ends:
                    continue
                target = None if node.captured() else self._read(node, index, place)
                if target is None:
                    return None
                found.append((target, known | self._zero_filters(node, place)))
                if not self._is_whole(target):
                    self.paths.links.append(Link(node, (place,), target))
        return found

    def _zero_filters(self, node: Node, place: Place) -> Flags:
        """(channels,) behind which filters of a depthwise convolution a channel is one number."""
        if not is_fused(node, "Conv") or mixes(self.graph, node):
            return np.zeros(self.paths.channels, bool)
        return ~self.readers.rows(node.inputs[1])[place.base : place.base + self.paths.channels]

    def _end(self, node: Node, place: Place, known: Flags) -> None:
        self.paths.sinks.append((node, place))
        self.paths.useless &= known | ~self.readers.needed(node, place, self.paths.channels)

    def _is_whole(self, place: Place) -> bool:
        """Whether the value consists of these channels alone; then it shares them with what is added to it."""
        return (place.base, place.spread) == (0, 1) and self.graph.shape(place.value)[1] == self.paths.channels

    def _written(self, place: Place) -> list[Place] | None:
        """Back from a value that consists of the channels alone."""
        node = self.readers.producer.get(place.value)
        if node is None:
            return None
        if is_fused(node, "Add"):
            operands = node.inputs
        elif mixes(self.graph, node):
            operands = ()
        elif _keeps_apart(self.graph, node) or is_fused(node, "Reshape"):
            operands = node.inputs[:1]
        else:
            return None
        residual = node.input(RESIDUAL[node.op]) if node.op in RESIDUAL else ""
        sources = tuple(Place(name, 0, 1) for name in (*operands, *([residual] if residual else [])))
        rank = len(self.graph.shape(place.value))
        for source in sources:
            shape = self.graph.shape(source.value)
            if len(shape) != rank and node.op != "Reshape":
                return None
            if source.value in self.graph.constants or not self._is_whole(source):
                return None
        self.paths.links.append(Link(node, sources, place))
        return list(sources)

    def _read(self, node: Node, index: int, place: Place) -> Place | None:
        """On to what a reader writes that does not mix the channels."""
        if is_fused(node, "Concat") and node.attributes["axis"] == 1:
            base = place.base + sum(self.graph.shape(name)[1] for name in node.inputs[:index])
            return Place(node.outputs[0], base, place.spread)
        same = Place(node.outputs[0], place.base, place.spread)
        if is_fused(node, "Add") or (is_fused(node, *RESIDUAL) and index == RESIDUAL[node.op]):
            return same if self._is_whole(place) and self._is_whole(same) else None
        if index != 0:
            return None
        if is_fused(node, "Reshape"):
            n, c, *sides = self.graph.shape(place.value)
            area = int(np.prod(sides))
            flat = tuple(node.attributes["shape"]) == (n, c * area)
            return Place(node.outputs[0], place.base * area, place.spread * area) if flat else None
        if not _keeps_apart(self.graph, node) or (place.spread > 1 and len(node.inputs) > 1):
            return None
        alone = node.op not in RESIDUAL or not node.input(RESIDUAL[node.op])
        return same if alone or self._is_whole(place) else None


def _keeps_apart(graph: Graph, node: Node) -> bool:
    """Whether channel c of a node's output depends, gates and residuals aside, on channel c of its first input."""
    if is_fused(node, "Conv"):
        shape = graph.shape(node.inputs[1])
        return node.attributes["group"] == shape[0] and shape[1] == 1
    return is_fused(node, "Activate", "ScaleShift", "Pool", "GlobalPool", "SqueezeExcite")
