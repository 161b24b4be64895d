"""A float ONNX model in the numbers that a stage asks for."""

import glob
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from secateur.errors import RecipeError
from secateur.pipeline.posttraining.images import Batches
from secateur.quantization.dynamic import quantize_dynamic
from secateur.quantization.half import to_half
from secateur.quantization.learned_rounding import LearnOptions
from secateur.quantization.mixed_precision import choose_bits, sensitivities
from secateur.quantization.noise import Noise, measure_noise
from secateur.quantization.numbers import Numbers
from secateur.quantization.points import is_meant, kind_of, points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.qdq import settled, write_qdq
from secateur.quantization.quantize import QuantizationOptions, quantize_model
from secateur.quantization.refine import Refined, Refinements
from secateur.quantization.settings import Override
from secateur.quantization.table import ScaleTable
from secateur.quantization.uncalibrated import ranges_of_norms, uncalibrated_table
from secateur.quantization.verify import verify
from secateur.quantization.weight_only import quantize_weights
from secateur.recipe import MixedPrecision, QuantizeStage

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


def quantize_file(
    model: onnx.ModelProto,
    stage: QuantizeStage,
    batches: Batches,
    held_out: Batches,
    seed: int,
    norms: Mapping[str, tuple[float, float]] | None = None,
) -> Made:
    """The model, which stays as it is, in other numbers.

    batches     of images that calibrate;  held_out    of others, on which nearness and noise are measured
    norms       ranges of values by the batch norms of the network, for `ranges: bn`; by default those in the file
    raises      ModelError, QuantizationError, DataError, RecipeError
    """
    images, judges = as_arrays(batches), as_arrays(held_out)
    if stage.numbers != "int8":
        mode = "storage" if stage.compute == "float" else "compute"
        made = to_half(model, stage.numbers, mode, keep=stage.float_layers)
        tensors = [asdict(tensor) for tensor in made.tensors if tensor.kept or tensor.subnormal]
        return _checked(model, Made(made.model, prepared(model), None, report={"tensors": tensors}), judges)
    options = options_of(prepared(model), stage, seed)
    if stage.compute == "dynamic":
        written = quantize_dynamic(
            model, options.settings.weights, per_channel=options.per_channel, keep_float=options.keep_float
        )
        return _checked(model, Made(written, prepared(model), None), judges)
    if stage.compute == "float":
        written, table = quantize_weights(
            model,
            options.settings.weights,
            per_channel=options.per_channel,
            keep_float=options.keep_float,
            overrides=options.overrides,
        )
        return _checked(model, Made(written, prepared(model), table), judges)
    if stage.ranges != "images":
        return _checked(model, _without_images(model, stage, options, judges, norms, seed), judges)
    report: dict[str, Any] = {}
    if stage.mixed is not None:
        options, report["mixed"] = _with_bits(model, images, options, stage.mixed)
    made = quantize_model(model, images, options)
    report |= _refined(made.refined, stage)
    noise = measure_noise(made.source, made.table, judges)
    return _checked(model, Made(made.model, made.source, made.table, noise, report), judges)


def _checked(model: onnx.ModelProto, made: Made, judges: ArrayBatches) -> Made:
    found = verify(prepared(model), made.model, judges)
    return replace(made, report={**made.report, "verification": found.to_dict()})


def _without_images(
    model: onnx.ModelProto,
    stage: QuantizeStage,
    options: QuantizationOptions,
    judges: ArrayBatches,
    norms: Mapping[str, tuple[float, float]] | None,
    seed: int,
) -> Made:
    """The baseline: ranges of activations that no image has shown."""
    assert stage.ranges != "images"
    plain = prepared(model)
    points = points_of(plain, keep_float=options.keep_float, share_concat=options.share_concat)
    table = uncalibrated_table(
        plain,
        points,
        stage.ranges,
        options.settings,
        norms=ranges_of_norms(model) if norms is None else norms,
        images=next(iter(judges())).shape,
        seed=seed,
    )
    table = settled(plain, table)
    return Made(write_qdq(plain, table), plain, table, measure_noise(plain, table, judges))


