"""Layers of an ONNX file whose weights are integers: there is no channel in them that could be looked at or cut.

    w (int8) -> DequantizeLinear -> Conv        and the same with a float w -> QuantizeLinear before
    QLinearConv, MatMulInteger, ...             operators that read integers themselves

Scales, zero points and rounding belong to the channels as they were when the file was quantized, so channels are
removed before.
"""

from secateur.channels.groups import ChannelGroups
from secateur.channels.onnx_network import OnnxNetwork
from secateur.errors import SparsityError
from secateur.graph.ir import Graph, Node

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_OF_INTEGERS = (
    "ConvInteger",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QGemm",
    "QLinearConv",
    "QLinearConvTranspose",
    "QLinearMatMul",
)
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
# What may stand between a stored weight and its layer.
_BETWEEN = (*_QUANTIZERS, "Cast", "Identity", "Mul", "Reshape", "Squeeze", "Sub", "Transpose", "Unsqueeze")


def is_quantized(network: OnnxNetwork, name: str) -> bool:
    """Whether an operand is a stored tensor that is read as integers."""
    quantizers = 0
    while (node := network.producers.get(name)) is not None and node.op_type in _BETWEEN:
        quantizers += node.op_type in _QUANTIZERS
        name = node.input[0]
    stored = network.graph.constants.get(name)
    return stored is not None and (quantizers > 0 or stored.dtype.kind in "iu")


def quantized_layers(network: OnnxNetwork) -> tuple[Node, ...]:
    """The layers with such weights, in order."""
    graph: Graph = network.graph
    return tuple(
        node
        for node in graph.nodes
        if node.op in _OF_INTEGERS or (node.op in _LAYERS and is_quantized(network, node.input(1)))
    )


def refuse_quantized(network: OnnxNetwork, groups: ChannelGroups, base: str) -> None:
    """Beside layers of integers, those of floating point may lose channels; but what share of the network is that?

    raises    SparsityError  nothing else can go, or `base` counts weights that are integers
    """
    layers = quantized_layers(network)
    if not layers or (base == "channels" and any(group.size > group.segments for group in groups.free)):
        return
    names = ", ".join(f"{node.op} '{node.name}'" for node in layers[:3])
    more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
    raise SparsityError(
        f"the weights of {names}{more} are quantized: their channels can neither be scored nor cut. Remove channels "
        "from the file with weights of floating point, and quantize what is left."
    )
