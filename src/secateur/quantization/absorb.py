"""Bias absorption: what a ReLU lets through anyhow moves from the bias before it into the bias behind it.

    c = max(0, beta - 3 gamma)        b1 <- b1 - c,   b2 <- b2 + (sum of the kernel of W2) c

beta and gamma are mean and deviation of a channel before the ReLU: relu(x) = relu(x - c) + c for all x > c, which are
99.9 % of normal ones. Measured here on calibration images, because norms are folded into the weights by then.

Behind the ReLU c is the same at all positions, but zeros that the next layer pads with are not c: at the border the
result differs. Couples with padding are therefore tried one by one, and taken back where the outputs of the network
move by more than `border`.

Source: Nagel et al. 2019 (data-free quantization), section 4.1.3; the check of the border is our own design.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from secateur.graph.shapes import infer_shapes
from secateur.graph.table import text_table
from secateur.posttraining.gathering import gather_grams
from secateur.posttraining.onnx_layers import OnnxLayers
from secateur.posttraining.output_statistics import output_mean, output_variance
from secateur.quantization.answers import logits_of
from secateur.quantization.couples import Couple, find_couples
from secateur.quantization.subjects import Batches, as_tensors, relative_error, size_of, subject_of

Doubles = NDArray[np.float64]
DEVIATIONS = 3.0
BORDER = 0.01


@dataclass(frozen=True)
class Absorbed:
    """A model after its high biases have moved; prints as a table.

    model      computes nearly the same function
    moved      layer -> (channels,) what its bias lost; layers that lost nothing are missing
    refused    layer -> relative change of the outputs that was too much
    """

    model: onnx.ModelProto
    moved: Mapping[str, Doubles]
    refused: Mapping[str, float]

    def __str__(self) -> str:
        rows = [(name, str(int((c > 0).sum())), f"{c.max():.4g}", "") for name, c in self.moved.items()]
        rows += [(name, "0", "", f"taken back: outputs move by {err:.2%}") for name, err in self.refused.items()]
        return text_table(("layer", "channels", "largest", "note"), rows)


def absorb_biases(
    model: onnx.ModelProto, batches: Batches, *, deviations: float = DEVIATIONS, border: float = BORDER
) -> Absorbed:
    """The model with high biases moved behind their ReLU; the given one is not changed.

    deviations    how many of them below the mean count as let through; 3 in the source
    border        relative change of the outputs that a couple with padding may cause; 0 leaves them all alone
    raises        QuantizationError  no images;  ModelError  a damaged file
    """
    subject = subject_of(model, batches)
    work = subject.model
    shapes = infer_shapes(work, size_of(batches))
    layers = OnnxLayers(work, shapes)
    couples = [couple for couple in find_couples(work, layers, shapes).couples if couple.rectified]
    grams = gather_grams(subject, as_tensors(batches), [couple.first for couple in couples])
    moved: dict[str, Doubles] = {}
    refused: dict[str, float] = {}
    wanted = logits_of(model, batches)
    for couple in sorted(couples, key=lambda couple: couple.padded):
        gram = grams.get(couple.first)
        if gram is None or (couple.padded and not border):
            continue
        weight = subject.weight(couple.first)
        bias = layers.bias(layers.layers[couple.first].uses[0])
        deviation = output_variance(weight, gram).sqrt().numpy()
        mean = output_mean(weight, gram).numpy() + (0.0 if bias is None else bias)
        c = np.maximum(0.0, mean - deviations * deviation)
        if not c.any():
            continue
        before = _biases(layers, couple)
        _move_(layers, couple, c)
        if couple.padded:
            change = relative_error(wanted, logits_of(work, batches))
            if change > border:
                for name, own in before.items():
                    layers.store_bias_(layers.layers[name].uses[0], own)
                refused[couple.first] = change
                continue
            wanted = logits_of(work, batches)
        moved[couple.first] = c
    return Absorbed(work, moved, refused)


def _biases(layers: OnnxLayers, couple: Couple) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}
    for name in (couple.first, couple.second):
        bias = layers.bias(layers.layers[name].uses[0])
        found[name] = np.zeros(len(layers.weight(name)), np.float32) if bias is None else bias
    return found


def _move_(layers: OnnxLayers, couple: Couple, c: Doubles) -> None:
    biases = _biases(layers, couple)
    weight = layers.weight(couple.second).astype(np.float64)
    geometry = layers.layers[couple.second].uses[0].geometry
    groups = geometry.groups if geometry.kind != "linear" else 1
    rows, columns = len(weight) // groups, weight.shape[1]
    # (groups, rows, inputs) times what each input of the group gained
    gained = np.repeat(c, couple.spread).reshape(groups, columns, 1)
    shift = weight.reshape(groups, rows, columns, -1).sum(axis=3) @ gained
    for name, bias in (
        (couple.first, biases[couple.first] - c),
        (couple.second, biases[couple.second] + shift.reshape(-1)),
    ):
        layers.store_bias_(layers.layers[name].uses[0], bias.astype(np.float32))
