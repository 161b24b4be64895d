"""Matrix products in normal form."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secateur.graph.ir import ABSENT, Graph, Node
from secateur.graph.rewrite import Draft, Floats, fused, is_onnx, rewrite_nodes


def normal_linear(graph: Graph) -> Graph:
    """Gemm and MatMul as Linear (weight (outputs, inputs) constant) or as the normal form's MatMul.

    1. All values are float32.
    2. alpha is folded into the weight, beta into the bias; both are finite.
    3. The third operand of Gemm is a constant that is one number per column, or a value of the output's shape, which
       becomes the residual.
    4. Gemm with a transposed or constant first operand, or with a variable second one, stays as it is.
    5. MatMul with a constant matrix as second operand is Linear; other MatMuls of at least two dimensions are MatMul.
    """
    return rewrite_nodes(graph, _rule)


def _rule(draft: Draft, node: Node) -> Sequence[Node] | None:
    if not is_onnx(node, "Gemm", "MatMul") or not draft.floats(*node.inputs, *node.outputs):
        return None
    return _gemm(draft, node) if node.op == "Gemm" else _matmul(draft, node)


def _gemm(draft: Draft, node: Node) -> Sequence[Node] | None:
    a, b, c = node.input(0), node.input(1), node.input(2)
    alpha, beta = float(node.attributes.get("alpha", 1.0)), float(node.attributes.get("beta", 1.0))
    matrix = draft.array(b)
    if matrix is None or matrix.ndim != 2 or node.attributes.get("transA", 0) or draft.array(a) is not None:
        return None
    weight = _scaled(matrix if node.attributes.get("transB", 0) else matrix.T, alpha)
    out = draft.shape(node.outputs[0])
    if weight is None or draft.shape(a) != (out[0], weight.shape[1]) or out[1] != weight.shape[0]:
        return None
    bias, residual = ABSENT, ABSENT
    if c and beta != 0:
        vector = row_vector(draft.array(c), out)
        vector = None if vector is None else _scaled(vector, beta)
        if vector is not None:
            bias = draft.constant(f"{c}.bias", vector)
        elif beta == 1 and draft.shape(c) == out:
            residual = c
        else:
            return None
    w = b if weight is matrix else draft.constant(f"{b}.linear", weight)
    return [fused("Linear", node, (a, w, bias, residual), activation=None)]


def _matmul(draft: Draft, node: Node) -> Sequence[Node] | None:
    a, b = node.inputs
    rank_a, rank_b = len(draft.shape(a)), len(draft.shape(b))
    if rank_a < 2 or rank_b < 2:
        return None
    matrix = draft.array(b)
    if matrix is None or draft.array(a) is not None or matrix.size != matrix.shape[-1] * matrix.shape[-2]:
        return [fused("MatMul", node, (a, b))]
    if rank_a < rank_b:
        return [fused("MatMul", node, (a, b))]
    weight = matrix.reshape(matrix.shape[-2:]).T
    return [fused("Linear", node, (a, draft.constant(f"{b}.linear", weight)), activation=None)]


def row_vector(array: NDArray[np.float32] | None, out: Sequence[int]) -> Floats | None:
    """A constant that is one number per last coordinate of `out`, as (last side,); None when it is not."""
    if array is None or array.ndim > len(out) or array.size not in (1, out[-1]):
        return None
    if array.size > 1 and array.shape[-1] != out[-1]:
        return None
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (out[-1],)))


def _scaled(array: Floats, factor: float) -> Floats | None:
    if factor == 1:
        return array
    with np.errstate(all="ignore"):
        result = array * np.float32(factor)
    return result if np.isfinite(result).all() else None
