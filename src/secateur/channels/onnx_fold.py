"""What a constant channel leaves behind, folded into the bias of what reads it.

    bias_o += sum_k W[o, c, k] v        c a channel that is v at every pixel, before c is cut out

Exact where no zero padding joins the channel; with padding it is only folded where v = 0. Without folding a removed
filter would take act(bias) with it (ALGORITHMS.md B8, rule 1).
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from secateur.channels.onnx_boxes import Boxes, Flags
from secateur.channels.onnx_constants import Known, KnownChannels, is_padded, weight_of
from secateur.channels.onnx_network import constant_tensor
from secateur.channels.onnx_table import OnnxTrace, Reader


def values_at(known: KnownChannels, reader: Reader) -> Known:
    """(channels,) the number of each channel that a reader reads, NaN where it is not known."""
    return known.channels(reader.node.inputs[0], -1 if reader.node.op in ("Gemm", "MatMul") else 1)


def absorbed(known: KnownChannels, reader: Reader) -> Flags:
    """(channels,) which of the channels that it reads a reader can do without: their number is folded, or is zero."""
    values = values_at(known, reader)
    return (values == 0) | (~np.isnan(values) & _has_room(known.trace, reader))


def matrix_of(trace: OnnxTrace, reader: Reader) -> NDArray[np.generic]:
    """(groups, outputs of each, inputs of each, kernel) the weight of a reader."""
    weight = weight_of(trace, reader.weight)
    weight = weight if reader.reads == 1 else np.swapaxes(weight, 0, 1)
    return weight.reshape(reader.groups, len(weight) // reader.groups, weight.shape[1], -1)


def folded(trace: OnnxTrace, boxes: Boxes, known: KnownChannels) -> list[tuple[Reader, NDArray[np.float64]]]:
    """Readers, and (outputs,) what the constant channels that go add to the bias of each."""
    found: list[tuple[Reader, NDArray[np.float64]]] = []
    for reader in trace.readers:
        goes = ~boxes.flags(reader.columns) & absorbed(known, reader)
        values = np.where(goes, values_at(known, reader), 0.0)
        if values.any():
            sums = matrix_of(trace, reader).astype(np.float64).sum(axis=3)
            more = (sums * values.reshape(reader.groups, 1, -1)).sum(axis=2).reshape(-1)
            if more.any():
                found.append((reader, more))
    return found


def bias_name(reader: Reader) -> str:
    """The bias of a reader, or the name that it is given where there is none."""
    return reader.node.input(2) or new_bias(reader.weight.tensor)


def new_bias(weight: str) -> str:
    return f"{weight.removesuffix('.weight')}.bias"


def add_to_biases(model: onnx.ModelProto, more: Mapping[str, NDArray[np.float64]]) -> None:
    """Add to the biases of nodes of a model whose channels are cut, in place; a node may gain a bias.

    more    first output of a node -> (outputs,) what is added
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        constant = constant_tensor(node)
        if constant is not None:
            tensors[node.output[0]] = constant
    reads = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        added = more.get(node.output[0]) if node.output else None
        if added is None or not added.any():
            continue
        name = node.input[2] if len(node.input) > 2 else ""
        if name:
            old = numpy_helper.to_array(tensors[name])
            new = (old.astype(np.float64) + added.reshape(old.shape)).astype(old.dtype)
        else:
            new = added.astype(numpy_helper.to_array(tensors[node.input[1]]).dtype)
        if name:
            tensors[name].CopyFrom(numpy_helper.from_array(new, tensors[name].name))
            continue
        hint = new_bias(node.input[1])
        own = next(n for n in (hint, *(f"{hint}_{i}" for i in range(2, len(reads) + 3))) if n not in reads)
        reads[own] += 1
        graph.initializer.append(numpy_helper.from_array(new, own))
        del node.input[2:]
        node.input.append(own)


def _has_room(trace: OnnxTrace, reader: Reader) -> bool:
    """Whether a reader has a bias of its own, or may have one, that takes over what is not zero."""
    node, count = reader.node, len(reader.rows)
    if len(trace.nodes_of(node.input(2) or node.inputs[1])) != 1:
        return False
    if node.op == "MatMul" or is_padded(node) or reader.weight.tensor != node.inputs[1]:
        return False
    if node.op == "Gemm" and (node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)) != (1.0, 1.0):
        return False
    return not node.input(2) or trace.network.stored.get(node.inputs[2]) in ((count,), (1, count))
