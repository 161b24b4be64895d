"""Bias correction: the outputs of every quantized layer get the mean that they have in the float network.

    b' = (W m + b) - W^ m^          m: mean column that the layer gets in the float network
                                    m^: in the quantized one, measured layer by layer, those before corrected already
    b' = b + (W - W^) m             the form of float inputs: one pass over the images

Source: Nagel et al. 2019 (data-free quantization), section 4.2; the correction itself is the one that pruned layers
get (posttraining/bias_correction.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from secateur.graph.table import text_table
from secateur.posttraining.bias_correction import correct_biases_
from secateur.posttraining.gathering import LIMIT
from secateur.posttraining.output_statistics import FreshGrams
from secateur.quantization.simulate import simulated
from secateur.quantization.subjects import Batches, as_tensors, copy_of, size_of, stored_layers, subject_of
from secateur.quantization.table import ScaleTable


@dataclass(frozen=True)
class BiasCorrected:
    """A float model with corrected biases; prints as a table.

    shifts    layer -> (outputs,) what its bias gained
    """

    model: onnx.ModelProto
    shifts: Mapping[str, NDArray[np.float32]]

    def __str__(self) -> str:
        rows = [(name, f"{np.abs(s).mean():.4g}", f"{np.abs(s).max():.4g}") for name, s in self.shifts.items()]
        return text_table(("layer", "mean shift", "largest"), rows)


def correct_biases(
    model: onnx.ModelProto,
    table: ScaleTable,
    batches: Batches,
    *,
    reference: onnx.ModelProto | None = None,
    inputs: Literal["quantized", "float"] = "quantized",
    limit: int | None = LIMIT,
    seed: int = 0,
) -> BiasCorrected:
    """The model with biases that suit the numbers of the table; weights stay, the given model is not changed.

    model        prepared; its weights may lie on the table's grid already
    reference    the float network whose means are wanted, where `model` is not it any more
    inputs       quantized: measured after each correction, one pass over the images for every layer
    raises       QuantizationError, PosttrainingError
    """
    dense = subject_of(reference or model, batches)
    quantized = subject_of(simulated(model, table), batches)
    images = as_tensors(batches)
    layers = stored_layers(model, size_of(batches))
    weights = {name for name, layer in layers.items() if layer.tensor in table.weights}
    usable = {name for name in weights if layers[name].kind != "conv_transpose"}
    names = [name for name in dense.order(next(iter(images()))) if name in usable]
    grams = FreshGrams(dense, images, names, limit=limit, seed=seed)
    fresh = FreshGrams(quantized, images, names, limit=limit, seed=seed) if inputs == "quantized" else None
    corrected = correct_biases_(quantized, dense, grams, inputs=fresh)
    result = subject_of(copy_of(model), batches)
    shifts: dict[str, NDArray[np.float32]] = {}
    for name, bias in corrected.items():
        before = result.bias(name)
        result.store_(name, result.weight(name), bias)
        shifts[name] = (bias if before is None else bias - before).numpy()
    return BiasCorrected(result.model, shifts)
