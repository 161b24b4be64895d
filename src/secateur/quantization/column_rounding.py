"""Second-order rounding of all layers of a float ONNX file, on the Gram matrices that sparsification uses.

    float      every layer gets what it gets in the float network: one pass over the images
    rounded    what it gets when all layers before it, and all values, are rounded: layer by layer, in order

Zeros stay zeros: a file that was pruned before keeps its masks. Weights end on the grid of their table, so that whoever
rounds them to nearest afterwards, as the quantized file's writer does, changes nothing.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import onnx
from torch import Tensor

from secateur.errors import QuantizationError
from secateur.graph.table import text_table
from secateur.posttraining.gathering import LIMIT, MEMORY, gather_grams
from secateur.posttraining.gram import Gram
from secateur.posttraining.output_statistics import FreshGrams
from secateur.posttraining.subject import Subject
from secateur.progress import track
from secateur.quantization.column_walk import round_layer
from secateur.quantization.numbers import Scale
from secateur.quantization.simulate import round_weights_, simulated
from secateur.quantization.subjects import Batches, StoredLayer, as_tensors, size_of, stored_layers, subject_of
from secateur.quantization.table import ScaleTable

Inputs = Literal["float", "rounded"]
TensorBatches = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class ColumnRounding:
    """A model whose weights are on the grid of its table; prints as a table.

    errors      layer -> (rounded to nearest, found): relative squared error of the outputs
    left_out    layer -> why it is rounded to nearest
    """

    model: onnx.ModelProto
    errors: Mapping[str, tuple[float, float]]
    left_out: Mapping[str, str]

    def __str__(self) -> str:
        rows = [(name, f"{nearest:.3g}", f"{found:.3g}", "") for name, (nearest, found) in self.errors.items()]
        rows += [(name, "", "", f"to nearest: {reason}") for name, reason in self.left_out.items()]
        return text_table(("layer", "nearest", "column by column", "note"), rows)


def round_columns(
    model: onnx.ModelProto,
    table: ScaleTable,
    batches: Batches,
    *,
    inputs: Inputs = "float",
    keep_zeros: bool = True,
    ordered: bool = False,
    damping: float = 0.01,
    limit: int | None = LIMIT,
    memory: int = MEMORY,
    seed: int = 0,
) -> ColumnRounding:
    """The model with all weights of the table rounded; the given one is not changed.

    model         prepared
    batches       calibration images, prepared
    inputs        rounded takes one pass over the images for every layer
    keep_zeros    weights that are zero stay zero; False: the walk may use them
    limit         columns of each batch that count in the Gram matrices
    raises        QuantizationError, PosttrainingError
    """
    layers = {
        name: layer for name, layer in stored_layers(model, size_of(batches)).items() if layer.tensor in table.weights
    }
    left_out = {
        name: "it is a transposed convolution" for name, layer in layers.items() if layer.kind == "conv_transpose"
    }
    target = subject_of(model, batches)
    images = as_tensors(batches)
    names = [name for name in target.order(next(iter(images()))) if name in layers and name not in left_out]
    source = target
    if inputs == "float":
        grams = _gathered(target, images, names, limit, memory, seed)
    else:
        source = subject_of(simulated(model, table, weights=False), batches)
        grams = iter(FreshGrams(source, images, names, limit=limit, seed=seed).items())
    errors: dict[str, tuple[float, float]] = {}
    with track(len(names), "rounding") as progress:
        for name, gram in grams:
            weight = target.weight(name)
            mask = weight != 0 if keep_zeros else None
            scale = rows_first(table.weights[layers[name].tensor], layers[name])
            found = round_layer(weight, gram, scale, mask=mask, damping=damping, ordered=ordered)
            target.store_(name, found.weight)
            if source is not target:
                source.store_(name, found.weight)
            errors[name] = (found.nearest, found.error)
            progress.advance(layer=name)
    for name in left_out:
        round_weights_(target.model, table, [layers[name].tensor])
    return ColumnRounding(target.model, errors, left_out)


def _gathered(
    subject: Subject, images: TensorBatches, names: Sequence[str], limit: int | None, memory: int, seed: int
) -> Iterator[tuple[str, Gram]]:
    """Layer by layer; Gram matrices that do not fit into memory together wait in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="secateur-grams-") as folder:
        grams = gather_grams(subject, images, names, limit=limit, memory=memory, folder=Path(folder), seed=seed)
        yield from ((name, grams[name]) for name in names)


def rows_first(scale: Scale, layer: StoredLayer) -> Scale:
    """The scale of a tensor as it is stored, for the same weight filter first. raises QuantizationError."""
    if scale.axis is None:
        return scale
    if scale.axis != layer.axis:
        raise QuantizationError(
            f"{layer.name}: the scale of '{layer.tensor}' lies along axis {scale.axis}; its outputs lie along axis "
            f"{layer.axis}."
        )
    return replace(scale, axis=0)
