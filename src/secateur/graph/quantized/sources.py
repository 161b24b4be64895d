"""Where values come from: integers behind a Dequantize, and constant weights behind a DequantizeLinear."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.graph.ir import Graph, Node
from secateur.graph.quantized.grid import Grid
from secateur.graph.rewrite import Draft, Floats, is_fused, is_onnx

_BYTES = ("uint8", "int8")
_DOMAINS = ("", "com.microsoft")
_LONGEST_CHAIN = 8


@dataclass(frozen=True)
class Weight:
    """A constant matrix or kernel of integers around 0.

    values    (rows, ...) int8
    scale     (rows,) float32
    """

    values: NDArray[np.int8]
    scale: Floats


class Sources:
    """Finds what stands behind values of a graph; a text says why something cannot be used."""

    def __init__(self, graph: Graph) -> None:
        self._producer = graph.producer()

    def integers(self, draft: Draft, name: str) -> tuple[str, Grid] | None:
        """The 8-bit value, no constant, that a Dequantize makes `name` of, and its numbers."""
        node = self._producer.get(name)
        if node is None or not is_fused(node, "Dequantize") or draft.array(node.inputs[0]) is not None:
            return None
        return node.inputs[0], grid_of(draft, node)

    def channels(self, draft: Draft, name: str) -> tuple[str, Floats, Grid] | None:
        """The 8-bit value that `name` is dequantized from with one scale per channel and one zero point.

        returns    the value, the scales, and its numbers in units of the scales
        """
        node = self._producer.get(name)
        if node is None or node.op != "DequantizeLinear" or node.domain not in _DOMAINS:
            return None
        q = node.inputs[0]
        found = scales_of_channels(draft, node, q) if draft.array(q) is None else None
        return None if found is None else (q, *found)

    def is_dequantized(self, name: str) -> bool:
        """Whether a value is dequantized, as it is or moved: by Reshape and Transpose."""
        node = self._producer.get(name)
        for _ in range(_LONGEST_CHAIN):
            if node is None or is_dequantize(node):
                return node is not None
            if not is_fused(node, "Reshape", "Transpose") and not is_onnx(node, "Identity"):
                return False
            node = self._producer.get(node.inputs[0])
        return False

    def weight(self, draft: Draft, name: str, rows: int) -> Weight | str:
        """The weight behind `name`; its axis `rows` becomes the first one."""
        found = self._constant(draft, name)
        return found if isinstance(found, str) else weight_of(found, rows)

    def bias(self, draft: Draft, name: str, unit: Floats) -> NDArray[np.int32] | str:
        """A constant bias, (rows,) or one number, in multiples of each row's unit, rounded."""
        array = draft.array(name)
        if array is not None:
            numbers = array.astype(np.float64).reshape(-1) / unit
        else:
            found = self._constant(draft, name)
            if isinstance(found, str):
                return "its bias is computed while the network runs"
            integers, scale = (part.reshape(-1).astype(np.float64) for part in found)
            # A scale is rounded once more than the product that it should be.
            numbers = integers * np.where(np.abs(scale - unit) <= 1e-5 * unit, 1, scale / unit)
        numbers = np.rint(np.broadcast_to(numbers, unit.shape))
        if not np.all(np.abs(numbers) < 2**31):
            return "its bias does not fit into 32 bits"
        return numbers.astype(np.int32)

    def _constant(self, draft: Draft, name: str) -> tuple[NDArray[Any], Floats] | str:
        """Integers minus zero points and their scales, of equal shape, of a dequantized constant."""
        moves: list[Node] = []
        node = self._producer.get(name)
        while node is not None and is_fused(node, "Reshape", "Transpose") and len(moves) < _LONGEST_CHAIN:
            moves.append(node)
            node = self._producer.get(node.inputs[0])
        if node is None or not is_dequantize(node):
            return "its weight is no quantized constant"
        axis = int(node.attributes.get("axis", 1))
        if node.attributes.get("block_size", 0):
            return "its weight has scales for blocks"
        pair = constant_pair(draft, node.input(0), node.input(1), node.input(2), axis)
        if isinstance(pair, str):
            return pair
        for move in reversed(moves):
            pair = _moved(move, pair[0]), _moved(move, pair[1])
        return pair


