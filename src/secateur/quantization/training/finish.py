"""The end of a training with rounding: a plain network, its float file, and the table of the file's integers.

The network keeps the rounded weights, its masks and its norms. The exporter multiplies weights by the scales of norms
in its own order; the integers are those of the network all the same, so that the file's weights are exactly integers
times steps.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from secateur.errors import QuantizationError
from secateur.export.onnx_file import export_onnx
from secateur.files import atomic_path
from secateur.quantization.calibrate import calibrate, within
from secateur.quantization.numbers import Numbers, Scale, rounded
from secateur.quantization.points import Points
from secateur.quantization.prepare import prepared as prepared_file
from secateur.quantization.table import ScaleTable
from secateur.quantization.training.prepare import Prepared, take_away_
from secateur.quantization.training.ranges import numbers_of
from secateur.quantization.training.weights import Grid, before_rounding

# Of a step: what the order of float32 products may make of an integer.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Finished:
    """What a training with rounding gives.

    path      the float file
    table     the integers of its values and weights
    floats    node of the file -> why it stays float
    """

    path: Path
    table: ScaleTable
    floats: Mapping[str, str]


@torch.no_grad()
def finish_(
    prepared: Prepared, path: Path | str, batches: Callable[[], Iterable[Any]] | None = None, opset: int = 18
) -> Finished:
    """Leave the network with its rounded weights and nothing else, and write it as a float file.

    batches    of images, called for the values that the network has no place for (the inside of a module that cannot
               be traced): their scales are observed in the file
    raises     QuantizationError  such values and no images, or a network that was changed meanwhile
               ExportError, DiskError
    """
    model = prepared.model
    if prepared.unplaced and batches is None:
        raise QuantizationError(
            f"{', '.join(group.values[0] for group in prepared.unplaced[:3])}: these values are computed inside a "
            f"module that torch.fx cannot trace ({_reason(prepared)}), so images are needed for their ranges."
        )
    weights: dict[str, Scale] = {}
    floats = dict(prepared.floats)
    for name, rounding in prepared.weights.items():
        found = prepared.map.weights[name]
        grid = rounding.grid(before_rounding(model.get_submodule(found.layer)))
        if isinstance(grid, Grid):
            weights[name] = _scale(grid, found.filter_axis)
        else:
            floats |= {node: grid for point in prepared.points.weights if point.name == name for node in point.nodes}
    values = {
        name: within(group.group, _scale(group.rule.grid(), None))
        for group in prepared.groups
        for name in group.group.values
    }
    take_away_(prepared, leave_rounded=True)
    path = Path(path)
    export_onnx(model, path, prepared.input_size, opset=opset)
    file = prepared_file(onnx.load(path))
    _check_same(prepared, file)
    _store_exactly_(file, weights)
    with atomic_path(path) as temporary:
        temporary.write_bytes(file.SerializeToString())
    if prepared.unplaced and batches is not None:
        values |= calibrate(file, batches, Points(prepared.unplaced, (), {}), numbers=_usual(prepared)).values
    return Finished(path, ScaleTable(values, weights, {**prepared.points.floats, **floats}), floats)


def _scale(grid: Grid, axis: int | None) -> Scale:
    """A grid as the scale of a tensor, or of each index of an axis where it has steps for them."""
    step, zero = grid.step.detach().cpu().numpy(), grid.zero.detach().cpu().numpy()
    return Scale(step.astype(np.float32), zero.astype(np.int32), axis if step.ndim else None, grid.numbers)


def _usual(prepared: Prepared) -> Numbers:
    return numbers_of(prepared.config.activation_mode, prepared.config.activation_bits or 8)


def _reason(prepared: Prepared) -> str:
    return next(iter(prepared.map.closed.values()), "none of its modules holds these numbers")


def _check_same(prepared: Prepared, file: onnx.ModelProto) -> None:
    before = [output for node in prepared.map.file.graph.node for output in node.output]
    now = [output for node in file.graph.node for output in node.output]
    if before != now:
        raise QuantizationError(
            "the network computes something else than when it was prepared: its exported file has "
            f"{len(set(now) ^ set(before))} other values."
        )


def _store_exactly_(file: onnx.ModelProto, weights: Mapping[str, Scale]) -> None:
    """Make each weight of the file integers times steps, which it is up to the order of float32 products."""
    for tensor in file.graph.initializer:
        scale = weights.get(tensor.name)
        if scale is None:
            continue
        weight = numpy_helper.to_array(tensor)
        exact = rounded(weight, scale)
        if (np.abs(exact - weight) > _TOLERANCE * scale.along(scale.step, weight.ndim)).any():
            raise QuantizationError(f"{tensor.name}: the exported weights are not those that the training rounded.")
        tensor.CopyFrom(numpy_helper.from_array(exact, tensor.name))
