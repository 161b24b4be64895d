"""Arithmetic with constants around layers of a float ONNX file, folded into their weights.

    scale (W x + b) + shift = (scale W) x + (scale b + shift)

1. The layer's value has no other reader and is no output.
2. Constants are one number, or one for each output channel.
3. Weights that are zero stay zero; where a number would not be finite, nothing is folded.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from secateur.quantization.rewriting import (
    bypass_,
    constant_of,
    float_attribute,
    give_operand_,
    int_attribute,
    ints_attribute,
    is_op,
    only_reader,
    operand,
)

Floats = NDArray[np.floating]
_CONVOLUTIONS = ("Conv", "ConvTranspose")


def fold_all_(graph: ir.Graph) -> None:
    """Fold what can be folded, front to back."""
    for node in list(graph):
        if is_op(node, "MatMul"):
            _matmul_to_gemm_(graph, node)
        if is_op(node, "Gemm"):
            _fold_factors_(graph, node)
        if is_op(node, "ReduceMean"):
            _mean_to_pool_(graph, node)
        if is_op(node, "Conv"):
            _fold_pad_(graph, node)
        if is_op(node, *_CONVOLUTIONS, "Gemm"):
            while _fold_tail_(graph, node):
                pass


def _fold_tail_(graph: ir.Graph, head: ir.Node) -> bool:
    tail = only_reader(head.outputs[0])
    affine = None if tail is None else _affine_of(tail, head)
    if tail is None or affine is None:
        return False
    scale, shift = affine
    weight, bias = constant_of(head.inputs[1]), constant_of(operand(head, 2))
    if weight is None or weight.dtype != np.float32 or (operand(head, 2) is not None and bias is None):
        return False
    own = None if bias is None else _by_output(bias, outputs_of(head, weight.shape))
    if bias is not None and own is None:
        return False
    with np.errstate(all="ignore"):
        wide = weight.astype(np.float64) * along_outputs(head, scale, weight.shape)
        old = np.zeros_like(shift) if own is None else own.astype(np.float64)
        new_weight, new_bias = wide.astype(np.float32), (old * scale + shift).astype(np.float32)
    if not (np.isfinite(new_weight).all() and np.isfinite(new_bias).all()):
        return False
    name = head.inputs[1].name if head.inputs[1] is not None else None
    # Only what changes is written: a term alone leaves the weights as they are.
    if (scale != 1).any():
        give_operand_(graph, head, 1, name or f"{head.name}.weight", new_weight + np.float32(0))
    give_operand_(graph, head, 2, f"{(name or head.name or '').removesuffix('.weight')}.bias", new_bias)
    bypass_(graph, head, tail)
    return True


def outputs_of(node: ir.Node, shape: tuple[int, ...]) -> int:
    """How many output channels a layer with a weight of this shape has."""
    if is_op(node, "ConvTranspose"):
        return shape[1] * int_attribute(node, "group", 1)
    return shape[output_axis(node)]


def output_axis(node: ir.Node) -> int:
    """The axis of a layer's weight that its output channels lie on (of a group, for transposed convolutions)."""
    if is_op(node, "Conv"):
        return 0
    if is_op(node, "ConvTranspose"):
        return 1
    return 0 if is_op(node, "Gemm") and int_attribute(node, "transB", 0) else 1


