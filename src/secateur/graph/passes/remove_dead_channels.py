"""Channels that are computed for nothing.

The channels of a convolution are followed through everything that keeps them apart, to the convolutions that read them.
What is added to them has the same channels, which are followed too.

    nobody needs it    all weights that read it are zero
    it is known        all weights that compute it are zero, so it is act(bias) everywhere, and what reads it adds
                       act(bias) sum w to its own bias; a sum is known where all that is added is
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secateur.graph.channel_paths import Flags, Paths, Readers, follow, mixes
from secateur.graph.channel_values import Sink, sinks_of
from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, is_fused

Indices = NDArray[np.int64]

BLOCKS = range(2, 33)
# Share of a block's weights that may be zero by chance before it is no block any more.
FILL = 0.95
DENSE = 0.995

# Operands of one number (or filter) per channel of the result.
_PER_CHANNEL = {"Conv": (1, 2, 4), "Linear": (1, 2), "SqueezeExcite": (3, 4), "ScaleShift": (1, 2), "Activate": (1,)}


def remove_dead_channels(graph: Graph) -> Graph:
    """Remove the channels of Conv and Linear that nobody needs or that are known.

    1. The producer is a Conv of one group or a Linear of two dimensions. Where its channels are added to others, all
       producers of the sum lose them together.
    2. The channels are followed as channel_paths.py says; where they meet anything else, an input or an output of the
       graph, all channels of these producers stay.
    3. At every Conv (one group), Linear or SqueezeExcite that reads a channel, its weights are zero, or the channel is
       known and, where zero padding joins it, zero. With it go its gate and what else is one number per channel.
    4. What is known goes into the biases of the readers; a reader without bias gains one.
    5. One channel stays. Nothing becomes infinite or NaN, else all stay.
    6. Where the zeros of a producer, or of the weights that compute gates, form 1xN blocks of channels, whole blocks
       go: the rest stays a network of blocks, which is worth more than a few channels.
    """
    readers = Readers(graph)
    order = list(range(len(graph.nodes)))
    while True:
        before = readers.graph
        covered: set[str] = set()
        for index in order:
            node = readers.graph.nodes[index]
            if mixes(readers.graph, node) and node.outputs[0] not in covered:
                thinner = _without_dead(readers, node, covered)
                readers = readers if thinner is readers.graph else Readers(thinner, readers)
        if readers.graph is before:
            return before
        # What went may leave others without use, in front of it or behind.
        order.reverse()


def _without_dead(readers: Readers, node: Node, covered: set[str]) -> Graph:
    """The graph without what is dead among the channels of a node.

    covered    values of producers that need not be looked at again; grows
    """
    graph = readers.graph
    paths, complete = follow(readers, node)
    covered |= {place.value for place in paths.places}
    if not complete or not paths.sinks:
        return graph
    sinks = sinks_of(readers, paths)
    dead: Flags = np.all([sink.free for sink in sinks], axis=0)
    rows = [
        (graph.constants[link.node.inputs[_PER_CHANNEL[link.node.op][0]]], link.target.base)
        for link in paths.links
        if mixes(graph, link.node) or is_fused(link.node, "SqueezeExcite")
    ]
    dead = _whole_blocks_of_all(dead, rows)
    if dead.all():
        dead[0] = False
    return _removed(graph, np.flatnonzero(dead), paths, sinks) if dead.any() else graph


def _whole_blocks_of_all(dead: Flags, rows: Sequence[tuple[NDArray[np.generic], int]]) -> Flags:
    """The dead channels that go, whatever weight is asked (rule 6).

    rows    weights, and which of their rows is the first channel
    """
    while dead.any():
        kept = dead
        for weight, base in rows:
            at = slice(base, base + len(dead))
            whole = np.zeros(len(weight), bool)
            whole[at] = kept
            kept = whole_blocks(whole, weight)[at]
        if np.array_equal(kept, dead):
            break
        dead = kept
    return dead


def whole_blocks(dead: NDArray[np.bool_], weight: NDArray[np.generic]) -> NDArray[np.bool_]:
    """The dead channels that go (rule 6)."""
    n = block_length(weight) if dead.any() and not dead.all() else 1
    return np.repeat(dead.reshape(-1, n).all(axis=1), n)


def block_length(weight: NDArray[np.generic]) -> int:
    """The largest N whose aligned blocks of N output channels the zeros of a weight respect; 1 where there is none."""
    kept = (weight != 0).reshape(len(weight), -1)
    kept = kept[:, kept.any(axis=0)]  # inputs that nobody reads say nothing about outputs
    count = int(np.count_nonzero(kept))
    if count >= DENSE * kept.shape[1] * int(np.count_nonzero(kept.any(axis=1))):
        return 1  # whole channels at most are missing
    for n in sorted((n for n in BLOCKS if len(weight) % n == 0), reverse=True):
        blocks = kept.reshape(-1, n, kept.shape[1]).any(axis=1)
        if count >= FILL * n * int(np.count_nonzero(blocks)):
            return n
    return 1


def _removed(graph: Graph, dead: Indices, paths: Paths, sinks: Sequence[Sink]) -> Graph:
    draft = Draft(graph)
    flags: dict[str, Flags] = {}
    for place in paths.places:
        flags.setdefault(place.value, np.zeros(draft.shape(place.value)[1], bool))[place.indices(dead)] = True
    gone = {value: np.flatnonzero(which) for value, which in flags.items()}
    for value, indices in gone.items():
        shape = draft.shape(value)
        draft.types[value] = replace(draft.types[value], shape=(shape[0], shape[1] - len(indices), *shape[2:]))
    biases: dict[int, NDArray[np.float64]] = {}
    for sink in sinks:
        total = biases.get(id(sink.node), np.zeros(draft.shape(sink.node.inputs[1])[0]))
        biases[id(sink.node)] = total + _absorbed(draft, sink, dead)
    writers = {id(link.node) for link in paths.links}
    nodes: list[Node] = []
    for node in graph.nodes:
        changed = node
        if id(node) in biases:
            thin = np.delete(draft.constants[node.inputs[1]], gone[node.inputs[0]], axis=1)
            changed = with_more_bias(draft, node, 1, thin, biases[id(node)])
            if changed is None:
                return graph
        nodes.append(_written(draft, changed, gone[node.outputs[0]]) if id(node) in writers else changed)
    return draft.finish(nodes)


def _absorbed(draft: Draft, sink: Sink, dead: Indices) -> NDArray[np.float64]:
    """What the channels that go give to every output of a sink (rule 4)."""
    known = dead[sink.needed[dead]]
    weight = draft.constants[sink.node.inputs[1]].astype(np.float64)
    sums = weight.reshape(*weight.shape[:2], -1).sum(2)
    columns = sums[:, sink.place.indices(known)]
    values = np.repeat(sink.values[known], sink.place.spread)
    return columns @ values


def with_more_bias(
    draft: Draft, node: Node, index: int, weight: NDArray[np.generic], more: NDArray[np.float64]
) -> Node | None:
    """A node with another weight at an index, and more in the bias behind it; None where float32 cannot hold that."""
    inputs = list(node.inputs)
    inputs[index] = draft.constant(f"{inputs[index]}.thin", weight)
    if more.any():
        bias = node.input(index + 1)
        with np.errstate(over="ignore"):
            total = (more + draft.constants[bias] if bias else more).astype(np.float32)
        if not np.isfinite(total).all():
            return None
        inputs[index + 1 : index + 2] = [draft.constant(f"{node.name}.bias", total)]
    return replace(node, inputs=tuple(inputs))


def _written(draft: Draft, node: Node, gone: Indices) -> Node:
    """A node that writes fewer channels."""
    if node.op == "Reshape":
        return replace(node, attributes={"shape": draft.shape(node.outputs[0])})
    inputs = list(node.inputs)
    for index in _PER_CHANNEL.get(node.op, ()):
        if node.input(index):
            inputs[index] = draft.constant(
                f"{inputs[index]}.thin", np.delete(draft.constants[inputs[index]], gone, axis=0)
            )
    attributes = node.attributes
    if node.op == "Conv" and node.attributes["group"] > 1:
        attributes = {**node.attributes, "group": draft.shape(node.outputs[0])[1]}
    return replace(node, inputs=tuple(inputs), attributes=attributes)
