"""Matrix products of integers."""

from collections.abc import Sequence

from secateur.graph.ir import ABSENT, Graph, Node
from secateur.graph.quantized.build import sum_node
from secateur.graph.quantized.sources import Sources
from secateur.graph.rewrite import Draft, is_onnx, rewrite_nodes


def quantized_linear(graph: Graph) -> Graph:
    """ONNX's Gemm and MatMul of dequantized values as QLinear with a float32 result.

    1. The first operand is dequantized from one scale and has at least two sides; the second one is a dequantized
       constant matrix with one scale per output or one in all, and is at most 8 bits from its zero points.
    2. Gemm: alpha and beta are 1, the first operand is not transposed, the third one is a constant with one number
       per output.
    """
    sources = Sources(graph)

    def rule(draft: Draft, node: Node) -> Sequence[Node] | None:
        found = product_of_integers(draft, sources, node) if is_onnx(node, "Gemm", "MatMul") else ""
        return None if isinstance(found, str) else [found]

    return rewrite_nodes(graph, rule)


def product_of_integers(draft: Draft, sources: Sources, node: Node) -> Node | str:
    """The QLinear for a Gemm or MatMul, or why there is none."""
    x = sources.integers(draft, node.inputs[0])
    if x is None:
        return "its input is not quantized with one constant scale"
    sides = draft.shape(node.inputs[1])
    if len(sides) != 2 or len(draft.shape(node.inputs[0])) < 2:
        return "it is no product with one matrix"
    bias, rows = ABSENT, 1
    if node.op == "Gemm":
        bias, rows = node.input(2), 0 if node.attributes.get("transB", 0) else 1
        factors = [float(node.attributes.get(key, 1.0)) for key in ("alpha", "beta")]
        if factors[0] != 1 or (bias and factors[1] != 1) or node.attributes.get("transA", 0):
            return "it is a Gemm with factors or a transposed first operand"
        if bias and (
            draft.types[bias].size not in (1, sides[rows]) or draft.shape(bias)[-1:] not in ((), (1,), (sides[rows],))
        ):
            return "it adds another matrix"
    if draft.shape(node.inputs[0])[-1] != sides[1 - rows]:
        return "its operands do not fit"
    weight = sources.weight(draft, node.inputs[1], rows)
    return weight if isinstance(weight, str) else sum_node(draft, sources, "QLinear", node, *x, weight, bias)
