"""What a stage `quantize` will do, before anything is computed, and what it can be told to be impossible."""

from secateur.errors import RecipeError
from secateur.quantization import observers as _observers  # noqa: F401  (registers them)
from secateur.quantization.half import computes
from secateur.quantization.observer import observers
from secateur.quantization.training import schemes
from secateur.recipe import QuantizationTraining, QuantizeStage
from secateur.training import distributed


def check_quantize(stage: QuantizeStage) -> None:
    """raises RecipeError  an observer or a scheme that does not exist, training in several processes, numbers that
    ONNX Runtime does not compute with here"""
    if stage.numbers != "int8" and stage.compute != "float" and not computes(stage.numbers):
        raise RecipeError(
            f"this machine's ONNX Runtime does not compute in {stage.numbers}; compute: float (--compute float) stores "
            "the weights so and computes in float32."
        )
    _ = observers[stage.observer], schemes[stage.qat.scheme if stage.qat is not None else "affine"]
    if stage.method == "qat" and distributed.world_size() > 1:
        raise RecipeError("stage 'quantize' with method: qat trains in one process; start it without torchrun.")


def quantize_line(stage: QuantizeStage) -> str:
    """In a line: which numbers, from what."""
    if stage.numbers != "int8":
        stored = "weights stored in" if stage.compute == "float" else "weights and activations in"
        return f"{stored} {stage.numbers}"
    if stage.method == "qat":
        config, training = stage.qat or QuantizationTraining(), stage.training
        return (
            f"trained with its numbers, scheme {config.scheme}, weights of {config.weight_bits} and activations of "
            f"{config.activation_bits} bits; {training.epochs} epochs at learning rate {training.learning_rate:g}"
        )
    bits = f"{stage.mixed.budget:g} bits in the mean" if stage.mixed is not None else f"{stage.bits} bits"
    if stage.compute == "float":
        return f"weights stored with {bits}, computed in float"
    if stage.compute == "dynamic":
        return f"weights with {bits}, ranges of activations from every batch anew"
    steps = ["equalized", "biases corrected", f"rounded {stage.rounding}"]
    done = [step for step, wanted in zip(steps, (stage.equalize, stage.correct_bias, True), strict=True) if wanted]
    source = f"{stage.images} images by {stage.observer}" if stage.ranges == "images" else stage.ranges
    guard = "" if stage.guard is None else f"; layers go back to float until {100 - stage.guard:g} % of answers agree"
    return (
        f"weights with {bits} for each {stage.weights}, activations with {stage.activation_bits} "
        f"({stage.activations}), ranges from {source}; {', '.join(done)}{guard}"
    )
