"""Convolutions of integers."""

from collections.abc import Sequence

import numpy as np

from secateur.graph.ir import Graph, Node
from secateur.graph.passes.normal_convolution import convolution_attributes
from secateur.graph.quantized.build import sum_node
from secateur.graph.quantized.sources import Sources, Weight
from secateur.graph.rewrite import Draft, is_onnx, rewrite_nodes


def quantized_convolution(graph: Graph) -> Graph:
    """ONNX's Conv of dequantized values as QConv with a float32 result.

    1. The input is dequantized from one scale; the weight is a dequantized constant with one scale per output or one
       in all, and is at most 8 bits from its zero points.
    2. The bias is a constant, float32 or dequantized; it is rounded to multiples of x_scale w_scale.
    3. Two dimensions.
    4. A depthwise convolution may read values with one scale per channel and one zero point: it reads them with the
       scale 1, and the scales go into those of its weight.
    """
    sources = Sources(graph)

    def rule(draft: Draft, node: Node) -> Sequence[Node] | None:
        found = convolution_of_integers(draft, sources, node) if is_onnx(node, "Conv") else ""
        return None if isinstance(found, str) else [found]

    return rewrite_nodes(graph, rule)


def convolution_of_integers(draft: Draft, sources: Sources, node: Node) -> Node | str:
    """The QConv for a Conv, or why there is none."""
    x = sources.integers(draft, node.inputs[0])
    by_channel = sources.channels(draft, node.inputs[0]) if x is None else None
    if x is None and by_channel is None:
        return "its input is not quantized with one constant scale"
    weight = sources.weight(draft, node.inputs[1], 0)
    if isinstance(weight, str):
        return weight
    attributes = convolution_attributes(draft, node, weight.values.shape)
    if attributes is None or weight.values.ndim != 4:
        return "it has not two dimensions"
    if x is None and by_channel is not None:
        scales = by_channel[1]
        if attributes["group"] != len(scales):
            return "its input has a scale for each channel, and it sums over channels"
        rows = np.repeat(scales, len(weight.values) // len(scales))
        weight, x = Weight(weight.values, weight.scale * rows), (by_channel[0], by_channel[2])
    if x is None:
        return "its input is not quantized"
    return sum_node(draft, sources, "QConv", node, *x, weight, node.input(2), **attributes)
