"""A float ONNX model in the numbers that a stage asks for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from secateur.errors import RecipeError
from secateur.pipeline.posttraining.images import Batches
from secateur.quantization.absorb import absorb_biases
from secateur.quantization.bias_correct import correct_biases
from secateur.quantization.calibrate import observe, table_of
from secateur.quantization.column_rounding import round_columns
from secateur.quantization.equalize import equalize
from secateur.quantization.guard import Guarded, guard
from secateur.quantization.learned_rounding import LearnOptions, learn_rounding
from secateur.quantization.noise import Noise, measure_noise
from secateur.quantization.numbers import Numbers
from secateur.quantization.points import points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.qdq import settled, write_qdq
from secateur.quantization.quantize import QuantizationOptions
from secateur.quantization.settings import Override, chooser
from secateur.quantization.table import ScaleTable
from secateur.quantization.verify import verify
from secateur.recipe import QuantizeStage

ArrayBatches = Callable[[], Iterable[NDArray[np.float32]]]

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Made:
    """What became of a float model.

    model          quantized
    float_model    what the table's names belong to
    table          None of halves
    noise          of every operator that computes with integers; None of halves
    report         how it was done and what was found, as JSON
    """

    model: onnx.ModelProto
    float_model: onnx.ModelProto
    table: ScaleTable | None
    noise: Noise | None = None
    report: dict[str, Any] = field(default_factory=dict[str, Any])

    def layers(self) -> list[dict[str, Any]]:
        """Every layer with a weight: the bits of weight and output, or why it stays float."""
        return [] if self.table is None else layer_rows(self.float_model, self.table, self.noise)


def quantize_file(model: onnx.ModelProto, stage: QuantizeStage, batches: Batches, held_out: Batches, seed: int) -> Made:
    """The model, which stays as it is, in other numbers.

    batches     of images that calibrate;  held_out    of others, that judge what is kept float
    raises      ModelError, QuantizationError, DataError, RecipeError
    """
    plain = prepared(model)
    options = options_of(plain, stage)
    images, judges = as_arrays(batches), as_arrays(held_out)
    start, report = plain, dict[str, Any]()
    if stage.equalize:
        equalized = equalize(plain, batches=images)
        start = absorb_biases(equalized.model, images).model
        report["equalized"] = len(equalized.scales)
    points = points_of(start, keep_float=options.keep_float, share_concat=options.share_concat)
    settings = chooser(start, options.settings, options.overrides)
    table = settled(start, table_of(start, points, observe(start, images, points), settings))
    work = rounded_weights(start, table, images, stage, seed)
    if stage.correct_bias:
        corrected = correct_biases(work, table, images, reference=start, seed=seed)
        work = corrected.model
        report["corrected_biases"] = len(corrected.shifts)
    if stage.guard is not None:
        guarded = guard(work, table, judges, bound=stage.guard / 100.0, share_concat=options.share_concat)
        table = guarded.table
        report["guard"] = guard_report(guarded, stage.guard)
    quantized = write_qdq(work, table)
    checked = verify(plain, quantized, judges)
    noise = measure_noise(work, table, judges)
    return Made(quantized, work, table, noise, report | {"verification": checked.to_dict()})


def rounded_weights(
    model: onnx.ModelProto, table: ScaleTable, images: ArrayBatches, stage: QuantizeStage, seed: int
) -> onnx.ModelProto:
    """The model with weights on the grid of the table, or as it is where the writer rounds them to the nearest."""
    if stage.rounding == "columns":
        return round_columns(model, table, images, seed=seed).model
    if stage.rounding == "learned":
        learned = stage.learned
        options = LearnOptions(
            unit=learned.unit,
            steps=learned.steps,
            seconds=learned.seconds,
            batch=learned.batch_size,
            learning_rate=learned.learning_rate,
            drop=learned.drop,
            fisher=learned.fisher,
            seed=seed,
        )
        return learn_rounding(model, table, images, options).model
    return model


def guard_report(found: Guarded, bound: float) -> dict[str, Any]:
    """What the guard saw and did, as JSON; scores in percent of the held-out images."""
    _, before, after = (100.0 * score for score in found.score)
    return {
        "bound": bound,
        "held": found.held,
        "before": before,
        "after": after,
        "returned": [asdict(row) for row in found.returned],
        "suspects": [asdict(suspect) for suspect in found.suspects.found],
    }


def as_arrays(batches: Batches) -> ArrayBatches:
    """The same images as float32 arrays."""

    def arrays() -> Iterator[NDArray[np.float32]]:
        for batch in batches():
            yield batch.numpy()

    return arrays


def options_of(model: onnx.ModelProto, stage: QuantizeStage) -> QuantizationOptions:
    """What the stage says in the words of `quantize_model`. raises RecipeError for layers that do not exist"""
    names = [node.name or node.output[0] for node in model.graph.node if node.op_type in LAYERS]
    for glob in stage.layer_bits:
        if not any(fnmatchcase(name, glob) for name in names):
            raise RecipeError(f"layer_bits: '{glob}' is the name of no layer; there are {', '.join(names[:3])} ...")
    weights = Numbers(stage.bits, signed=True, symmetric=True)
    return QuantizationOptions(
        observer=stage.observer,
        observer_options=stage.observer_options,
        activations=Numbers(
            stage.activation_bits, signed=stage.activations != "asymmetric", symmetric=stage.activations == "symmetric"
        ),
        weights=weights,
        per_channel=stage.weights == "channel",
        reduce_range=stage.reduce_range,
        keep_float=stage.float_layers,
        overrides=tuple(
            Override(glob, weights=Numbers(bits, signed=True, symmetric=True))
            for glob, bits in stage.layer_bits.items()
        ),
    )


def layer_rows(model: onnx.ModelProto, table: ScaleTable, noise: Noise | None) -> list[dict[str, Any]]:
    """The layers of a prepared model, in its order; noise in decibels, of their own numbers and of all before them."""
    heard = {} if noise is None else {layer.node: layer for layer in noise.layers}
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    rows: list[dict[str, Any]] = []
    for node in model.graph.node:
        if node.op_type not in LAYERS or len(node.input) < 2 or node.input[1] not in sizes:
            continue
        scale = table.weights.get(node.input[1])
        values = table.values.get(node.input[0])
        rows.append(
            {
                "name": node.name,
                "kind": node.op_type,
                "shape": sizes[node.input[1]],
                "bits": None if scale is None else scale.numbers.bits,
                "activation_bits": None if values is None else values.numbers.bits,
                "steps": None if scale is None else int(scale.step.size),
                "own_noise": None if node.name not in heard else heard[node.name].own,
                "noise": None if node.name not in heard else heard[node.name].total,
                "beyond": None if node.name not in heard else heard[node.name].beyond,
                "reason": table.floats.get(node.name),
            }
        )
    return rows


def other_floats(model: onnx.ModelProto, table: ScaleTable) -> Mapping[str, str]:
    """Operators without a weight that stay float, and why."""
    layers = {node.name for node in model.graph.node if node.op_type in LAYERS}
    return {name: reason for name, reason in table.floats.items() if name not in layers}
