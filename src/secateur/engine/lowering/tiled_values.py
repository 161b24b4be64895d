"""Which values lie in tiles: those that only convolutions read and write, and none with its neighbours.

    value in tiles  =>  its producer is a convolution with sums of the value's own pitch
                        its readers are 1x1 convolutions, or convolutions that add it to their sums
    residual operand in tiles  <=>  the sums it is added to are

With several tiles per map, that is: with one, tiles are planes. A 1x1 convolution with a stride picks its pixels out
of the tiles, as it would out of planes.
"""

from collections.abc import Mapping

from secateur.engine.layout import Planes, planes, tiled
from secateur.engine.lowering.context import TILE_LINES
from secateur.engine.lowering.conv_shape import ConvShape, conv_shape
from secateur.engine.lowering.depthwise import is_depthwise
from secateur.graph.ir import Graph, Node


def tiled_values(graph: Graph, pads: Mapping[tuple[int, int], int], taken: frozenset[str]) -> frozenset[str]:
    """Names of the values that lie in tiles.

    pads     zero columns of the maps of each size (pitches.map_pads)
    taken    values whose place is decided already (dense ones, parts of concatenations)
    """
    shapes = {node.name: conv_shape(node, graph) for node in graph.nodes if _is_convolution(node)}
    producers = {name: node for node in graph.nodes for name in node.outputs}
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.reads():
            readers.setdefault(name, []).append(node)

    def fits(name: str) -> bool:
        node = producers[name]
        shape = shapes.get(node.name)
        if shape is None or not _by_tiles(shape) or not _has_tiles(shape, pads):
            return False
        return all(_reads_pixels(reader, name, shapes.get(reader.name)) for reader in readers.get(name, []))

    found = {name for name in producers if name not in taken and name not in graph.outputs and fits(name)}
    while True:
        # A sum and what is added to it lie alike.
        torn = {
            name
            for node in graph.nodes
            if node.name in shapes and node.input(3)
            for name in (node.input(3), node.outputs[0])
            if not {node.input(3), node.outputs[0]} <= found
        } & found
        if not torn:
            return frozenset(found)
        found -= torn


def _is_convolution(node: Node) -> bool:
    return node.op == "Conv" and node.domain == "secateur"


def _by_tiles(shape: ConvShape) -> bool:
    """Whether the convolution kernel computes it, rather than those for depthwise layers or matrix products."""
    return not is_depthwise(shape) and shape.h * shape.w * shape.out_h * shape.out_w > 1


def _has_tiles(shape: ConvShape, pads: Mapping[tuple[int, int], int]) -> bool:
    pad = pads.get((shape.out_h, shape.out_w), 0)
    layout: Planes = planes((shape.n, shape.o, shape.out_h, shape.out_w), pad)
    return pad >= shape.out_border and len(tiled(layout, TILE_LINES).lines) > 1


def _reads_pixels(reader: Node, name: str, shape: ConvShape | None) -> bool:
    """Whether a node reads each pixel of a value for itself."""
    if shape is None or not _by_tiles(shape) or name in (reader.input(2), reader.input(4)):
        return False
    alone = shape.kernel == (1, 1) and shape.pads == (0, 0, 0, 0)
    return alone or name != reader.inputs[0]