def _with_bits(
    model: onnx.ModelProto, images: ArrayBatches, options: QuantizationOptions, mixed: MixedPrecision
) -> tuple[QuantizationOptions, dict[str, Any]]:
    """Options with the bits of every layer that the budget allows, and how they were chosen."""
    base = quantize_model(model, images, replace(options, refinements=Refinements()))
    facts = sensitivities(base.float_model, base.table, images, sorted(mixed.choices))
    choice = choose_bits(facts, mixed.budget)
    overrides = [
        Override(glob.escape(node.name), weights=Numbers(choice.bits[node.input[1]], signed=True, symmetric=True))
        for node in base.float_model.graph.node
        if len(node.input) > 1 and node.input[1] in choice.bits
    ]
    report = {"budget": mixed.budget, "average": choice.average, "error": choice.error}
    return replace(options, overrides=(*options.overrides, *overrides)), report


def _refined(done: Refined, stage: QuantizeStage) -> dict[str, Any]:
    """What the refinements did, as JSON; scores of the guard in percent of the calibration images."""
    report: dict[str, Any] = {}
    if done.equalized is not None:
        report["equalized"] = len(done.equalized.scales)
    if done.biases is not None:
        report["corrected_biases"] = len(done.biases.shifts)
    if done.guarded is not None:
        _, before, after = (100.0 * score for score in done.guarded.score)
        report["guard"] = {
            "bound": stage.guard,
            "held": done.guarded.held,
            "before": before,
            "after": after,
            "returned": [asdict(row) for row in done.guarded.returned],
            "suspects": [asdict(suspect) for suspect in done.guarded.suspects.found],
        }
    return report


def as_arrays(batches: Batches) -> ArrayBatches:
    """The same images as float32 arrays."""

    def arrays() -> Iterator[NDArray[np.float32]]:
        for batch in batches():
            yield batch.numpy()

    return arrays


def _check_float_layers(model: onnx.ModelProto, patterns: Iterable[str]) -> None:
    """raises RecipeError for the name, glob or kind of nothing"""
    nodes = list(ir.from_proto(model).graph)
    for pattern in patterns:
        known = pattern in ("first", "last", "depthwise") or any(
            is_meant(pattern, node.name or "", kind_of(node), {}) for node in nodes
        )
        if not known:
            raise RecipeError(f"float_layers: '{pattern}' is the name, glob or kind of no layer.")


def options_of(model: onnx.ModelProto, stage: QuantizeStage, seed: int = 0) -> QuantizationOptions:
    """What the stage says in the words of `quantize_model`. raises RecipeError for layers that do not exist"""
    names = [node.name or node.output[0] for node in model.graph.node if node.op_type in LAYERS]
    for pattern in stage.layer_bits:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RecipeError(f"layer_bits: '{pattern}' is the name of no layer; there are {', '.join(names[:3])} ...")
    _check_float_layers(model, stage.float_layers)
    weights = Numbers(stage.bits, signed=True, symmetric=True)
    learn = LearnOptions(
        unit=stage.learned.unit,
        steps=stage.learned.steps,
        seconds=stage.learned.seconds,
        batch=stage.learned.batch_size,
        learning_rate=stage.learned.learning_rate,
        drop=stage.learned.drop,
        fisher=stage.learned.fisher,
        seed=seed,
    )
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
            Override(name, weights=Numbers(bits, signed=True, symmetric=True))
            for name, bits in stage.layer_bits.items()
        ),
        refinements=Refinements(
            equalize="keep" if stage.equalize else None,
            absorb=stage.equalize,
            rounding=stage.rounding,
            learn=learn,
            correct_biases=stage.correct_bias,
            guard=None if stage.guard is None else stage.guard / 100.0,
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
