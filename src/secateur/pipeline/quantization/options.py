"""A recipe from a handful of options: what `secateur quantize MODEL --images DIR ...` runs.

evaluate (with labels) -> quantize -> export -> benchmark (unless declined) -> report
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from secateur import zoo
from secateur.measure import installed_runtimes
from secateur.pipeline.jobs import JobOptions, recipe_with
from secateur.recipe import BenchmarkStage, QuantizeStage, Recipe, build_recipe


@dataclass(frozen=True)
class QuantizeOptions(JobOptions):
    """What `quantize` can be told in a line; everything else needs a recipe. The words are those of its stage.

    layer_bits      glob of layers -> bits of their weights
    mixed           mean bits of all weights; every layer gets 4 or 8 by sensitivity
    guard           percent of the images that may get another class before layers go back to float; 0 turns it off
    epochs          of training with the numbers (torch networks only); 0: none
    judge_images    test images that every runtime runs
    tflite          TensorFlow Lite files too (torch networks, with Google's converter)
    benchmark       time the float and the quantized file in every runtime
    repeats, max_seconds    of the benchmark
    """

    images_count: int = 512
    numbers: Literal["int8", "fp16", "bf16"] = "int8"
    compute: Literal["numbers", "float", "dynamic"] = "numbers"
    bits: int = 8
    layer_bits: Mapping[str, int] = field(default_factory=dict[str, int])
    mixed: float | None = None
    activation_bits: int = 8
    activations: Literal["asymmetric", "symmetric", "signed"] = "asymmetric"
    per: Literal["channel", "tensor"] = "channel"
    reduce_range: bool = False
    ranges: Literal["images", "bn", "random", "global"] = "images"
    observer: str = "mse"
    equalize: bool = False
    correct_bias: bool = True
    rounding: Literal["nearest", "learned", "columns"] = "nearest"
    guard: float = 3.0
    float_layers: tuple[str, ...] = ()
    epochs: int = 0
    learning_rate: float = 0.001
    scheme: str = "affine"
    judge_images: int = 2048
    tflite: bool = False
    benchmark: bool = True
    repeats: int = 50
    max_seconds: float = 20.0


def stage_of(options: QuantizeOptions, calibration: str | None = None) -> QuantizeStage:
    """The stage that the options stand for. raises RecipeError for values out of range or that contradict each other"""
    recipe = build_recipe({"model": {"name": "any"}, "stages": [quantize_section(options, calibration)]}, "the command")
    stage = recipe.stages[0]
    assert isinstance(stage, QuantizeStage)
    return stage


def benchmark_of(options: QuantizeOptions) -> BenchmarkStage | None:
    """The stage that times what was made. raises RecipeError for values out of range"""
    if not options.benchmark:
        return None
    recipe = build_recipe({"model": {"name": "any"}, "stages": [_benchmark(options)]}, "the command")
    stage = recipe.stages[0]
    assert isinstance(stage, BenchmarkStage)
    return stage


def recipe_for(
    model: str, options: QuantizeOptions, data: str, images: zoo.ImageData, calibration: str | None = None
) -> Recipe:
    """The recipe that the options stand for.

    data           the name of `images`, which the network is measured on where they have labels
    calibration    other images, which calibrate
    raises         RecipeError
    """
    evaluate: list[dict[str, Any]] = [{"stage": "evaluate"}] if images.labelled else []
    stages = [
        *evaluate,
        quantize_section(options, calibration),
        *(evaluate if options.epochs else []),
        {"stage": "export", "tflite": options.tflite},
        *([_benchmark(options)] if options.benchmark else []),
        {"stage": "report"},
    ]
    return recipe_with(stages, model, options, data)


def quantize_section(options: QuantizeOptions, calibration: str | None = None) -> dict[str, Any]:
    """The stage as a recipe writes it."""
    section: dict[str, Any] = {
        "stage": "quantize",
        "numbers": options.numbers,
        "compute": options.compute,
        "bits": options.bits,
        "layer_bits": dict(options.layer_bits),
        "mixed": None if options.mixed is None else {"budget": options.mixed},
        "activation_bits": options.activation_bits,
        "activations": options.activations,
        "weights": options.per,
        "reduce_range": options.reduce_range,
        "ranges": options.ranges,
        "observer": options.observer,
        "calibration": calibration,
        "images": options.images_count,
        "equalize": options.equalize,
        "correct_bias": options.correct_bias,
        "rounding": options.rounding,
        "guard": options.guard or None,
        "float_layers": options.float_layers,
        "judge_images": options.judge_images,
    }
    if options.epochs:
        section |= {
            "method": "qat",
            "qat": {
                "scheme": options.scheme,
                "weight_bits": options.bits,
                "activation_bits": options.activation_bits,
                "overrides": {layer: {"weights": bits} for layer, bits in options.layer_bits.items()},
                "keep_float": options.float_layers,
            },
            "training": {"epochs": options.epochs, "learning_rate": options.learning_rate},
            "distillation": {},
        }
        # The section qat has them.
        for key in ("bits", "activation_bits", "layer_bits", "float_layers"):
            del section[key]
    return section


def _benchmark(options: QuantizeOptions) -> dict[str, Any]:
    # Those that run the quantized file too.
    return {
        "stage": "benchmark",
        "runtimes": list(installed_runtimes("onnx")),
        "repeats": options.repeats,
        "max_seconds": options.max_seconds,
        "accuracy_images": 0,
    }
