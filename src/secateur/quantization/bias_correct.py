"""Bias correction: the outputs of every quantized layer get the mean that they have in the float network.

    quantized inputs    b' = b + E[y] - E[y^]      y^: the layer's outputs in the quantized network, in which layers
                                                   before it are corrected already
    float inputs        b' = b + (W - W^) m        m: mean column that the layer gets in the float network

Both networks are walked side by side once; E[y^] is measured, so that what rounding did to the inputs goes too. It is
the correction that pruned layers get (posttraining/bias_correction.py), from means of outputs in place of Gram
matrices, which would take a pass over the images for every layer.

Source: Nagel et al. 2019 (data-free quantization), section 4.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from secateur.graph.shapes import infer_shapes
from secateur.graph.table import text_table
from secateur.posttraining.onnx_layers import OnnxLayers
from secateur.quantization.column_rounding import rows_first
from secateur.quantization.numbers import rounded
from secateur.quantization.simulate import exact_reads
from secateur.quantization.soft_values import SoftValues
from secateur.quantization.subjects import Batches, copy_of, size_of, stored_layers
from secateur.quantization.table import ScaleTable
from secateur.quantization.torch_graph import MEMORY, TorchGraph, Walk, images_within, torch_graph


@dataclass(frozen=True)
class BiasCorrected:
    """A float model with corrected biases; prints as a table.

    shifts    layer -> (outputs,) what its bias gained; of a weight that several operators use, each one's own, those
              behind the first under the operator's name
    """

    model: onnx.ModelProto
    shifts: Mapping[str, NDArray[np.float32]]

    def __str__(self) -> str:
        rows = [(name, f"{np.abs(s).mean():.4g}", f"{np.abs(s).max():.4g}") for name, s in self.shifts.items()]
        return text_table(("layer", "mean shift", "largest"), rows)


@torch.no_grad()
def correct_biases(
    model: onnx.ModelProto,
    table: ScaleTable,
    batches: Batches,
    *,
    reference: onnx.ModelProto | None = None,
    inputs: Literal["quantized", "float"] = "quantized",
    memory: int = MEMORY,
) -> BiasCorrected:
    """The model with biases that suit the numbers of the table; weights stay, the given model is not changed.

    model        prepared; its weights may lie on the table's grid already
    reference    the float network whose means are wanted, where `model` is not it any more
    memory       bytes that the values of all images may take; of more images the first are used
    raises       QuantizationError  an operator without a torch function, no images
    """
    size = size_of(batches)
    graph, wanted = torch_graph(model, size), torch_graph(reference or model, size)
    stored = {name: layer for name, layer in stored_layers(model, size).items() if layer.tensor in table.weights}
    changed = copy_of(model)
    biases = OnnxLayers(changed, infer_shapes(changed, size))
    uses = {
        use.node.name or use.node.output[0]: (layer, use)
        for name, layer in stored.items()
        for use in biases.layers[name].uses
    }
    tensors = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in table.weights}
    weights: dict[str, Tensor] = {}
    for node in graph.layers:
        if node.name in uses:
            layer = uses[node.name][0]
            scale = table.weights[layer.tensor]
            if layer.kind == "conv_transpose":
                array = rounded(numpy_helper.to_array(tensors[layer.tensor]), scale)
            else:
                array = rounded(graph.weight(node).numpy(), rows_first(scale, layer))
            weights[node.name] = torch.from_numpy(array)
    images = images_within(graph, batches, memory)
    dense = Walk(wanted, {wanted.source: images})
    rough = Walk(graph, {graph.source: images}, weights, SoftValues(table), exact_reads(model, table))
    places = {node.name: place for place, node in enumerate(wanted.nodes)}
    shifts: dict[str, NDArray[np.float32]] = {}
    for place, node in enumerate(graph.nodes):
        rough.to(place)
        if node.name not in uses or node.name not in places:
            continue
        output = node.outputs[0]
        dense.to(places[node.name])
        before = {name: dense.values[name] for name in wanted.reads(wanted.nodes[places[node.name]])}
        dense.to(places[node.name] + 1)
        mean = _mean(dense.values[output], node.op)
        rough.to(place + 1)
        if inputs == "float":
            shift = mean - _mean(_alone(graph, place, before, weights), node.op)
        else:
            shift = mean - _mean(rough.values[output], node.op)
            along = (-1, *(1,) * (rough.values[output].dim() - 2)) if node.op != "Linear" else (-1,)
            rough.values[output] = rough.values[output] + shift.reshape(along).float()
        layer, use = uses[node.name]
        bias = biases.bias(use)
        gained = shift.float().numpy()
        biases.store_bias_(use, gained if bias is None else (bias + shift.numpy()).astype(np.float32))
        shifts[layer.name if node.name == layer.node else node.name] = gained
    return BiasCorrected(changed, shifts)


def _alone(graph: TorchGraph, place: int, reads: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """What one layer gives for inputs of the float network."""
    walk = Walk(graph, dict(reads), dict(weights), position=place)
    walk.to(place + 1)
    return walk.values[graph.nodes[place].outputs[0]]


def _mean(values: Tensor, op: str) -> Tensor:
    """(outputs,) float64: over images and positions."""
    channels = values.movedim(-1, 0) if op == "Linear" else values.movedim(1, 0)
    return channels.reshape(len(channels), -1).mean(1, dtype=torch.float64)
