"""Which axis of an input of an ONNX file is that of its channels.

    x (N, H, W, C) -> Transpose (0, 3, 1, 2) -> Conv        axis 3, as files from TensorFlow have it

Nothing in a file says so but the convolution that reads the input: its axis 1 is followed back through transposes.
"""

from collections.abc import Callable

from secateur.graph.ir import Graph, Node

_USUAL = 1
_READERS = ("Conv", "ConvTranspose", "BatchNormalization", "GlobalAveragePool", "MaxPool", "AveragePool")
# Operators that leave every axis of their first operand where it is.
_IN_PLACE = ("Add", "Cast", "Clip", "Div", "Identity", "Mul", "Pad", "QuantizeLinear", "DequantizeLinear", "Sub")


def channel_axis(graph: Graph, readers: Callable[[str], list[Node]], name: str) -> int:
    """The axis that the first convolution finds as its channels; axis 1 where none is found behind transposes alone."""
    reached = [(name, tuple(range(len(graph.shape(name)))))]
    seen: set[str] = set()
    while reached:
        value, axes = reached.pop(0)
        for node in readers(value) if value not in seen else ():
            if node.op in _READERS and node.inputs[0] == value and len(axes) > _USUAL:
                return axes[_USUAL]
            out = node.outputs[0] if node.outputs else ""
            if node.op == "Transpose":
                order = tuple(node.attributes.get("perm", range(len(axes))[::-1]))
                reached.append((out, tuple(axes[axis] for axis in order)))
            elif node.op in _IN_PLACE and out in graph.types and len(graph.shape(out)) == len(axes):
                reached.append((out, axes))
        seen.add(value)
    return _USUAL