def weight_of(pair: tuple[NDArray[Any], Floats], rows: int) -> Weight | str:
    """A weight of integers around 0 and scales of the same shape; its axis `rows` becomes the first one."""
    values, scale = (np.moveaxis(array, rows, 0) for array in pair)
    scales = scale.reshape(len(scale), -1)
    per_row = np.ascontiguousarray(scales[:, :1]).reshape(-1)
    if not np.array_equal(scales, np.broadcast_to(per_row[:, None], scales.shape)):
        return "its weight has scales along another side than its outputs"
    if values.size == 0 or values.min() < -128 or values.max() > 127:
        return "its weight does not fit into 8 bits around its zero points"
    return Weight(np.ascontiguousarray(values.astype(np.int8)), per_row)


def constant_pair(draft: Draft, name: str, scales: str, zeros: str, axis: int) -> tuple[NDArray[Any], Floats] | str:
    """Integers minus their zero points, and their scales spread to the same shape, of constants; or what is wrong.

    axis    the side that scales and zero points belong to where there is more than one
    """
    array, scale = draft.array(name), draft.array(scales)
    zero = draft.array(zeros) if zeros else np.zeros((), np.int64)
    if array is None:
        return "its weight is computed while the network runs"
    if scale is None or zero is None or scale.dtype != np.float32 or not _positive(scale):
        return "the scale or zero point of its weight is no constant, or no positive float32"
    values = array.astype(np.int64)
    sides = tuple(-1 if index == axis % max(values.ndim, 1) else 1 for index in range(values.ndim))
    parts: list[NDArray[Any]] = []
    for part in (scale, zero.astype(np.int64)):
        if part.size > 1 and (part.ndim != 1 or values.ndim == 0 or len(part) != values.shape[axis % values.ndim]):
            return "its weight has scales or zero points of another shape than one per output"
        parts.append(part.reshape(sides if part.size > 1 else ()))
    return values - parts[1], np.broadcast_to(parts[0], values.shape)


def is_dequantize(node: Node) -> bool:
    """Whether a node turns integers into floats, in whatever words."""
    return (node.op == "DequantizeLinear" and node.domain in _DOMAINS) or is_fused(node, "Dequantize")


def grid_of(draft: Draft, node: Node) -> Grid:
    """The numbers that a Quantize writes or a Dequantize reads."""
    name = node.inputs[0] if node.op == "Dequantize" else node.outputs[0]
    return Grid(node.attributes["scale"], node.attributes["zero"], draft.types[name].dtype)


def scalar_grid(draft: Draft, scale: str, zero: str, dtype: str) -> Grid | None:
    """Numbers that a scale and a zero point give, both constants of one element; None where they are anything else."""
    step, origin = draft.scalar(scale), draft.array(zero) if zero else np.zeros((), np.int64)
    if dtype not in _BYTES or step is None or not 0 < step < np.inf or origin is None or origin.size != 1:
        return None
    return Grid(step, int(origin.reshape(-1)[0]), dtype)


def scales_of_channels(draft: Draft, node: Node, integers: str) -> tuple[Floats, Grid] | None:
    """Scales along axis 1 of a QuantizeLinear or DequantizeLinear, and the numbers in units of them.

    integers    its 8-bit value; all zero points have to be equal
    """
    if not all(name in draft.types for name in (*node.inputs, *node.outputs) if name):
        return None
    scale = draft.array(node.input(1))
    zero = draft.array(node.input(2)) if node.input(2) else np.zeros(1, np.int64)
    type = draft.types[integers]
    if (
        type.dtype not in _BYTES
        or scale is None
        or zero is None
        or zero.size == 0
        or np.any(zero != zero.reshape(-1)[0])
    ):
        return None
    if len(type.shape) < 2 or scale.shape != type.shape[1:2] or scale.dtype != np.float32 or not _positive(scale):
        return None
    if int(node.attributes.get("axis", 1)) % len(type.shape) != 1 or node.attributes.get("block_size", 0):
        return None
    return scale, Grid(1.0, int(zero.reshape(-1)[0]), type.dtype)


def _positive(scale: Floats) -> bool:
    return bool(np.all(np.isfinite(scale)) and np.all(scale > 0))


def _moved(node: Node, array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(node.attributes["shape"]) if node.op == "Reshape" else array.transpose(node.attributes["perm"])
