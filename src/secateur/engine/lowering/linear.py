"""Linear nodes (Gemm, MatMul with constant weights) and convolutions of maps that become one pixel.

Three ways: dense slabs of outputs; slabs with the nonzeros of each output in its lane, whose inputs are gathered; and,
for many rows, the convolution kernel with rows as pixels (lowering.linear_pixels).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.engine.choice import Choice
from secateur.engine.emit.activations import supported
from secateur.engine.facts import LayerFacts
from secateur.engine.kernels.linear import LinearKernel
from secateur.engine.layout import Flat, split
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.linear_pixels import LEAST_ROWS, choose_pixels, emit_pixels
from secateur.engine.lowering.relayout import UNITS_PER_THREAD, to_flat, to_planes
from secateur.engine.registers import product_tile
from secateur.engine.weights.pattern import Pattern, detect
from secateur.engine.weights.slabs import dense_slabs, sparse_slabs
from secateur.graph.ir import Graph, Node

# Time of a stored weight by outputs that share its index, in that of a dense one (Cascade Lake, 0.25 to 8 MB of dense
# weights): an input costs two loads and a shuffle, and index and zeros up to the longest row are read too.
SPARSE_COST = {1: 3.5, 2: 1.8, 4: 1.35, 8: 1.2, 16: 1.2}
# A sparse product must promise this part of a dense one's time.
WORTH = 0.95
MOST_INPUTS = 1 << 16
# Up to here products wait for weights (on Cascade Lake 10 to 20 % less with prefetches, 5 % more for many rows).
FEW_ROWS = 24
# Rows whose sums a gathering tile holds.
GATHERED_ROWS = 4


@dataclass(frozen=True)
class Computed:
    """How a product was emitted: for the facts."""

    kernel: str
    weight_bytes: int
    choice: Choice | None = None
    reason: str = ""
    candidates: tuple[tuple[Choice, float], ...] = ()


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
    emit_linear(context, node, rows, weight, bias, Epilogue(residual, node.attributes.get("activation")), weight.shape)


def emit_linear(
    context: Context,
    node: Node,
    rows: int,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    epilogue: Epilogue,
    shape: tuple[int, ...],
) -> None:
    """Steps and facts of a node that is (rows, inputs) times (outputs, inputs) transposed.

    shape    of the weights in the file
    """
    x, y = to_flat(context, context.tensor(node.inputs[0])), context.place(node.outputs[0])
    emit_product(context, node.name, x, y, rows, weight, bias, epilogue, shape)


def emit_product(
    context: Context,
    layer: str,
    x: Tensor,
    y: Tensor,
    rows: int,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    epilogue: Epilogue,
    shape: tuple[int, ...],
    operator: str = "linear",
) -> None:
    """Steps and facts of y (rows, outputs) = x (rows, inputs) times (outputs, inputs) transposed.

    x          dense
    operator   what the report calls it
    """
    outputs, inputs = weight.shape
    pattern = detect(weight)
    residual = to_flat(context, epilogue.residual) if epilogue.residual else None
    epilogue = Epilogue(residual, epilogue.activation, epilogue.slope)
    out = y if isinstance(y.layout, Flat) else context.temporary(Flat(y.shape))
    choice, decision = None, None
    if rows >= LEAST_ROWS and pattern.kind != "dense":
        choice, decision = choose_pixels(context, layer, rows, weight, pattern)
    if choice and decision:
        stored, kernel = emit_pixels(context, layer, rows, weight, bias, x, out, choice, epilogue)
        done = Computed(kernel, stored, choice, "", decision.candidates)
    else:
        done = _emit_slabs(context, layer, rows, weight, bias, x, out, pattern, epilogue)
        if decision and done.reason:
            done = Computed(done.kernel, done.weight_bytes, None, decision.reason, decision.candidates)
    if out is not y:
        to_planes(context, out, target=y)
    context.layers.append(
        LayerFacts(
            layer=layer,
            operator=operator,
            shape=shape,
            output=y.shape,
            density=pattern.density,
            pattern=str(pattern),
            kernel=done.kernel,
            choice=done.choice,
            macs=rows * outputs * inputs,
            work=round(rows * outputs * inputs * pattern.density),
            weight_bytes=done.weight_bytes,
            reason=done.reason,
            candidates=done.candidates,
        )
    )


def _emit_slabs(
    context: Context,
    layer: str,
    rows: int,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    x: Tensor,
    y: Tensor,
    pattern: Pattern,
    epilogue: Epilogue,
) -> Computed:
    """One step with the outputs in lanes."""
    outputs, inputs = weight.shape
    target = context.target
    block = gathered_block(rows, inputs, pattern, target.lanes)
    slab, most = (1, GATHERED_ROWS) if block else product_tile(rows, outputs, context.threads, target)
    slabs = sparse_slabs(weight, target.lanes, block) if block else dense_slabs(weight, slab * target.lanes)
    sizes = split(rows, most)
    wanted = -(-UNITS_PER_THREAD * context.threads // len(slabs.costs))
    part = -(-len(sizes) // min(wanted, len(sizes)))
    parts = -(-len(sizes) // part)
    width = len(slabs.costs) * slab * target.lanes
    kernel = LinearKernel(
        slab,
        tuple(sorted(set(sizes), reverse=True)),
        block,
        epilogue.activation,
        residual=epilogue.residual is not None,
        prefetch=not block and rows <= FEW_ROWS,
    )
    context.emit(
        layer,
        kernel,
        {
            "x": x.address,
            "y": y.address,
            "residual": epilogue.residual.address if epilogue.residual else 0,
            "bias": _padded(bias, width),
            "slope": 0 if epilogue.slope is None else _padded(epilogue.slope, width),
            "weights": slabs.weights,
            "indices": slabs.indices,
            "starts": slabs.starts,
            "inputs": inputs,
            "outputs": outputs,
            "tiles": len(sizes),
            "large": sizes.count(sizes[0]),
            "part": part,
            "parts": parts,
        },
        len(slabs.costs) * parts,
        reads=(x, *((epilogue.residual,) if epilogue.residual else ())),
        writes=(y,),
        costs=np.repeat(slabs.costs, parts),
    )
    reason = "" if block or pattern.kind == "dense" else f"{100 * pattern.sparsity:.0f} % zeros are too few to skip"
    return Computed(kernel.name, slabs.nbytes, reason=reason)


def gathered_block(rows: int, inputs: int, pattern: Pattern, lanes: int) -> int:
    """Outputs that share an index in the sparse format; 0 where the dense one is faster.

    The dense product of few rows takes as long as reading its weights; inputs are fetched for each row anew.
    """
    if pattern.kind == "dense" or inputs > MOST_INPUTS:
        return 0
    fills = {1: 1.0} | {n: fill for n, fill in pattern.fills.items() if n in SPARSE_COST and n <= lanes}
    cost, block = min((pattern.density / fill * SPARSE_COST[n], n) for n, fill in fills.items() if fill > 0)
    return block if cost * rows < WORTH else 0


def _padded(values: NDArray[np.float32] | None, size: int) -> NDArray[np.float32]:
    padded = np.zeros(size, np.float32)
    if values is not None:
        padded[: len(values)] = values
    return padded
