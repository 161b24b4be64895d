"""Weights that stay integers for a while, and why in the end some layers compute with floats."""

from secateur.graph.ir import Graph, Node
from secateur.graph.quantized.sources import is_dequantize
from secateur.graph.rewrite import is_onnx

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_MOVES = ("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def is_quantized(graph: Graph) -> bool:
    """Whether a graph has operators that quantize, dequantize or compute with integers."""
    return any(
        "quantize" in node.op.lower() or "QLinear" in node.op or node.op in ("ConvInteger", "MatMulInteger", "QGemm")
        for node in graph.nodes
    )


def kept_weights(graph: Graph) -> frozenset[str]:
    """Names of the nodes that dequantize operands of convolutions and products, and that move them there."""
    producer, kept = graph.producer(), set[str]()
    for node in graph.nodes:
        if is_onnx(node, *HEAVY):
            for name in node.inputs[1:]:
                kept.update(_behind(producer, name))
    return frozenset(kept)


def _behind(producer: dict[str, Node], name: str) -> list[str]:
    found: list[str] = []
    node = producer.get(name)
    while node is not None and node.inputs and (node.op in _MOVES or is_dequantize(node)):
        found.append(node.name)
        if is_dequantize(node):
            return found
        node = producer.get(node.inputs[0])
    return []
