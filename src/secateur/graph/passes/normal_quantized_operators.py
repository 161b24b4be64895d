"""Operators of files that quantize inside, in terms of those that do not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from secateur.graph.ir import ABSENT, Graph, Node
from secateur.graph.passes.normal_convolution import convolution_attributes
from secateur.graph.quantized.build import sum_node
from secateur.graph.quantized.grid import Grid, to_floats
from secateur.graph.quantized.sources import Sources, Weight, constant_pair, scalar_grid, weight_of
from secateur.graph.quantized.spelled import DOMAIN as RUNTIME
from secateur.graph.quantized.spelled import spelled
from secateur.graph.rewrite import DOMAIN, Draft, is_fused, is_onnx, rewrite_nodes


def normal_quantized_operators(graph: Graph) -> Graph:
    """QLinearConv, QLinearMatMul, QGemm, ConvInteger, MatMulInteger and ONNX Runtime's QLinear operators.

    1. Scales and zero points of values are constants of one element, those of weights one per output or one in all;
       weights and biases are constants, and weights at most 8 bits from their zero points.
    2. QLinearConv, QLinearMatMul and QGemm are QConv and QLinear with a float32 result, and Quantize.
    3. ConvInteger and MatMulInteger whose result goes through a Cast into a product with a constant, of one number or
       one per output, are QConv and QLinear with these scales.
    4. QLinear Add, Mul, Sigmoid, LeakyRelu, Concat, AveragePool and GlobalAveragePool are Dequantize, ONNX's operator
       and Quantize.
    """
    sources, producer = Sources(graph), graph.producer()

    def rule(draft: Draft, node: Node) -> Sequence[Node] | None:
        if node.op == "QGemm" and node.domain == RUNTIME:
            return _rounded(draft, node, _gemm(draft, sources, node), (7, 8))
        if is_onnx(node, "QLinearConv"):
            return _rounded(draft, node, _convolution(draft, sources, node), (6, 7))
        if is_onnx(node, "QLinearMatMul"):
            return _rounded(draft, node, _product(draft, sources, node), (6, 7))
        if is_fused(node, "Mul"):
            return _scaled_integers(draft, sources, producer, node)
        return _between(draft, node) if node.domain == RUNTIME else None

    return rewrite_nodes(graph, rule)


def _grid(draft: Draft, node: Node, value: int, scale: int, zero: int) -> Grid | None:
    """The numbers of a value that is no constant."""
    name = node.inputs[value]
    if draft.array(name) is not None:
        return None
    return scalar_grid(draft, node.input(scale), node.input(zero), draft.types[name].dtype)


def _weight(draft: Draft, node: Node, place: int, axis: int) -> Weight | None:
    """The weight at a place among the inputs; scale and zero point follow it."""
    pair = constant_pair(draft, node.input(place), node.input(place + 1), node.input(place + 2), axis)
    found = pair if isinstance(pair, str) else weight_of(pair, axis)
    return None if isinstance(found, str) else found


def _convolution(draft: Draft, sources: Sources, node: Node) -> Node | None:
    grid, weight = _grid(draft, node, 0, 1, 2), _weight(draft, node, 3, 0)
    if grid is None or weight is None or weight.values.ndim != 4:
        return None
    plain = replace(node, inputs=(node.inputs[0], node.inputs[3], node.input(8)))
    attributes = convolution_attributes(draft, plain, weight.values.shape)
    if attributes is None:
        return None
    return _made(draft, sources, "QConv", node, grid, weight, node.input(8), attributes)


def _product(draft: Draft, sources: Sources, node: Node) -> Node | None:
    grid = _grid(draft, node, 0, 1, 2)
    weight = _weight(draft, node, 3, 1) if len(draft.shape(node.inputs[3])) == 2 else None
    if grid is None or weight is None or draft.shape(node.inputs[0])[-1] != weight.values.shape[1]:
        return None
    return (
        None
        if len(draft.shape(node.inputs[0])) < 2
        else _made(draft, sources, "QLinear", node, grid, weight, ABSENT, {})
    )


def _gemm(draft: Draft, sources: Sources, node: Node) -> Node | None:
    if node.attributes.get("transA", 0) or float(node.attributes.get("alpha", 1.0)) != 1:
        return None
    grid, bias = _grid(draft, node, 0, 1, 2), node.input(6)
    weight = _weight(draft, node, 3, 0 if node.attributes.get("transB", 0) else 1)
    if (
        grid is None
        or weight is None
        or weight.values.ndim != 2
        or draft.shape(node.inputs[0])[-1] != weight.values.shape[1]
    ):
        return None
    if bias and (draft.types[bias].size not in (1, len(weight.values)) or draft.shape(bias)[:-1] not in ((), (1,))):
        return None
    return _made(draft, sources, "QLinear", node, grid, weight, bias, {})


def _made(
    draft: Draft,
    sources: Sources,
    op: str,
    node: Node,
    grid: Grid,
    weight: Weight,
    bias: str,
    window: Mapping[str, Any],
) -> Node | None:
    """The node of the normal form; the file's bias is int32, in units of the products."""
    integers = draft.array(bias) if bias else None
    if bias and integers is None:
        return None
    found = sum_node(draft, sources, op, node, node.inputs[0], grid, weight, ABSENT, **window)
    if isinstance(found, str):
        return None
    if integers is not None and integers.any():
        spread = np.ascontiguousarray(np.broadcast_to(integers.reshape(-1), (len(weight.values),)).astype(np.int32))
        found = replace(found, inputs=(*found.inputs[:2], draft.constant(f"{node.name}.bias", spread)))
    return found


