"""Linear nodes (Gemm, MatMul with constant weights) and convolutions of maps that become one pixel.

Three ways: dense slabs of outputs; slabs with the nonzeros of each output in its lane, whose inputs are gathered; and,
for many rows, the convolution kernel with rows as pixels (lowering.linear_pixels).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.engine.emit.activations import supported
from secateur.engine.facts import LayerFacts
from secateur.engine.kernels.linear import LinearKernel
from secateur.engine.layout import Flat, split
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.linear_choice import choose_way
from secateur.engine.lowering.linear_cost import GATHERED_ROWS
from secateur.engine.lowering.linear_pixels import emit_pixels
from secateur.engine.lowering.pairs import pair_rows
from secateur.engine.lowering.parts import UNITS_PER_THREAD
from secateur.engine.lowering.relayout import to_flat, to_planes
from secateur.engine.program import Argument
from secateur.engine.registers import product_tile
from secateur.engine.weights.pairs import weight_pairs
from secateur.engine.weights.pattern import detect
from secateur.engine.weights.slabs import dense_slabs, sparse_slabs
from secateur.engine.weights.streams import Weights
from secateur.graph.ir import Graph, Node

# Products wait for weights up to here, and where slabs are long. On Cascade Lake prefetches gain 10 to 20 % for few
# rows, and 2 to 13 % for 197 rows from 768 inputs on; for 197 rows of 192 inputs they cost 4 %.
FEW_ROWS = 24
MANY_INPUTS = 512


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
    operator: str = "linear",
    groups: int = 1,
) -> None:
    """Steps and facts of a node that is (rows, inputs) times (outputs, inputs) transposed.

    shape    of the weights in the file
    groups   as many neighbouring parts of the inputs, of which each part of the outputs has one to itself
    """
    x, y = to_flat(context, context.tensor(node.inputs[0])), context.place(node.outputs[0])
    emit_product(context, node.name, x, y, rows, weight, bias, epilogue, shape, operator, groups)


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
    groups: int = 1,
) -> None:
    """Steps and facts of y (rows, outputs) = x (rows, inputs) times (outputs, inputs) transposed.

    weight     (outputs, inputs / groups)
    x          dense
    operator   what the report calls it
    groups     what lies between them are zeros like others
    """
    pattern = own = detect(weight)
    macs = rows * weight.size
    if groups > 1:
        weight = block_diagonal(weight, groups)
        pattern = detect(weight)
    residual = to_flat(context, epilogue.residual) if epilogue.residual else None
    epilogue = Epilogue(residual, epilogue.activation, epilogue.slope)
    out = y if isinstance(y.layout, Flat) else context.temporary(Flat(y.shape))
    words: Weights = weight
    if context.bf16:
        words = weight_pairs(weight)
        pattern = detect(words)
    way, reason = choose_way(context, layer, rows, words, pattern, pairs=context.bf16)
    if way.choice:
        stored, kernel = emit_pixels(context, layer, rows, words, bias, x, out, way.choice, epilogue)
    else:
        x = pair_rows(context, x, rows, weight.shape[1]) if context.bf16 else x
        emit = (context, layer, rows, words, bias, x, out, way.block, epilogue)
        stored, kernel = emit_slabs(*emit, pairs=context.bf16)
    if out is not y:
        to_planes(context, out, target=y)
    context.layers.append(
        LayerFacts(
            layer=layer,
            operator=operator,
            shape=shape,
            output=y.shape,
            density=own.density,
            pattern=str(own),
            kernel=kernel,
            choice=way.choice,
            macs=macs,
            work=round(macs * own.density),
            weight_bytes=stored,
            reason=reason if own.kind != "dense" else "",
            candidates=way.candidates,
            bits=16 if context.bf16 else 32,
        )
    )


def emit_slabs(
    context: Context,
    layer: str,
    rows: int,
    weight: Weights,
    bias: NDArray[np.float32] | NDArray[np.int32] | None,
    x: Tensor,
    y: Tensor,
    block: int,
    epilogue: Epilogue,
    *,
    pairs: bool = False,
) -> tuple[int, str]:
    """One step with the outputs in lanes; the bytes of its weights and its kernel's name.

    x, y     dense: floats, or bytes that the kernel reads as quads and writes one by one
    weight   float32, or pairs or quads as uint32
    block    outputs that share an index; 0 for dense slabs
    pairs    x and weight are pairs of bf16 numbers
    """
    outputs, inputs = weight.shape
    target = context.target
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
        prefetch=not block and (rows <= FEW_ROWS or inputs >= MANY_INPUTS),
        requantize=epilogue.requantized.how if epilogue.requantized else None,
        pairs=pairs,
    )
    arguments: dict[str, Argument] = {
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
    }
    if epilogue.requantized:
        arguments |= epilogue.requantized.arguments(width)
    context.emit(
        *(layer, kernel, arguments),
        len(slabs.costs) * parts,
        reads=(x, *((epilogue.residual,) if epilogue.residual else ())),
        writes=(y,),
        costs=np.repeat(slabs.costs, parts),
    )
    return slabs.nbytes, kernel.name


def block_diagonal(weight: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """(outputs, inputs / groups) as (outputs, inputs): zeros where an output's group has no share."""
    outputs, inputs = weight.shape
    whole = np.zeros((groups, outputs // groups, groups, inputs), np.float32)
    each = np.arange(groups)
    whole[each, :, each] = weight.reshape(groups, outputs // groups, inputs)
    return whole.reshape(outputs, groups * inputs)


def _padded(values: NDArray[Any] | None, size: int) -> NDArray[Any]:
    if values is None:
        return np.zeros(size, np.float32)  # as integers the same
    padded = np.zeros(size, values.dtype)
    padded[: len(values)] = values
    return padded
