"""Convolutions in normal form."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.graph.ir import ABSENT, Graph, Node
from secateur.graph.rewrite import Draft, fused, is_onnx, rewrite_nodes


def normal_convolution(graph: Graph) -> Graph:
    """ONNX's Conv and ConvTranspose as those of the normal form, with complete attributes.

    1. Input, weight and bias are float32; weight and bias are constants.
    2. auto_pad and output_shape become pads (top, left, bottom, right).
    3. A 1-D Conv becomes a 2-D one of height 1 between two Reshapes.
    4. Convolutions in three dimensions, and ones whose shapes contradict each other, stay as they are.
    """
    return rewrite_nodes(graph, _rule)


def _rule(draft: Draft, node: Node) -> Sequence[Node] | None:
    if not is_onnx(node, "Conv", "ConvTranspose") or not draft.floats(*node.inputs):
        return None
    x, w, bias = node.input(0), node.input(1), node.input(2)
    weight = draft.array(w)
    if weight is None or weight.size == 0 or (bias and draft.array(bias) is None):
        return None
    attributes = convolution_attributes(draft, node, weight.shape)
    if attributes is None:
        return None
    attributes |= {"activation": None}
    if weight.ndim == 4:
        return [fused(node.op, node, (x, w, bias), **attributes)]
    return None if node.op == "ConvTranspose" else _in_two_dimensions(draft, node, weight, attributes)


def convolution_attributes(draft: Draft, node: Node, weight: tuple[int, ...]) -> dict[str, Any] | None:
    """Strides, pads, dilations and group of a Conv or ConvTranspose in one or two dimensions by rules 2 and 4.

    weight     shape of the weight
    returns    complete attributes, None where the operator must stay
    """
    x, bias = node.inputs[0], node.input(2)
    rank = len(weight) - 2
    if rank not in (1, 2) or len(draft.shape(x)) != rank + 2:
        return None
    group = int(node.attributes.get("group", 1))
    transposed = node.op == "ConvTranspose"
    outputs = weight[1] * group if transposed else weight[0]
    inputs = weight[0] if transposed else weight[1] * group
    kernel = tuple(node.attributes.get("kernel_shape", weight[2:]))
    if group < 1 or draft.shape(x)[1] != inputs or outputs % group or inputs % group or kernel != weight[2:]:
        return None
    if draft.shape(node.outputs[0])[:2] != (draft.shape(x)[0], outputs) or (bias and draft.shape(bias) != (outputs,)):
        return None
    strides = tuple(node.attributes.get("strides", (1,) * rank))
    dilations = tuple(node.attributes.get("dilations", (1,) * rank))
    if len(strides) != rank or len(dilations) != rank or min(*strides, *dilations) < 1:
        return None
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": group}
    if transposed:
        attributes["output_padding"] = tuple(node.attributes.get("output_padding", (0,) * rank))
        pads = _pads_of_transposed(draft, node, kernel, attributes)
    else:
        pads = pads_of_window(draft, node, kernel, strides, dilations)
    return None if pads is None or min(pads) < 0 else attributes | {"pads": pads}


def pads_of_window(
    draft: Draft, node: Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...] | None:
    """Zeros before and after each axis, all befores first, of a window operator whose auto_pad is resolved."""
    rank = len(kernel)
    auto = node.attributes.get("auto_pad", "NOTSET")
    sides = draft.shape(node.inputs[0])[2:]
    if auto == "NOTSET":
        pads = tuple(node.attributes.get("pads", (0,) * 2 * rank))
    elif auto == "VALID":
        pads = (0,) * 2 * rank
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-side // s) - 1) * s + (k - 1) * d + 1 - side, 0)
            for side, k, s, d in zip(sides, kernel, strides, dilations, strict=True)
        ]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        pads = tuple(small + large if auto == "SAME_UPPER" else large + small)
    else:
        return None
    return pads if len(pads) == 2 * rank else None


def _pads_of_transposed(
    draft: Draft, node: Node, kernel: Sequence[int], attributes: dict[str, Any]
) -> tuple[int, ...] | None:
    """Rule 2 for ConvTranspose: the pads that give the known output shape."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    rank = len(kernel)
    if len(attributes["output_padding"]) != rank:
        return None
    if auto == "NOTSET" and "output_shape" not in node.attributes:
        pads = tuple(node.attributes.get("pads", (0,) * 2 * rank))
        return pads if len(pads) == 2 * rank else None
    sides, wanted = draft.shape(node.inputs[0])[2:], draft.shape(node.outputs[0])[2:]
    before: list[int] = []
    after: list[int] = []
    for axis, (side, out) in enumerate(zip(sides, wanted, strict=True)):
        reach = (kernel[axis] - 1) * attributes["dilations"][axis] + 1
        full = attributes["strides"][axis] * (side - 1) + attributes["output_padding"][axis] + reach
        total = full - out
        # The operator's own definition: only SAME_UPPER puts the odd one behind.
        first = total // 2 if auto == "SAME_UPPER" else total - total // 2
        before.append(first)
        after.append(total - first)
    return (*before, *after)


def _in_two_dimensions(
    draft: Draft, node: Node, weight: NDArray[np.float32], attributes: dict[str, Any]
) -> Sequence[Node]:
    """Rule 3."""
    x, y = node.inputs[0], node.outputs[0]
    n, c, width = draft.shape(x)
    _, o, out = draft.shape(y)
    before, after = attributes["pads"]
    flat = {
        **attributes,
        "strides": (1, *attributes["strides"]),
        "dilations": (1, *attributes["dilations"]),
        "pads": (0, before, 0, after),
    }
    w = draft.constant(f"{node.inputs[1]}.2d", weight[:, :, None, :])
    wide, result = draft.value(f"{x}.2d", (n, c, 1, width)), draft.value(f"{y}.2d", (n, o, 1, out))
    return [
        Node(f"{node.name}.in", "Reshape", (x,), (wide,), {"shape": (n, c, 1, width)}, "secateur"),
        fused("Conv", node, (wide, w, node.input(2) or ABSENT), (result,), **flat),
        Node(f"{node.name}.out", "Reshape", (result,), (y,), {"shape": (n, o, out)}, "secateur"),
    ]