def _rounded(draft: Draft, node: Node, sums: Node | None, output: tuple[int, int]) -> list[Node] | None:
    """A sum with the Quantize behind it that the operator at hand contains."""
    if sums is None or not node.input(output[0]):
        return None if sums is None else [sums]
    y = node.outputs[0]
    grid = scalar_grid(draft, node.input(output[0]), node.input(output[1]), draft.types[y].dtype)
    if grid is None:
        return None
    value = draft.value(f"{y}.float", draft.shape(y))
    return [replace(sums, outputs=(value,)), _quantize(f"{node.name}.quantize", value, y, grid)]


def _quantize(name: str, value: str, y: str, grid: Grid) -> Node:
    numbers = {"scale": grid.scale, "zero": grid.zero, "dtype": grid.dtype}
    return Node(name, "Quantize", (value,), (y,), numbers, DOMAIN)


def _scaled_integers(draft: Draft, sources: Sources, producer: Mapping[str, Node], node: Node) -> list[Node] | None:
    """Rule 3."""
    for value, factor in (node.inputs, node.inputs[::-1]):
        cast, scale = producer.get(value), draft.array(factor)
        inner = producer.get(cast.inputs[0]) if cast is not None and is_onnx(cast, "Cast") else None
        if inner is None or scale is None or not is_onnx(inner, "ConvInteger", "MatMulInteger"):
            continue
        found = _INTEGERS[inner.op](draft, sources, replace(inner, outputs=node.outputs), scale)
        if found is not None:
            absorbed = (inner.name, *(() if cast is None else (cast.name,)))
            return [
                replace(
                    found,
                    attributes={**found.attributes, "activation": node.attributes["activation"]},
                    absorbed=absorbed,
                )
            ]
    return None


def _conv_integer(draft: Draft, sources: Sources, node: Node, scale: np.ndarray) -> Node | None:
    found = _integer_operands(draft, node, 0)
    rows = _per_row(scale, 1, len(draft.shape(node.outputs[0])), draft.shape(node.inputs[1])[0])
    if found is None or rows is None or found[1].values.ndim != 4:
        return None
    attributes = convolution_attributes(draft, replace(node, inputs=node.inputs[:2]), found[1].values.shape)
    weight = Weight(found[1].values, rows)
    return None if attributes is None else _made(draft, sources, "QConv", node, found[0], weight, ABSENT, attributes)


def _matmul_integer(draft: Draft, sources: Sources, node: Node, scale: np.ndarray) -> Node | None:
    if len(draft.shape(node.inputs[1])) != 2 or len(draft.shape(node.inputs[0])) < 2:
        return None
    found = _integer_operands(draft, node, 1)
    rank = len(draft.shape(node.outputs[0]))
    rows = _per_row(scale, rank - 1, rank, draft.shape(node.inputs[1])[1])
    if found is None or rows is None:
        return None
    return _made(draft, sources, "QLinear", node, found[0], Weight(found[1].values, rows), ABSENT, {})


_INTEGERS: dict[str, Callable[[Draft, Sources, Node, np.ndarray], Node | None]] = {
    "ConvInteger": _conv_integer,
    "MatMulInteger": _matmul_integer,
}


def _integer_operands(draft: Draft, node: Node, axis: int) -> tuple[Grid, Weight] | None:
    """The first operand's numbers, in units of 1, and the weight of a ConvInteger or MatMulInteger."""
    one = draft.constant(f"{node.name}.one", np.ones((), np.float32))
    grid = scalar_grid(draft, one, node.input(2), draft.types[node.inputs[0]].dtype)
    pair = constant_pair(draft, node.inputs[1], one, node.input(3), axis)
    weight = pair if isinstance(pair, str) else weight_of(pair, axis)
    if grid is None or isinstance(weight, str) or draft.array(node.inputs[0]) is not None:
        return None
    return grid, weight


def _per_row(scale: np.ndarray, axis: int, rank: int, rows: int) -> np.ndarray | None:
    """Constants that are positive and one per row, as (rows,)."""
    sides = (1,) * (rank - scale.ndim) + scale.shape
    if len(sides) != rank or any(side != 1 for index, side in enumerate(sides) if index != axis):
        return None
    if not np.all(scale > 0) or sides[axis] not in (1, rows):
        return None
    return np.ascontiguousarray(np.broadcast_to(scale.reshape(-1), (rows,)))


def _between(draft: Draft, node: Node) -> list[Node] | None:
    """Rule 4."""
    found = spelled(node.op, len(node.inputs))
    if (
        found is None
        or found.op == "Gemm"
        or node.attributes.get("channels_last", 0)
        or not node.input(found.output[0])
    ):
        return None
    y = node.outputs[0]
    out = scalar_grid(draft, node.input(found.output[0]), node.input(found.output[1]), draft.types[y].dtype)
    nodes: list[Node] = []
    floats: list[str] = []
    for place, scale, zero in found.operands:
        name = node.inputs[place]
        grid = scalar_grid(draft, node.input(scale), node.input(zero), draft.types[name].dtype)
        if grid is None:
            return None
        array = draft.array(name)
        if array is not None:
            floats.append(draft.constant(f"{name}.float", to_floats(array, grid)))
            continue
        floats.append(draft.value(f"{name}.float", draft.shape(name)))
        numbers = {"scale": grid.scale, "zero": grid.zero}
        nodes.append(Node(f"{node.name}.dequantize{place}", "Dequantize", (name,), (floats[-1],), numbers, DOMAIN))
    if out is None:
        return None
    attributes = {key: value for key, value in node.attributes.items() if key in found.attributes}
    value = draft.value(f"{y}.float", draft.shape(y))
    nodes.append(Node(node.name, found.op, tuple(floats), (value,), attributes))
    return [*nodes, _quantize(f"{node.name}.quantize", value, y, out)]
