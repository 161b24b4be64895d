"""Stretches of a network that are fitted one after the other: nodes between values.

    layer    a convolution or linear layer and the activation that alone reads it
    block    from a value through which everything flows to the next one; where nothing forks, at most three layers

The cuts are those of reconstruction after pruning (posttraining/units.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from secateur.graph import Node
from secateur.posttraining.trace import Step, Trace
from secateur.posttraining.units import STRAIGHT, between_cuts
from secateur.quantization.torch_graph import LAYERS, TorchGraph

StretchKind = Literal["layer", "block"]


@dataclass(frozen=True)
class Stretch:
    """Some nodes, in order.

    start      place of the first one in the network
    sources    values from outside that they read
    result     the value that they are there for
    layers     names of the nodes with a weight
    cut        nothing before `result` is read behind it
    """

    nodes: tuple[Node, ...]
    start: int
    sources: tuple[str, ...]
    result: str
    layers: tuple[str, ...]
    cut: bool

    @property
    def name(self) -> str:
        return self.layers[0] if len(self.layers) == 1 else f"{self.layers[0]} .. {self.layers[-1]}"


def stretches_of(graph: TorchGraph, kind: StretchKind) -> tuple[Stretch, ...]:
    """All stretches with a layer, in order of execution."""
    return tuple(_layers(graph) if kind == "layer" else _blocks(graph))


def _layers(graph: TorchGraph) -> list[Stretch]:
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in graph.reads(node):
            readers.setdefault(name, []).append(node)
    own = {node.name for node in graph.layers}
    found: list[Stretch] = []
    for place, node in enumerate(graph.nodes):
        if node.name not in own:
            continue
        chain = [node]
        while (value := chain[-1].outputs[0]) != graph.result and len(behind := readers.get(value, [])) == 1:
            if behind[0].op != "Activate":
                break
            chain.append(behind[0])
        found.append(_stretch(graph, chain, place, cut=False))
    return found


def _blocks(graph: TorchGraph) -> list[Stretch]:
    own = {node.name for node in graph.layers}
    first = {name: node.outputs[0] for node in graph.nodes for name in node.outputs}
    steps = tuple(
        Step(
            node.outputs[0],
            tuple(dict.fromkeys(first.get(name, name) for name in graph.reads(node))),
            (node.name,) if node.name in own else (),
            False,
            True,
            0,
        )
        for node in graph.nodes
    )
    parts = between_cuts(Trace(steps, graph.source, first.get(graph.result, graph.result), {}))
    pieces: list[tuple[list[Step], bool]] = []
    for part in parts:
        straight = sum(bool(step.layers) for step in part) <= 1
        has_layers = any(step.layers for step in part)
        if pieces and not has_layers:
            pieces[-1][0].extend(part)
            continue
        layers = sum(bool(step.layers) for step in pieces[-1][0]) if pieces and pieces[-1][1] and straight else STRAIGHT
        if pieces and layers < STRAIGHT:
            pieces[-1][0].extend(part)
        else:
            pieces.append((list(part), straight and has_layers))
    found: list[Stretch] = []
    place = 0
    for piece, _ in pieces:
        nodes = graph.nodes[place : place + len(piece)]
        found.append(_stretch(graph, nodes, place, cut=True))
        place += len(piece)
    return [stretch for stretch in found if stretch.layers]


def _stretch(graph: TorchGraph, nodes: Sequence[Node], place: int, *, cut: bool) -> Stretch:
    inside = {name for node in nodes for name in node.outputs}
    reads = dict.fromkeys(name for node in nodes for name in graph.reads(node) if name not in inside)
    layers = tuple(node.name for node in nodes if node.op in LAYERS and node.inputs[1] in graph.constants)
    return Stretch(tuple(nodes), place, tuple(reads), nodes[-1].outputs[0], layers, cut)
