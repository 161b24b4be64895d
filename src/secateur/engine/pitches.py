"""One row pitch for all maps of one size.

    pad(h, w) >= border of every convolution that reads an (h, w) map in place
    pad(h, w) >= columns that the phases of a strided convolution with an (h, w) output need
    pitch(input) = pitch(output)  for stride-1 convolutions that change the size of the map

With equal pitches a vector of outputs is computed from whole vectors of inputs and stored whole, residual operands lie
under their outputs, and nothing is ever copied between layouts. A border that would widen all rows of a size by more
than an eighth (large dilations) is not worth it: such a convolution brings its own padded copy of its input.
"""

from collections.abc import Callable, Mapping

from secateur.engine.lowering.conv_shape import ConvShape, conv_shape
from secateur.engine.lowering.depthwise import is_depthwise, strides_in_place
from secateur.engine.lowering.phases import phases_of
from secateur.graph.ir import Graph

MOST_ROUNDS = 8

Widen = Callable[[tuple[int, int], int], bool]


def map_pads(graph: Graph) -> Mapping[tuple[int, int], int]:
    """(height, width) -> zero columns per row and zero rows per plane."""
    convolutions = [node for node in graph.nodes if node.op in ("Conv", "QConv") and node.domain == "secateur"]
    shapes = [conv_shape(node, graph) for node in convolutions]
    pads: dict[tuple[int, int], int] = {}

    def widen(size: tuple[int, int], pad: int) -> bool:
        if size[0] * size[1] == 1 or pad <= pads.get(size, 0) or pad > worth(size):
            return False
        pads[size] = pad
        return True

    for shape in _phase_shapes(graph):
        columns = max(shape.w, shape.out_w) + shape.border
        widen((shape.h, shape.w), columns - shape.w if shape.border else 0)
    for shape in shapes:
        if shape.strides == (1, 1):
            widen((shape.h, shape.w), shape.border)
        elif is_depthwise(shape) and strides_in_place(shape):
            widen((shape.h, shape.w), shape.densely.border)
        widen((shape.out_h, shape.out_w), shape.border)
    for _ in range(MOST_ROUNDS):
        changed = [_equal_pitch(shape, pads, widen) for shape in shapes]
        if not any(changed):
            break
    return pads


def _phase_shapes(graph: Graph) -> list[ConvShape]:
    """The convolutions that transposed ones are computed as."""
    nodes = [node for node in graph.nodes if node.op == "ConvTranspose" and node.domain == "secateur"]
    return [phases_of(node, graph).shape for node in nodes]


def worth(size: tuple[int, int]) -> int:
    """The widest padding that all maps of a size may be given."""
    return max(3, size[1] // 8)


def _equal_pitch(shape: ConvShape, pads: Mapping[tuple[int, int], int], widen: Widen) -> bool:
    if shape.strides != (1, 1) or (shape.h, shape.w) == (shape.out_h, shape.out_w):
        return False
    source, result = (shape.h, shape.w), (shape.out_h, shape.out_w)
    pitch = max(source[1] + pads.get(source, 0), result[1] + pads.get(result, 0))
    return widen(source, pitch - source[1]) | widen(result, pitch - result[1])
