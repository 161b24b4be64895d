"""Quantization with a scale for each channel, where no operator on integers has taken the scales."""

import numpy as np

from secateur.graph.ir import Graph, Node
from secateur.graph.quantized.sources import scales_of_channels
from secateur.graph.rewrite import DOMAIN, Draft, fused, rewrite_nodes


def quantized_channels(graph: Graph) -> Graph:
    """QuantizeLinear and DequantizeLinear along axis 1 as Quantize and Dequantize with the scale 1, and a ScaleShift.

    1. All zero points are equal.
    2. Quantize: the ScaleShift multiplies with the reciprocals of the scales, which are float32 as well.
    """
    return rewrite_nodes(graph, _rule)


def _rule(draft: Draft, node: Node) -> list[Node] | None:
    quantize = node.op == "QuantizeLinear"
    if not (quantize or node.op == "DequantizeLinear") or node.domain not in ("", "com.microsoft"):
        return None
    x, y = node.inputs[0], node.outputs[0]
    found = scales_of_channels(draft, node, y if quantize else x) if draft.array(x) is None else None
    if found is None or not draft.floats(x if quantize else y):
        return None
    scales, grid = found
    with np.errstate(over="ignore"):
        factors = np.float32(1) / scales if quantize else scales
    if not np.isfinite(factors).all():
        return None
    value = draft.value(f"{y}.units", draft.shape(y))
    operands = (
        draft.constant(f"{node.name}.scale", factors),
        draft.constant(f"{node.name}.shift", np.zeros(len(factors), np.float32)),
    )
    if quantize:
        return [
            Node(f"{node.name}.scales", "ScaleShift", (x, *operands), (value,), {}, DOMAIN),
            fused("Quantize", node, (value,), scale=1.0, zero=grid.zero, dtype=grid.dtype),
        ]
    return [
        fused("Dequantize", node, (x,), (value,), scale=1.0, zero=grid.zero),
        Node(f"{node.name}.scales", "ScaleShift", (value, *operands), (y,), {}, DOMAIN),
    ]
