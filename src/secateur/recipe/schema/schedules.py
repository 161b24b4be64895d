"""Schedules: how many zeros when, and when masks change."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from secateur.recipe.schema.base import Fraction, Positive, Section


class OneShot(Section):
    """All zeros at the first step."""

    kind: Literal["one_shot"] = "one_shot"


class AgpEpochs(Section):
    """Gradual pruning in epochs (Distiller): a cubic from `initial` to the target between `start` and `end`."""

    kind: Literal["agp"] = "agp"
    unit: Literal["epoch"] = "epoch"
    start: Annotated[int, Field(ge=0)] = 0
    end: Positive | None = Field(
        default=None, description="exclusive; by default 60 % of the epochs, at least start + 2"
    )
    every: Positive = 1
    initial: Fraction | None = Field(default=None, description="by default 0.05, or half the target where that is less")


class AgpIterations(Section):
    """Gradual pruning in iterations (PocketFlow): from 0 at `begin` to the target at `end`, both shares of the run."""

    kind: Literal["agp_iterations"] = "agp_iterations"
    begin: Fraction = 0.1
    end: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    exponent: Annotated[float, Field(gt=0.0)] = 3.0
    every: Positive = 500


class Ramp(Section):
    """A rise from `initial` to the target between `start` and `end`, in epochs or iterations.

    linear, polynomial (with exponent), exponential, cosine;  cubic_steps is Zhu & Gupta's own form: `steps` equal
    steps of `every`
    """

    kind: Literal["linear", "polynomial", "exponential", "cosine", "cubic_steps"]
    unit: Literal["epoch", "iteration"] = "epoch"
    start: Annotated[int, Field(ge=0)] = 0
    end: Positive | None = Field(default=None, description="exclusive; by default 60 % of the run")
    every: Positive = 1
    initial: Fraction = 0.0
    exponent: Annotated[float, Field(gt=0.0)] = 3.0
    steps: Positive | None = Field(default=None, description="of cubic_steps, in place of end")
    last_step: Literal["n", "n-1"] = Field(
        default="n", description="cubic_steps reaches the target after n steps (Zhu & Gupta) or at the n-th (MSBench)"
    )


class FixedLevels(Section):
    """The levels of the part, from the given epochs on (Distiller's level pruners)."""

    kind: Literal["fixed"] = "fixed"
    at: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), description="epochs at which masks are chosen")


class RandomLevel(Section):
    """Every time a level drawn from a range (Distiller)."""

    kind: Literal["random"] = "random"
    low: Fraction
    high: Fraction
    start: Annotated[int, Field(ge=0)] = 0
    end: Positive
    every: Positive = 1


class Thresholds(Section):
    """Remove what lies below a threshold; how sparse that is, the weights decide.

    thresholds       glob -> t: keep scores above t
    sensitivities    glob -> q: t = q times the deviation of the layer's weights, taken once
    """

    kind: Literal["threshold"] = "threshold"
    thresholds: dict[str, Annotated[float, Field(ge=0.0)]] = Field(default_factory=dict)
    sensitivities: dict[str, Annotated[float, Field(ge=0.0)]] = Field(default_factory=dict)
    of: Literal["max", "mean_abs"] = Field(default="mean_abs", description="what of a group is compared")
    start: Annotated[int, Field(ge=0)] = 0
    end: Positive | None = Field(default=None, description="exclusive; by default the end of the run")
    every: Positive = 1

    @model_validator(mode="after")
    def _one_of_both(self) -> "Thresholds":
        if bool(self.thresholds) == bool(self.sensitivities):
            raise ValueError("kind: threshold needs either thresholds or sensitivities")
        return self


class Splice(Section):
    """Dynamic network surgery: weights below a low threshold go, those above a high one come back (Distiller)."""

    kind: Literal["splice"] = "splice"
    sensitivities: dict[str, Annotated[float, Field(ge=0.0)]]
    low: Annotated[float, Field(gt=0.0)] = 0.9
    high: Annotated[float, Field(gt=0.0)] = 1.1
    growth: Annotated[float, Field(ge=0.0)] = 0.0
    start: Annotated[int, Field(ge=0)] = 0
    end: Positive | None = None
    every: Positive = 1


class Baidu(Section):
    """A threshold that rises in two slopes (Distiller's BaiduRNNPruner)."""

    kind: Literal["baidu"] = "baidu"
    q: Annotated[float, Field(gt=0.0)]
    offset: Annotated[int, Field(ge=0)]
    slope_mult: Annotated[float, Field(gt=0.0)] = 2.0
    start: Annotated[int, Field(ge=0)] = 0
    end: Positive
    every: Positive = 1


class RigL(Section):
    """Constant sparsity from the start; every few steps weak weights go and those with large gradients grow."""

    kind: Literal["rigl"] = "rigl"
    every: Positive = Field(default=100, description="iterations")
    drop: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(default=0.3, description="share of the kept weights at first")
    end: Annotated[float, Field(gt=0.0, le=1.0)] = Field(default=0.75, description="share of the run with changes")


class AcDc(Section):
    """Dense and sparse phases in turn; the last one is sparse."""

    kind: Literal["acdc"] = "acdc"
    warmup: Annotated[int, Field(ge=0)] = Field(default=1, description="dense epochs at first")
    phase: Positive = Field(default=1, description="epochs of a phase")
    last: Positive = Field(default=2, description="sparse epochs at the end")


Schedule = Annotated[
    OneShot | AgpEpochs | AgpIterations | Ramp | FixedLevels | RandomLevel | Thresholds | Splice | Baidu | RigL | AcDc,
    Field(discriminator="kind"),
]


class MaskRule(Section):
    """When masks change between the points of the schedule, and what becomes of removed weights.

    update         scheduled: at the schedule's points;  every_step: before every forward pass, at the level in force
                   (MSBench);  backup: scheduled, and removed weights keep their last value untouched (PocketFlow)
    gradients      kept: removed weights get no gradient;  all: they get the one of the masked network (double copies)
    """

    update: Literal["scheduled", "every_step", "backup"] = "scheduled"
    every_steps: Positive | None = Field(default=None, description="also every so many iterations within an epoch")
    gradients: Literal["kept", "all"] = "kept"
    skip_first_step: bool = Field(default=False, description="the first masks are chosen one iteration later")
    discard_after_step: bool = Field(default=False, description="masks hold for one iteration, then weights return")
    keep_at_end: bool = Field(default=True, description="the last masks hold when the schedule is over")
    reset_optimizer: bool = Field(default=False, description="momentum is forgotten whenever masks change")
