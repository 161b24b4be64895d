"""The stage that gives a trained network numbers of fewer bits."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from secateur.recipe.schema.after_training import Duration
from secateur.recipe.schema.base import Positive, Section
from secateur.recipe.schema.quantization_training import QuantizationTraining
from secateur.recipe.schema.training import Distillation, Regularizer, Training

WeightBits = Annotated[int, Field(ge=2, le=8)]

# Keys that choose numbers and how they are found; which of them a way of quantizing reads, and why no others.
CHOICES = (
    "bits", "layer_bits", "mixed", "activation_bits", "activations", "weights", "reduce_range", "ranges", "observer",
    "observer_options", "equalize", "rounding", "guard", "float_layers",
)  # fmt: skip
_WEIGHTS = {"bits", "weights", "reduce_range", "float_layers"}
READ: dict[str, tuple[set[str], str]] = {
    "qat": (set(), "training takes its numbers from the section qat"),
    "half": ({"float_layers"}, "halves have neither bits to choose nor ranges"),
    "dynamic": (_WEIGHTS, "no ranges are calibrated, and weights go to the nearest number"),
    "float": (_WEIGHTS | {"layer_bits"}, "activations stay float, and weights go to the nearest number"),
    "baseline": (
        _WEIGHTS | {"activation_bits", "activations", "ranges"},
        "ranges that no image has shown are a baseline, which nothing improves",
    ),
    "calibrated": (set(CHOICES), ""),
}


class LearnedRounding(Section):
    """Learn of every weight whether it is rounded up or down, so that outputs change least (AdaRound, BRECQ)."""

    unit: Literal["layer", "block"] = Field(default="layer", description="what is fitted at once")
    steps: Positive = Field(default=2000, description="of each; 20000 in the source")
    seconds: Duration | None = Field(default=None, description="time limit for all together")
    batch_size: Positive = 32
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.01
    drop: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=1.0, description="share of the activations that are rounded while learning; .5 is QDrop"
    )
    fisher: bool = Field(default=False, description="weigh outputs of blocks by the squared gradient of the loss")

    @model_validator(mode="after")
    def _weights_are_of_blocks(self) -> "LearnedRounding":
        if self.fisher and self.unit != "block":
            raise ValueError("fisher weighs outputs of blocks; write unit: block")
        return self


class MixedPrecision(Section):
    """Bits of every layer by how much the network suffers from them, within a budget.

    budget      mean bits of all weights that are quantized
    choices     bits that a layer may get
    """

    budget: Annotated[float, Field(ge=2.0, le=8.0)] = 6.0
    choices: Annotated[tuple[WeightBits, ...], Field(min_length=1)] = (4, 8)


class QuantizeStage(Section):
    """Numbers of fewer bits for weights and activations, from a few unlabeled images or by training.

    method      ptq: after training, from a few images; qat: train with the numbers that it will have
    numbers     int8 (integers of up to 8 bits); fp16, bf16: halves, without calibration
    """

    stage: Literal["quantize"] = "quantize"
    method: Literal["ptq", "qat"] = "ptq"
    numbers: Literal["int8", "fp16", "bf16"] = "int8"
    compute: Literal["numbers", "float", "dynamic"] = Field(
        default="numbers",
        description="computed in these numbers; or only stored in them; or ranges of activations from every batch anew",
    )
    bits: WeightBits = Field(default=8, description="of weights")
    layer_bits: dict[str, WeightBits] = Field(default_factory=dict, description="name or glob of layers -> their bits")
    mixed: MixedPrecision | None = Field(default=None, description="bits of every layer by sensitivity")
    activation_bits: Annotated[int, Field(ge=2, le=16)] = 8
    activations: Literal["asymmetric", "symmetric", "signed"] = Field(
        default="asymmetric",
        description="unsigned with a zero point; signed around 0; or signed with a zero point. Runtimes on a CPU want "
        "the first",
    )
    weights: Literal["channel", "tensor"] = Field(
        default="channel", description="a step for each output channel, or one"
    )
    reduce_range: bool = Field(default=False, description="7 bits for weights: for CPUs without VNNI that saturate")
    ranges: Literal["images", "bn", "random", "global"] = Field(
        default="images", description="where ranges of activations are from; all but images are baselines that collapse"
    )
    observer: str = Field(
        default="mse", description="minmax, moving, average, n_std, gauss, laplace, percentile, mse, entropy"
    )
    observer_options: dict[str, Any] = Field(default_factory=dict, description="arguments of the observer")
    calibration: str | None = Field(
        default=None, description="other images that calibrate, images:DIR; by default training images of the data"
    )
    images: Positive = Field(default=512, description="images that calibrate, without labels")
    held_out: Positive = Field(default=256, description="further ones, on which nearness and noise are measured")
    batch_size: Positive = 32
    equalize: bool = Field(default=False, description="move ranges between layers first, so that channels are alike")
    correct_bias: bool = Field(default=True, description="biases take the mean error that rounding makes")
    rounding: Literal["nearest", "learned", "columns"] = Field(
        default="nearest",
        description="of weights: to the nearest; learned, so that outputs change least; column by column, later "
        "ones making up for the error of earlier ones (second order)",
    )
    learned: LearnedRounding = Field(default=LearnedRounding(), description="of rounding: learned")
    guard: Annotated[float, Field(gt=0.0, le=100.0)] | None = Field(
        default=3.0,
        description="layers go back to float, worst first, until at most this percentage of the calibration images "
        "gets another class than from the float network; null: none does",
    )
    float_layers: tuple[str, ...] = Field(default=(), description="names or globs of layers that stay float")
    qat: QuantizationTraining | None = Field(default=None, description="of method: qat")
    regularize: tuple[Regularizer, ...] = ()
    training: Training = Field(default=Training(epochs=5, learning_rate=0.001), description="of method: qat")
    distillation: Distillation | None = None
    judge_images: Annotated[int, Field(ge=0)] = Field(
        default=2048,
        description="test images on which every runtime runs the float and the quantized file; 0 for none",
    )

    @model_validator(mode="after")
    def _keys_that_go_together(self) -> "QuantizeStage":
        if self.method == "ptq" and (self.qat is not None or self.distillation is not None or self.regularize):
            raise ValueError("qat, distillation and regularize are for method: qat")
        if self.numbers != "int8" and self.method == "qat":
            raise ValueError("method: qat trains for integers; write numbers: int8")
        if self.numbers != "int8" and self.compute == "dynamic":
            raise ValueError(f"{self.numbers} has no ranges; leave compute: dynamic out")
        if self.method == "qat" and self.compute != "numbers":
            raise ValueError("method: qat trains for integers that are computed with; leave compute out")
        if self.mixed is not None and self.layer_bits:
            raise ValueError("mixed chooses the bits of layers and layer_bits gives them; write one of them")
        if self.mixed is not None and self.bits != 8:
            raise ValueError("'bits' would do nothing: mixed gives every layer bits of its own")
        read, reason = READ[self._way()]
        for key in CHOICES:
            if key not in read and getattr(self, key) is not None and self._given(key):
                raise ValueError(f"'{key}' would do nothing: {reason}")
        if self.rounding != "learned" and self._given("learned"):
            raise ValueError("'learned' would do nothing: it is of rounding: learned")
        if self.method == "ptq" and self._given("training"):
            raise ValueError("'training' would do nothing: it is of method: qat")
        if self.reduce_range and self.bits > 8:
            raise ValueError("reduce_range is for weights of 8 bits")
        return self

    def _given(self, key: str) -> bool:
        """Whether a key differs from its default: recipes that were saved have all keys."""
        default: object = QuantizeStage.model_fields[key].get_default(call_default_factory=True)
        return getattr(self, key) != default

    def _way(self) -> str:
        if self.method == "qat":
            return "qat"
        if self.numbers != "int8":
            return "half"
        if self.compute != "numbers":
            return self.compute
        return "calibrated" if self.ranges == "images" else "baseline"