def along_outputs(node: ir.Node, numbers: Floats, shape: tuple[int, ...]) -> Floats:
    """One number for each output channel, shaped so that a layer's weight can be multiplied with it."""
    if is_op(node, "ConvTranspose"):
        # (inputs, outputs / groups, ...): the inputs of group g meet the outputs of group g.
        groups = int_attribute(node, "group", 1)
        spread = np.repeat(numbers.reshape(groups, -1), shape[0] // groups, axis=0)
        return spread.reshape(*spread.shape, *(1,) * (len(shape) - 2))
    sides = [1] * len(shape)
    sides[output_axis(node)] = -1
    return numbers.reshape(sides)


def _affine_of(tail: ir.Node, head: ir.Node) -> tuple[Floats, Floats] | None:
    """(outputs,) float64 factors and terms of a node behind a layer, None where it is something else."""
    weight = constant_of(head.inputs[1])
    value = head.outputs[0]
    if weight is None:
        return None
    count = outputs_of(head, weight.shape)
    ones, zeros = np.ones(count), np.zeros(count)
    if is_op(tail, "BatchNormalization"):
        if int_attribute(tail, "training_mode", 0) or tail.inputs[0] is not value or is_op(head, "Gemm"):
            return None
        parts = [constant_of(tail.inputs[index]) for index in range(1, 5)]
        if any(part is None or part.shape != (count,) for part in parts):
            return None
        gamma, beta, mean, variance = (np.asarray(part, np.float64) for part in parts)
        scale = gamma / np.sqrt(variance + float_attribute(tail, "epsilon", 1e-5))
        return scale, beta - mean * scale
    if not is_op(tail, "Mul", "Add", "Sub", "Div") or len(tail.inputs) != 2:
        return None
    place = 0 if tail.inputs[0] is value else 1
    other = constant_of(tail.inputs[1 - place])
    if other is None or other.dtype != np.float32:
        return None
    numbers = _per_channel(other, count, _rank_of(head, weight))
    if numbers is None:
        return None
    if is_op(tail, "Mul"):
        return numbers, zeros
    if is_op(tail, "Add"):
        return ones, numbers
    if is_op(tail, "Sub"):
        return (ones, -numbers) if place == 0 else (-ones, numbers)
    return (1.0 / numbers, zeros) if place == 0 and numbers.all() else None


def _per_channel(array: Floats, count: int, rank: int) -> Floats | None:
    """(count,) float64, where a constant has one number for each channel of a tensor of `rank` axes, or one for all."""
    if array.size == 1 and array.ndim <= rank:
        return np.full(count, float(array.reshape(())))
    axis = 1 - rank
    sides = [1] * rank
    sides[axis] = count
    fits = array.ndim <= rank and [1] * (rank - array.ndim) + list(array.shape) == sides
    return array.reshape(-1).astype(np.float64) if fits else None


def _rank_of(head: ir.Node, weight: Floats) -> int:
    return 2 if is_op(head, "Gemm") else weight.ndim


def _fold_pad_(graph: ir.Graph, conv: ir.Node) -> None:
    """Rule: zeros around the positions only, and the padded map has no other reader."""
    source = conv.inputs[0]
    pad = None if source is None else source.producer()
    if source is None or pad is None or not is_op(pad, "Pad") or only_reader(source) is not conv:
        return
    mode = pad.attributes["mode"].as_string() if "mode" in pad.attributes else "constant"
    auto = conv.attributes["auto_pad"].as_string() if "auto_pad" in conv.attributes else "NOTSET"
    weight, pads, filling = conv.inputs[1], constant_of(operand(pad, 1)), constant_of(operand(pad, 2))
    if mode != "constant" or auto not in ("NOTSET", "VALID") or pads is None or operand(pad, 3) is not None:
        return
    if operand(pad, 2) is not None and (filling is None or filling.any()):
        return
    rank = len(pads) // 2
    befores, afters = pads[:rank].tolist(), pads[rank:].tolist()
    if min(befores + afters) < 0 or any(befores[:2] + afters[:2]):
        return
    if weight is None or weight.shape is None or len(weight.shape) != rank:
        return
    own = ints_attribute(conv, "pads", [0] * 2 * (rank - 2)) if auto == "NOTSET" else [0] * 2 * (rank - 2)
    total = [a + b for a, b in zip(own, [*befores[2:], *afters[2:]], strict=True)]
    conv.attributes["pads"] = ir.AttrInt64s("pads", total)
    conv.attributes.pop("auto_pad", None)
    conv.replace_input_with(0, pad.inputs[0])
    graph.remove(pad, safe=True)


def _matmul_to_gemm_(graph: ir.Graph, product: ir.Node) -> None:
    """x W + b with rows x, where W is a constant matrix."""
    left, weight = product.inputs[0], constant_of(product.inputs[1])
    if left is None or left.shape is None or len(left.shape) != 2 or weight is None or weight.ndim != 2:
        return
    if weight.dtype != np.float32:
        return
    product.op_type = "Gemm"


def _fold_factors_(graph: ir.Graph, gemm: ir.Node) -> None:
    alpha, beta = float_attribute(gemm, "alpha", 1.0), float_attribute(gemm, "beta", 1.0)
    weight, bias = constant_of(gemm.inputs[1]), constant_of(operand(gemm, 2))
    if weight is None or (operand(gemm, 2) is not None and bias is None):
        return
    flat = None if bias is None else _by_output(bias, outputs_of(gemm, weight.shape))
    if bias is not None and flat is None:
        return
    if alpha != 1.0:
        give_operand_(graph, gemm, 1, f"{gemm.name}.weight", (weight * np.float32(alpha)).astype(weight.dtype))
    if bias is not None and flat is not None and (beta != 1.0 or flat.shape != bias.shape):
        give_operand_(graph, gemm, 2, f"{gemm.name}.bias", (flat * np.float32(beta)).astype(bias.dtype))
    gemm.attributes.pop("alpha", None)
    gemm.attributes.pop("beta", None)


def _by_output(bias: np.ndarray, outputs: int) -> np.ndarray | None:
    """A number for each output, (outputs,); None where images have biases of their own."""
    if bias.size == 1:
        return np.broadcast_to(bias.reshape(-1), (outputs,))
    return bias.reshape(-1) if bias.size == outputs and bias.shape[-1] == outputs else None


def _mean_to_pool_(graph: ir.Graph, mean: ir.Node) -> None:
    source = mean.inputs[0]
    if source is None or source.shape is None or len(source.shape) != 4:
        return
    given = constant_of(operand(mean, 1))
    if operand(mean, 1) is not None and given is None:
        return
    axes = ints_attribute(mean, "axes", []) if given is None else given.tolist()
    if sorted(axis % 4 for axis in axes) != [2, 3]:
        return
    pool = ir.node("GlobalAveragePool", [source], name=mean.name)
    before = mean.outputs[0]
    if int_attribute(mean, "keepdims", 1):
        graph.insert_before(mean, pool)
        last = pool
    else:
        pool.outputs[0].name = f"{before.name}.pooled"
        sides = list(source.shape)[:2]
        pool.outputs[0].shape, pool.outputs[0].type = ir.Shape([*sides, 1, 1]), source.type
        last = ir.node("Flatten", [pool.outputs[0]], {"axis": 1}, name=f"{mean.name}.Flatten")
        graph.insert_before(mean, [pool, last])
    name, shape, kind = before.name, before.shape, before.type
    before.name = None
    last.outputs[0].name, last.outputs[0].shape, last.outputs[0].type = name, shape, kind
    before.replace_all_uses_with(last.outputs[0], replace_graph_outputs=True)
    graph.remove(mean, safe=True)
