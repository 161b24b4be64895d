"""Channels that are computed for nothing.

A channel of a convolution is followed through everything that keeps channels apart, to the convolutions that read it:

    nobody needs it    all weights that read it are zero
    it is known        all weights that compute it are zero, so it is act(bias) everywhere, and what reads it adds
                       act(bias) sum w to its own bias
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secateur.graph.channel_paths import Paths, Readers, Sink, follow
from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, is_fused

Indices = NDArray[np.int64]

BLOCKS = range(2, 33)
# Share of a block's weights that may be zero by chance before it is no block any more.
FILL = 0.95
DENSE = 0.995


def remove_dead_channels(graph: Graph) -> Graph:
    """Remove the channels of Conv and Linear that nobody needs or that are known.

    1. The producer is a Conv of one group or a Linear of two dimensions, without residual.
    2. The channel is followed as channel_paths.py says; where it meets anything else, or an output of the graph, all
       channels of the producer stay.
    3. At every Conv (one group) or Linear that reads it, its weights are zero, or the channel is known and, where zero
       padding joins it, zero.
    4. What is known goes into the biases of the readers; a reader without bias gains one.
    5. One channel stays. Nothing becomes infinite or NaN, else all stay.
    6. Where the producer's zeros form 1xN blocks of channels, whole blocks go: the rest stays a network of blocks,
       which is worth more than a few channels.
    """
    readers = Readers(graph)
    for index in range(len(graph.nodes)):
        if _is_producer(readers.graph, readers.graph.nodes[index]):
            thinner = _without_dead(readers, readers.graph.nodes[index])
            if thinner is not readers.graph:
                readers = Readers(thinner)
    return readers.graph


def _is_producer(graph: Graph, node: Node) -> bool:
    """Rule 1."""
    if node.input(3):
        return False
    conv = is_fused(node, "Conv") and node.attributes["group"] == 1
    return conv or (is_fused(node, "Linear") and len(graph.shape(node.outputs[0])) == 2)


def _without_dead(readers: Readers, node: Node) -> Graph:
    paths = follow(readers, node)
    if paths is None:
        return readers.graph
    dead = whole_blocks(paths.dead, readers.graph.constants[node.inputs[1]])
    if dead.all():
        dead[0] = False
    return _removed(readers.graph, node, np.flatnonzero(dead), paths) if dead.any() else readers.graph


def whole_blocks(dead: NDArray[np.bool_], weight: NDArray[np.generic]) -> NDArray[np.bool_]:
    """The dead channels that go (rule 6)."""
    n = block_length(weight) if dead.any() and not dead.all() else 1
    return np.repeat(dead.reshape(-1, n).all(axis=1), n)


def block_length(weight: NDArray[np.generic]) -> int:
    """The largest N whose aligned blocks of N output channels the zeros of a weight respect; 1 where there is none."""
    kept = (weight != 0).reshape(len(weight), -1)
    count = int(np.count_nonzero(kept))
    if count >= DENSE * kept.shape[1] * int(np.count_nonzero(kept.any(axis=1))):
        return 1  # whole channels at most are missing
    for n in sorted((n for n in BLOCKS if len(weight) % n == 0), reverse=True):
        blocks = kept.reshape(-1, n, kept.shape[1]).any(axis=1)
        if count >= FILL * n * int(np.count_nonzero(blocks)):
            return n
    return 1


def _removed(graph: Graph, node: Node, dead: Indices, paths: Paths) -> Graph:
    draft = Draft(graph)
    gone: dict[str, Indices] = {}
    for place in paths.places:
        indices = place.indices(dead)
        gone[place.value] = np.union1d(gone.get(place.value, indices), indices)
    for value, indices in gone.items():
        shape = draft.shape(value)
        draft.types[value] = replace(draft.types[value], shape=(shape[0], shape[1] - len(indices), *shape[2:]))
    biases: dict[int, NDArray[np.float64]] = {}
    for sink in paths.sinks:
        total = biases.get(id(sink.node), np.zeros(draft.shape(sink.node.inputs[1])[0]))
        biases[id(sink.node)] = total + _absorbed(draft, sink, dead)
    nodes: list[Node] = []
    through = {id(each) for each in paths.through}
    for each in graph.nodes:
        if each is node:
            nodes.append(_rows_removed(draft, each, dead, (1, 2, 4)))
        elif id(each) in biases:
            changed = _columns_removed(draft, each, gone[each.inputs[0]], biases[id(each)])
            if changed is None:
                return graph
            nodes.append(changed)
        elif id(each) in through:
            nodes.append(_passed(draft, each, gone))
        else:
            nodes.append(each)
    return draft.finish(nodes)


def _absorbed(draft: Draft, sink: Sink, dead: Indices) -> NDArray[np.float64]:
    """What the channels that go give to every output of a sink (rule 4)."""
    known = dead[sink.needed[dead]]
    weight = draft.constants[sink.node.inputs[1]].astype(np.float64)
    sums = weight.reshape(*weight.shape[:2], -1).sum(2)
    columns = sums[:, sink.place.indices(known)]
    values = np.repeat(sink.values[known], sink.place.spread)
    return columns @ values


def _columns_removed(draft: Draft, node: Node, gone: Indices, more: NDArray[np.float64]) -> Node | None:
    weight, bias = node.inputs[1], node.input(2)
    inputs = list(node.inputs)
    inputs[1] = draft.constant(f"{weight}.thin", np.delete(draft.constants[weight], gone, axis=1))
    if more.any():
        with np.errstate(over="ignore"):
            total = (more + draft.constants[bias] if bias else more).astype(np.float32)
        if not np.isfinite(total).all():
            return None
        inputs[2:3] = [draft.constant(f"{node.name}.bias", total)]
    return replace(node, inputs=tuple(inputs))


def _rows_removed(draft: Draft, node: Node, gone: Indices, operands: Sequence[int]) -> Node:
    inputs = list(node.inputs)
    for index in operands:
        if node.input(index):
            thin = np.delete(draft.constants[inputs[index]], gone, axis=0)
            inputs[index] = draft.constant(f"{inputs[index]}.thin", thin)
    return replace(node, inputs=tuple(inputs))


def _passed(draft: Draft, node: Node, gone: dict[str, Indices]) -> Node:
    """A node that keeps channels apart, with fewer of them."""
    if node.op == "Concat":
        return node
    if node.op == "Reshape":
        return replace(node, attributes={"shape": draft.shape(node.outputs[0])})
    if node.op == "Conv":
        thin = _rows_removed(draft, node, gone[node.inputs[0]], (1, 2, 4))
        return replace(thin, attributes={**node.attributes, "group": draft.shape(node.outputs[0])[1]})
    return _rows_removed(draft, node, gone[node.inputs[0]], range(1, len(node.inputs)))
