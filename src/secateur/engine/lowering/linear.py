"""Linear nodes (Gemm, MatMul with constant weights) and 1x1 convolutions of 1x1 maps."""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.emit.activations import supported
from secateur.engine.facts import LayerFacts
from secateur.engine.kernels.linear import LinearKernel
from secateur.engine.layout import Flat
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.relayout import to_flat, to_planes
from secateur.engine.weights.pattern import detect
from secateur.engine.weights.slabs import dense_slabs, sparse_slabs
from secateur.graph.ir import Activation, Graph, Node

# A sparse entry costs 6 bytes and a gathered load, a dense one 4 bytes; below this density the gather wins.
SPARSE_BELOW = 0.35
SLAB = 4
MOST_INPUTS = 1 << 16


def _refuses(node: Node, graph: Graph) -> str | None:
    if node.domain != "secateur":
        return "its weights are computed while the network runs"
    if not supported(node.attributes.get("activation")):
        return f"the activation {node.attributes['activation']} has no kernel"
    if graph.type(node.outputs[0]).dtype != "float32":
        return "it is not float32"
    return None


@lowers("Linear", refuses=_refuses)
def linear(node: Node, context: Context) -> None:
    """Linear of the normal form: inputs (x, w, bias, residual)."""
    graph = context.graph
    weight = graph.constants[node.inputs[1]]
    bias = graph.constants[node.input(2)].reshape(-1) if node.input(2) else None
    residual = context.tensor(node.input(3)) if node.input(3) else None
    rows = graph.type(node.inputs[0]).size // weight.shape[1]
    emit_linear(context, node, rows, weight, bias, residual, node.attributes.get("activation"), weight.shape)


def emit_linear(
    context: Context,
    node: Node,
    rows: int,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    residual: Tensor | None,
    activation: Activation | None,
    shape: tuple[int, ...],
) -> None:
    """One step: (rows, inputs) times (outputs, inputs) transposed.

    shape    of the weights in the file
    """
    outputs, inputs = weight.shape
    pattern = detect(weight)
    sparse = pattern.density < SPARSE_BELOW and inputs <= MOST_INPUTS
    lanes = context.target.lanes
    slab = 1 if sparse else SLAB
    slabs = sparse_slabs(weight, lanes) if sparse else dense_slabs(weight, slab * lanes)
    count = len(slabs.costs)
    padded = np.zeros(count * slab * lanes, np.float32)
    if bias is not None:
        padded[:outputs] = bias
    x, y = to_flat(context, context.tensor(node.inputs[0])), context.place(node.outputs[0])
    residual = to_flat(context, residual) if residual else None
    out = y if isinstance(y.layout, Flat) else context.temporary(Flat(y.shape))
    kernel = LinearKernel(slab, sparse, activation, residual is not None)
    context.emit(
        node.name,
        kernel,
        {
            "x": x.address,
            "y": out.address,
            "residual": residual.address if residual else 0,
            "bias": padded,
            "weights": slabs.weights,
            "indices": slabs.indices,
            "starts": slabs.starts,
            "inputs": inputs,
            "outputs": outputs,
            "rows": rows,
        },
        count,
        reads=(x, *((residual,) if residual else ())),
        writes=(out,),
        costs=slabs.costs,
    )
    if out is not y:
        to_planes(context, out, target=y)
    reason = "" if sparse or pattern.kind == "dense" else f"density {pattern.density:.2f} is above {SPARSE_BELOW}"
    context.layers.append(
        LayerFacts(
            layer=node.name,
            operator="linear",
            shape=shape,
            output=context.graph.shape(node.outputs[0]),
            density=pattern.density,
            pattern=str(pattern),
            kernel=kernel.name,
            choice=None,
            macs=rows * outputs * inputs,
            work=round(rows * outputs * inputs * pattern.density),
            weight_bytes=slabs.nbytes,
            reason=reason,
        )
    )
