"""Quantized weights that no operator on integers takes."""

from dataclasses import replace

from secateur.graph.ir import Graph, Node
from secateur.graph.passes.quantized_convolution import convolution_of_integers
from secateur.graph.passes.quantized_linear import product_of_integers
from secateur.graph.quantized.sources import Sources, is_dequantize
from secateur.graph.rewrite import Draft, is_fused, is_onnx

_SIDES = ("Quantize", "Dequantize", "QuantizeLinear", "DequantizeLinear")


def release_weights(graph: Graph) -> Graph:
    """Say of every operator next to quantized values why it computes with floats.

    1. Convolutions and products with a dequantized operand: what keeps them from being QConv or QLinear.
    2. Other operators all of whose computed operands are dequantized: that their results are not quantized, or that
       there is no such operator on integers.
    3. An operator on integers of the file that stays as it is: that its scales or its weights are computed while the
       network runs, or are of another kind.
    """
    sources, draft, readers = Sources(graph), Draft(graph), graph.readers()
    producer = graph.producer()
    notes: dict[str, str] = {}
    for node in graph.nodes:
        reason = None
        if is_onnx(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
            if any(sources.is_dequantized(name) for name in node.inputs):
                reason = _heavy(draft, sources, node)
        elif "QLinear" in node.op or node.op in ("ConvInteger", "MatMulInteger", "QGemm"):
            reason = (
                None
                if node.domain == "secateur"
                else "its scales or weights are computed while it runs, or of another kind"
            )
        elif node.op not in _SIDES:
            read = [producer[name] for name in node.reads() if name in producer]
            if read and all(is_dequantize(each) for each in read):
                followed = any(is_fused(each, "Quantize") for name in node.outputs for each in readers.get(name, []))
                reason = f"there is no {node.op} on integers" if followed else "its result is not quantized"
        if reason:
            notes[node.name] = reason
    return replace(graph, notes={**graph.notes, **notes}) if notes else graph


def _heavy(draft: Draft, sources: Sources, node: Node) -> str:
    """Rule 1."""
    if node.op == "ConvTranspose":
        return "there is no ConvTranspose on integers"
    known = all(name in draft.types for name in (*node.inputs, *node.outputs) if name)
    if not known:
        return "the shapes of its values are not known"
    found = (convolution_of_integers if node.op == "Conv" else product_of_integers)(draft, sources, node)
    return found if isinstance(found, str) else "it is computed as it stands"
