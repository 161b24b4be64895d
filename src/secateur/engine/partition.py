"""Which part of a network runs natively and which in ONNX Runtime.

    stage(node) = max over its producers p of   stage(p)      where p is of the same kind
                                                stage(p) + 1  otherwise
    even stages are native, odd ones are ONNX Runtime's

So parts run one after the other in order of their stage, and each part is closed: no path leaves it and comes back.
Native parts without a convolution or matrix product are given to ONNX Runtime as well: the way in and out costs more
than they gain.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from secateur.engine.compile import refusal
from secateur.graph.ir import Graph, Node

HEAVY = frozenset({"Conv", "ConvTranspose", "Linear", "MatMul", "SqueezeExcite", "QConv", "QLinear"})


@dataclass(frozen=True)
class Part:
    """A closed set of nodes as a graph of its own."""

    graph: Graph
    native: bool


@dataclass(frozen=True)
class Partition:
    """Parts in the order in which they run.

    refused    node -> why it does not run natively
    """

    parts: tuple[Part, ...]
    refused: Mapping[str, str]


def partition(graph: Graph) -> Partition:
    """Divide a graph: nodes without a kernel, and native parts not worth their borders, go to ONNX Runtime."""
    refused = {node.name: reason for node in graph.nodes if (reason := refusal(node, graph))}
    if not refused:
        return Partition((Part(graph, True),), {})
    stages = _stages(graph, refused)
    # What moves to ONNX Runtime shifts the stages of what follows, so that other parts may become light.
    while light := [name for names in _light_parts(graph, stages) for name in names]:
        refused |= dict.fromkeys(light, "no convolution or matrix product is near it")
        stages = _stages(graph, refused)
    parts = [
        Part(subgraph(graph, [node for node in graph.nodes if stages[node.name] == stage]), stage % 2 == 0)
        for stage in sorted(set(stages.values()))
    ]
    return Partition(tuple(parts), refused)


def _stages(graph: Graph, refused: Mapping[str, str]) -> dict[str, int]:
    stages: dict[str, int] = {}
    producer = graph.producer()
    for node in graph.nodes:
        parity = 1 if node.name in refused else 0
        stage = parity
        for name in node.reads():
            if name in producer:
                before = stages[producer[name].name]
                stage = max(stage, before if before % 2 == parity else before + 1)
        stages[node.name] = stage
    return stages


def _light_parts(graph: Graph, stages: Mapping[str, int]) -> Iterable[list[str]]:
    for stage in sorted({stage for stage in stages.values() if stage % 2 == 0}):
        nodes = [node for node in graph.nodes if stages[node.name] == stage]
        if not any(node.op in HEAVY for node in nodes):
            yield [node.name for node in nodes]


def subgraph(graph: Graph, nodes: list[Node]) -> Graph:
    """Some nodes as a graph: inputs are what they read from others, outputs what others or the caller read."""
    written = {output for node in nodes for output in node.outputs if output}
    read = [name for node in nodes for name in node.reads()]
    inner = {node.name for node in nodes}
    wanted_outside = {name for node in graph.nodes if node.name not in inner for name in node.reads()}
    inputs = dict.fromkeys(name for name in read if name not in written and name not in graph.constants)
    outputs = [
        output
        for node in nodes
        for output in node.outputs
        if output and (output in wanted_outside or output in graph.outputs)
    ]
    used = {*read, *written}
    return Graph(
        tuple(nodes),
        tuple(inputs),
        tuple(outputs),
        {name: kind for name, kind in graph.types.items() if name in used},
        {name: array for name, array in graph.constants.items() if name in used},
        graph.opset,
        graph.domains,
        {name: kind for name, kind in graph.loose.items() if name in used},
    )
