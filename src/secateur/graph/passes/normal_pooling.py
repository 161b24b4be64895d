"""Pooling in normal form."""

from collections.abc import Sequence

from secateur.graph.ir import Graph, Node
from secateur.graph.passes.normal_convolution import pads_of_window
from secateur.graph.rewrite import Draft, fused, is_onnx, rewrite_nodes


def normal_pooling(graph: Graph) -> Graph:
    """MaxPool and AveragePool as Pool, global ones as GlobalPool.

    1. Two dimensions, float32; a MaxPool whose indices are read stays as it is.
    2. auto_pad becomes pads; ceil_mode becomes padding at the end, as much as the last window needs.
    3. An AveragePool that counts padding does not count what ceil_mode adds: those rows and columns are `uncounted`.
    4. Every window holds an element: where the padding is as large as the window, the operator stays.
    5. A window that is larger than map and padding reads more padding. Before opset 19 an average that counts padding
       counts that too, without ceil_mode; since then it does not.
    """
    readers = {name for node in graph.nodes for name in node.reads()} | set(graph.outputs)

    def rule(draft: Draft, node: Node) -> Sequence[Node] | None:
        if node.domain != "" or not node.inputs or not draft.floats(node.inputs[0], node.outputs[0]):
            return None
        if len(draft.shape(node.inputs[0])) != 4 or any(name in readers for name in node.outputs[1:]):
            return None
        if is_onnx(node, "GlobalAveragePool", "GlobalMaxPool"):
            kind = "average" if node.op == "GlobalAveragePool" else "max"
            return [fused("GlobalPool", node, node.inputs, kind=kind)]
        return window_pool(draft, node) if is_onnx(node, "MaxPool", "AveragePool") else None

    return rewrite_nodes(graph, rule)


def window_pool(draft: Draft, node: Node) -> list[Node] | None:
    """The Pool for a MaxPool or AveragePool of maps, None where a rule excludes it."""
    kernel = tuple(node.attributes.get("kernel_shape", ()))
    strides, dilations = (tuple(node.attributes.get(key, (1, 1))) for key in ("strides", "dilations"))
    if not len(kernel) == len(strides) == len(dilations) == 2 or min(*kernel, *strides, *dilations) < 1:
        return None
    pads = pads_of_window(draft, node, kernel, strides, dilations)
    if pads is None or min(pads) < 0:
        return None
    average = node.op == "AveragePool"
    counted = average and bool(node.attributes.get("count_include_pad", 0))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    ceil = bool(node.attributes.get("ceil_mode", 0))
    sides, outs = draft.shape(node.inputs[0])[2:], draft.shape(node.outputs[0])[2:]
    ends = [(out - 1) * s + r - side - p for out, s, r, side, p in zip(outs, strides, reach, sides, pads, strict=False)]
    # Windows may also end before the padding that the file gives does; it stays, and counts where they reach it.
    given = (0, 0) if ceil and not counted else pads[2:]
    pads = (*pads[:2], *(max(end, own) for end, own in zip(ends, given, strict=True)))
    # Rule 5: elsewhere only the one window of a map that is smaller ends behind the padding.
    ends_there = counted and (ceil or draft.old.opset >= 19)
    uncounted = (pads[2] - given[0], pads[3] - given[1]) if ends_there else (0, 0)
    if any(pad >= r for pad, r in zip(pads, (*reach, *reach), strict=True)):
        return None
    return [
        fused(
            *("Pool", node, node.inputs[:1], node.outputs[:1]),
            kind="average" if average else "max",
            kernel=kernel,
            strides=strides,
            pads=pads,
            dilations=dilations,
            count_include_pad=counted,
            uncounted=uncounted,
        )
    ]
