"""How weights are trained, and whom they learn from."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from secateur.recipe.schema.base import Fraction, Positive, Section
from secateur.recipe.schema.inputs import Model


class Training(Section):
    """How weights are trained. Learning rates are per step of `batch_size` images."""

    epochs: Annotated[int, Field(ge=0)] = 10
    batch_size: Positive = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.01
    momentum: Fraction = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    decay: Literal["cosine", "step", "exponential", "polynomial", "plateau", "constant"] = "cosine"
    step_epochs: tuple[Positive, ...] = Field(
        default=(), description="epochs at which `decay: step` multiplies by gamma"
    )
    step_gamma: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=0.1, description="factor of step and plateau; of exponential, per epoch"
    )
    step_gammas: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(
        default=(), description="one factor for each of step_epochs, in place of step_gamma"
    )
    decay_power: Annotated[float, Field(gt=0.0)] = Field(default=1.0, description="exponent of polynomial")
    decay_patience: Annotated[int, Field(ge=0)] = Field(
        default=10, description="epochs without a better test loss before plateau multiplies by step_gamma"
    )
    decay_start: Annotated[int, Field(ge=0)] = Field(default=0, description="the decay acts from this epoch on")
    decay_end: Positive | None = Field(default=None, description="exclusive; the rate stays as it is afterwards")
    final_learning_rate: Annotated[float, Field(ge=0.0)] = Field(default=0.0, description="where the cosine ends")
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 0.0
    label_smoothing: Fraction = 0.0
    clip_gradient_norm: Annotated[float, Field(gt=0.0)] | None = None
    average_weights: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None, description="decay of an exponential moving average of the weights, which then is the result"
    )
    freeze_bias: bool = Field(default=False, description="biases and the shifts of norms keep their values")
    keep: Literal["last", "best_top1", "best_top5", "sparsest"] = Field(
        default="last",
        description="which epoch is the result; best_*: of those at the final sparsity; sparsest: fewest nonzeros, "
        "then top-1, then top-5 (Distiller's order)",
    )
    augment: bool = Field(default=True, description="random crops and flips of the training images")
    mixed_precision: bool = Field(default=True, description="bfloat16 autocast; only where the device is a GPU")
    checkpoint_seconds: Annotated[float, Field(gt=0.0)] = Field(
        default=60.0, description="a checkpoint is written at every epoch's end and at least this often within one"
    )

    @model_validator(mode="after")
    def _steps_inside_the_run(self) -> "Training":
        if self.decay == "step" and not self.step_epochs:
            raise ValueError("decay: step needs step_epochs, such as [5, 8]")
        if list(self.step_epochs) != sorted(set(self.step_epochs)):
            raise ValueError("step_epochs must rise, each given once")
        if self.step_gammas and len(self.step_gammas) != len(self.step_epochs):
            raise ValueError("step_gammas needs one factor for each of step_epochs")
        if self.decay_end is not None and self.decay_end <= self.decay_start:
            raise ValueError("decay_end must lie after decay_start")
        return self


class Distillation(Section):
    """Learn from a teacher's outputs as well as from the labels.

    kl               task_weight * task + weight * T^2 * KL(teacher || student)       (Distiller's form)
    cross_entropy    task_weight * task + weight * CE(softmax(teacher / T), student / T)   (PocketFlow's form)
    """

    form: Literal["kl", "cross_entropy"] = "kl"
    temperature: Annotated[float, Field(gt=0.0)] = 4.0
    weight: Annotated[float, Field(ge=0.0)] = 0.9
    task_weight: Annotated[float, Field(ge=0.0)] = 0.1
    square_temperature: bool | None = Field(
        default=None, description="multiply by T^2; by default yes for kl and no for cross_entropy, as their sources do"
    )
    teacher: Literal["dense"] | Model = Field(
        default="dense", description="the dense network before this recipe, or another"
    )
    features: dict[str, Annotated[float, Field(ge=0.0)]] = Field(
        default_factory=dict,
        description="glob of layers -> weight of the mean squared distance between the student's and teacher's maps",
    )


class Regression(Section):
    """Fit every pruned layer to the dense layer's output before the training, with Adam (PocketFlow)."""

    iterations: Positive = 20
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(
        default=3e-2, description="relative to the root mean square of a layer's kept weights; falls to zero"
    )


class Regularizer(Section):
    """A penalty on weights or groups of weights while training.

    l1: strength * sum |w|;  group_lasso: strength * sum of the groups' L2 norms;  group_variance: strength divided by
    the variance of the groups' norms;  drop_filter: filters drop out at random, with probability `strength`;
    norm_l1: strength * sum |scale of batch norms|, whose names `layers` then means (network slimming)
    """

    kind: Literal["l1", "group_lasso", "group_variance", "drop_filter", "norm_l1"]
    layers: tuple[str, ...] = Field(default=("*",), description="names or globs")
    strength: Annotated[float, Field(gt=0.0)]
    group: Literal["kernel", "row", "column", "row+column", "channel", "filter", "layer", "channel+layer"] = "filter"
    threshold: Literal["max", "mean_abs"] | None = Field(
        default=None, description="after each step groups whose maximum or mean lies below the strength become zero"
    )
    keep_mask: bool = Field(default=False, description="what the threshold removed stays removed")

    @model_validator(mode="after")
    def _norms_have_no_groups(self) -> "Regularizer":
        if self.kind == "norm_l1" and (self.threshold is not None or self.keep_mask or self.group != "filter"):
            raise ValueError("norm_l1 acts on the scales of batch norms; it has no group, threshold or keep_mask")
        return self
