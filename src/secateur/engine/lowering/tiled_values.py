"""Which values lie in tiles: those that only convolutions read and write, and none with its neighbours.

    value in tiles  =>  its producer is a convolution with sums of the value's own pitch
                        its readers are 1x1 convolutions, or convolutions that add it to their sums
    residual operand in tiles  <=>  the sums it is added to are

With several tiles per map, that is: with one, tiles are planes. A 1x1 convolution with a stride picks its pixels out
of the tiles, as it would out of planes.
"""

from collections.abc import Callable, Mapping

from secateur.engine.layout import planes
from secateur.engine.lowering.conv_shape import ConvShape, conv_shape
from secateur.engine.lowering.depthwise import is_depthwise
from secateur.engine.lowering.tile_size import LONGEST, RegisterTile, tile_lines
from secateur.graph.ir import Graph, Node

Size = tuple[int, int]


def tiled_values(
    graph: Graph,
    pads: Mapping[Size, int],
    taken: frozenset[str],
    register_tile: Callable[[Node, ConvShape], RegisterTile],
) -> Mapping[str, tuple[int, ...]]:
    """Values that lie in tiles -> lines of each tile.

    pads              zero columns of the maps of each size (pitches.map_pads)
    taken             values whose place is decided already (dense ones, parts of concatenations)
    register_tile     what a convolution computes at once
    """
    shapes = {node.name: conv_shape(node, graph) for node in graph.nodes if _is_convolution(node)}
    names = _alike(graph, shapes, _candidates(graph, shapes, pads) - taken)
    users: dict[Size, dict[RegisterTile, float]] = {}
    lines: dict[Size, int] = {}
    for node in graph.nodes:
        shape = shapes.get(node.name)
        if shape is None or not _by_tiles(shape):
            continue
        size = (shape.out_h, shape.out_w)
        if node.outputs[0] in names or (node.inputs[0] in names and shape.pointwise):
            tile = register_tile(node, shape)
            users.setdefault(size, {}).setdefault(tile, 0.0)
            users[size][tile] += shape.macs
            lines[size] = _lines(shape, pads)
    cut = {size: tile_lines(lines[size], users[size]) for size in users}
    return {name: cut[graph.shape(name)[2], graph.shape(name)[3]] for name in names}


def _candidates(graph: Graph, shapes: Mapping[str, ConvShape], pads: Mapping[Size, int]) -> frozenset[str]:
    """Values that convolutions write, and read pixel by pixel."""
    readers = graph.readers()

    def fits(node: Node, name: str) -> bool:
        shape = shapes.get(node.name)
        if shape is None or not _by_tiles(shape) or name in graph.outputs:
            return False
        several = pads.get((shape.out_h, shape.out_w), 0) >= shape.out_border and _lines(shape, pads) > LONGEST
        return several and all(_reads_pixels(reader, name, shapes.get(reader.name)) for reader in readers.get(name, []))

    return frozenset(name for node in graph.nodes for name in node.outputs if fits(node, name))


def _alike(graph: Graph, shapes: Mapping[str, ConvShape], names: frozenset[str]) -> frozenset[str]:
    """Without sums that lie otherwise than what is added to them."""
    while True:
        pairs = [(node.input(3), node.outputs[0]) for node in graph.nodes if node.name in shapes and node.input(3)]
        torn = {name for pair in pairs if not names.issuperset(pair) for name in pair} & names
        if not torn:
            return names
        names -= torn


def _is_convolution(node: Node) -> bool:
    return node.op in ("Conv", "QConv") and node.domain == "secateur"


def _by_tiles(shape: ConvShape) -> bool:
    """Whether the convolution kernel computes it, rather than those for depthwise layers or matrix products."""
    return not is_depthwise(shape) and shape.h * shape.w * shape.out_h * shape.out_w > 1


def _lines(shape: ConvShape, pads: Mapping[Size, int]) -> int:
    """Lines of the map of sums."""
    pad = pads.get((shape.out_h, shape.out_w), 0)
    return planes((shape.n, shape.o, shape.out_h, shape.out_w), pad).vectors


def _reads_pixels(reader: Node, name: str, shape: ConvShape | None) -> bool:
    """Whether a node reads each pixel of a value for itself."""
    if shape is None or not _by_tiles(shape) or name in (reader.input(2), reader.input(4)):
        return False
    alone = shape.kernel == (1, 1) and shape.pads == (0, 0, 0, 0)
    return alone or name != reader.inputs[0]
