"""A batch in parts: as many images together as the second-level cache holds.

    images together = largest divisor d of n with   d mean(bytes that a node reads and writes per image) <= L2

Layer after layer, the tensors of sixteen images travel through memory where those of one would stay in the caches. So
the first nodes of a network, as far as they compute each image for itself, run for a few images after the others. The
rest, matrix products above all, whose weights are read once for the whole batch, runs for all of them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from secateur.engine.partition import subgraph
from secateur.engine.target import Target
from secateur.graph.ir import Graph, Node, TensorType


def _always(node: Node) -> bool:
    return True


def _never(node: Node) -> bool:
    return False


def _other_axes(node: Node) -> bool:
    axes = node.attributes.get("axes", (node.attributes.get("axis"),))
    return 0 not in axes and bool(node.attributes.get("keepdims", 1))


def _chooses_channels(node: Node) -> bool:
    return node.attributes.get("axis", 0) == 1


def _pads_images(node: Node) -> bool:
    pads = node.attributes["pads"]
    return pads[0] == pads[len(pads) // 2] == 0


# Operators that compute every image of rank-4 values for itself, and when.
_BY_IMAGE: Mapping[str, Callable[[Node], bool]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Pool", "GlobalPool", "ScaleShift", "SqueezeExcite"), _always),
    **dict.fromkeys(("Activate", "Add", "Sub", "Mul", "Div", "Max", "Min"), _always),
    **dict.fromkeys(("ChannelShuffle", "DepthToSpace", "SpaceToDepth"), _always),
    **dict.fromkeys(("Quantize", "Dequantize", "QConv", "QPool", "QGlobalPool", "QAdd", "QMul", "QActivate"), _always),
    **dict.fromkeys(("Concat", "QConcat", "Split", "Slice", "ReduceMean", "Softmax"), _other_axes),
    "Gather": _chooses_channels,
    "Pad": _pads_images,
}


@dataclass(frozen=True)
class Piece:
    """Nodes as a graph of their own, for a part of the batch.

    repeats    how often it runs, on one part of its inputs after the other
    """

    graph: Graph
    repeats: int = 1


def in_parts(graph: Graph, target: Target) -> tuple[Piece, ...]:
    """The graph, or its first nodes for a part of the batch and the others for the whole batch."""
    images = {graph.shape(name)[0] for name in graph.inputs if name in graph.types and graph.shape(name)}
    batch = images.pop() if len(images) == 1 else 1
    nodes = _by_image(graph, batch) if batch > 1 else []
    if not any(node.op in ("Conv", "QConv") for node in nodes):
        return (Piece(graph),)
    together = _together(graph, nodes, batch, target.l2)
    if together == batch:
        return (Piece(graph),)
    names = {node.name for node in nodes}
    rest = [node for node in graph.nodes if node.name not in names]
    first = Piece(_of_batch(subgraph(graph, nodes), together), batch // together)
    return (first, Piece(subgraph(graph, rest))) if rest else (first,)


def _by_image(graph: Graph, batch: int) -> list[Node]:
    """Nodes that compute images one by one and depend on nothing else."""

    def fits(name: str) -> bool:
        kind = graph.types.get(name)
        return kind is not None and len(kind.shape) == 4 and kind.shape[0] == batch

    given = {name for name in graph.inputs if fits(name)}
    found: list[Node] = []
    for node in graph.nodes:
        reads = [name for name in node.reads() if name not in graph.constants]
        constants = [graph.constants[name] for name in node.reads() if name in graph.constants]
        alone = node.op in ("Conv", "QConv", "ConvTranspose", "SqueezeExcite") or all(
            array.ndim < 4 or array.shape[0] == 1 for array in constants
        )
        if (
            _BY_IMAGE.get(node.op, _never)(node)
            and reads
            and alone
            and set(reads) <= given
            and all(map(fits, node.outputs))
        ):
            found.append(node)
            given.update(node.outputs)
    return found


def _together(graph: Graph, nodes: list[Node], batch: int, cache: int) -> int:
    def size(node: Node) -> Iterator[int]:
        for name in (*node.reads(), *node.outputs):
            if name not in graph.constants:
                yield graph.type(name).numpy.itemsize * prod(graph.shape(name)) // batch

    per_image = sum(sum(size(node)) for node in nodes) / len(nodes)
    return max(d for d in range(1, batch + 1) if batch % d == 0 and (d == 1 or d * per_image <= cache))


def _of_batch(graph: Graph, batch: int) -> Graph:
    """The same nodes for another number of images."""
    types = {
        name: kind if name in graph.constants else TensorType((batch, *kind.shape[1:]), kind.dtype)
        for name, kind in graph.types.items()
    }
    return replace(graph, types=types)
