"""Quantization and its reverse in normal form."""

from collections.abc import Sequence

from secateur.graph.ir import Graph, Node
from secateur.graph.quantized.sources import scalar_grid
from secateur.graph.rewrite import Draft, fused, rewrite_nodes


def normal_quantization(graph: Graph) -> Graph:
    """QuantizeLinear and DequantizeLinear as Quantize and Dequantize.

    1. Between float32 and uint8 or int8, with one scale and one zero point, both constant; the scale is positive.
    2. What dequantizes a constant stays: the constant is a weight, or is folded.
    """
    return rewrite_nodes(graph, _rule)


def _rule(draft: Draft, node: Node) -> Sequence[Node] | None:
    if node.domain not in ("", "com.microsoft") or node.op not in ("QuantizeLinear", "DequantizeLinear"):
        return None
    x, y = node.inputs[0], node.outputs[0]
    quantize = node.op == "QuantizeLinear"
    if not draft.floats(x if quantize else y) or draft.array(x) is not None:
        return None
    grid = scalar_grid(draft, node.input(1), node.input(2), draft.types[y if quantize else x].dtype)
    if grid is None:
        return None
    return [
        fused(
            "Quantize" if quantize else "Dequantize",
            node,
            (x,),
            scale=grid.scale,
            zero=grid.zero,
            **_type(grid.dtype, quantize),
        )
    ]


def _type(dtype: str, quantize: bool) -> dict[str, str]:
    return {"dtype": dtype} if quantize else {}
