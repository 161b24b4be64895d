"""Steps of weights that lose least: the range of each filter shrinks as long as the squared error falls.

    min over f in {1, .99, ..., .3}    sum (w - w^_f)^2        w^_f: rounded with the range times f, the rest clamped

Of 8 bits next to nothing is clamped; of 4 and fewer a smaller range pays. Zeros stay zeros: the range contains 0.

Source: ALGORITHMS.md H2 (mse), for weights; Nagel et al. 2021 (white paper), section 3.1.
"""

from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from secateur.quantization.numbers import Scale, rounded, scale_of_range
from secateur.quantization.qdq import settled
from secateur.quantization.table import ScaleTable

FACTORS = tuple(round(1.0 - 0.01 * index, 2) for index in range(71))


def fit_weight_steps(model: onnx.ModelProto, table: ScaleTable) -> ScaleTable:
    """The table with other steps for weights, axes and numbers as they are. raises QuantizationError.

    model    prepared, that the table belongs to
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = {
        name: least_error_scale(numpy_helper.to_array(tensors[name]), own) for name, own in table.weights.items()
    }
    return settled(model, replace(table, weights=weights))


def least_error_scale(weight: NDArray[np.floating], scale: Scale) -> Scale:
    """The scale of a weight with least squared error, channel by channel of the axis of `scale`.

    weight    as stored
    scale     says axis and numbers
    """
    axis = scale.axis
    others = tuple(index for index in range(weight.ndim) if index != axis)
    low, high = weight.min(axis=others), weight.max(axis=others)
    least: NDArray[np.float64] = np.full(np.shape(low), np.inf)
    step, zero = scale.step.copy(), scale.zero.copy()
    for factor in FACTORS:
        tried = scale_of_range(low * factor, high * factor, scale.numbers, axis)
        error = np.square(rounded(weight, tried).astype(np.float64) - weight).sum(axis=others)
        # Strictly less: of equal errors the wider range stays.
        better = error < least
        least = np.where(better, error, least)
        step, zero = np.where(better, tried.step, step), np.where(better, tried.zero, zero)
    return Scale(step, zero, axis, scale.numbers)
