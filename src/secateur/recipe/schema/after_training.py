"""The stage that makes a trained network sparse with a few unlabeled images."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from secateur.recipe.schema.base import Fraction, Positive, Section
from secateur.recipe.schema.posttraining import GradientReconstruction

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_in(duration: object) -> object:
    """Seconds in `90`, `90s`, `10m`, `1.5h`; anything else comes back as it is. raises ValueError for another text."""
    if not isinstance(duration, str):
        return duration
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", duration)
    if match is None:
        raise ValueError(f"'{duration}' is no duration; write 90s, 10m or 1.5h")
    return float(match[1]) * _UNITS[match[2] or "s"]


Duration = Annotated[float, Field(gt=0.0), BeforeValidator(seconds_in)]


class Tuning(Section):
    """Train the kept weights on unlabeled images to answer like the dense network (KL divergence).

    The defaults did best in short runs: ResNet-20, 1,024 CIFAR-10 images, batches of 32. A minute of one core at 80 %
    zeros by magnitude (70.3 with norms estimated again; 2,000 test images) gives 83.9 with adamw, 82.8 with sgd at .01,
    80.4 with sgd at .04, 82.2 at T 2.
    Rates relative to each tensor's size beat one rate for all: 1x4 blocks at 50 % after 300 steps end at 2.59 (T 4)
    instead of 2.72 at the best common rate (.002), SqueezeNet at 50 % comes nearer at once (.68 -> .36 in 90 steps).
    With rectangles of other images (mix) 1x4 blocks at 50 % end at a divergence of .403 instead of .470 (256 images,
    300 steps) and .340 instead of .371 (1,024 images, 450 steps), on 2,000 other training images; with half of the
    batches mixed at .451.
    """

    seconds: Duration | None = Field(
        default=None, description="time box such as 10m; by default what is left of the stage's budget"
    )
    steps: Positive | None = Field(default=None, description="optimiser steps; by default as many as the time allows")
    batch_size: Positive = 32
    augment: bool = Field(default=True, description="random crops and flips")
    mix: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=1.0, description="share of the images that get a rectangle of another one: few images become many"
    )
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(
        default=0.01, description="at its highest, for each step; of adamw relative to the size of each tensor"
    )
    adapt_rate: bool = Field(default=True, description="less where the network is near the dense one already")
    momentum: Fraction = Field(default=0.9, description="of sgd")
    nesterov: bool = Field(default=True, description="of sgd")
    warmup: Fraction = Field(default=0.05, description="share of the budget in which the rate rises")
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(
        default=1e-2, description="on matrices and kernels; sgd wants about 3e-4"
    )
    temperature: Annotated[float, Field(gt=0.0)] = 4.0
    clip_gradient_norm: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="the common Euclidean norm of all gradients is at most this"
    )
    features: dict[str, Annotated[float, Field(ge=0.0)]] = Field(
        default_factory=dict, description="glob of layers -> weight of the squared distance to the dense layer's maps"
    )
    norms: Literal["auto", "train", "frozen"] = Field(
        default="auto",
        description="train: statistics of the batch, running ones follow; frozen: the running ones, which stay; auto: "
        "train where the network is farther from the dense one than half of what statistics of such batches do to it",
    )
    norm_momentum: Annotated[float, Field(gt=0.0, le=1.0)] = Field(default=0.05, description="of running statistics")
    masks: Literal["static", "scheduled", "learned"] = Field(
        default="static",
        description="stay; are chosen again by magnitude until `settle`; or follow learned thresholds until then",
    )
    settle: Fraction = Field(default=0.5, description="share of the budget from which masks stay")
    selections: Positive = Field(default=10, description="how often scheduled masks are chosen")
    constraint: Annotated[float, Field(ge=0.0)] = Field(default=1.0, description="lambda of learned thresholds")
    squared_constraint: bool = False
    threshold_rate: Annotated[float, Field(gt=0.0)] = Field(
        default=0.2, description="learning rate of the thresholds, a share of `learning_rate`"
    )
    evaluations: Positive = Field(default=20, description="looks at the held-out images, evenly over the budget")
    checkpoint_seconds: Annotated[float, Field(gt=0.0)] = Field(
        default=60.0, description="a checkpoint is written at least this often"
    )


class PosttrainingStage(Section):
    """Remove weights after training: second-order masks and updates from a few unlabeled images, minutes on a CPU.

    sparsity, remaining    the target: a fraction of zeros, or what may remain of a cost
    budget                 a time box for the whole stage; it always ends with the best result so far
    """

    stage: Literal["posttraining"] = "posttraining"
    patterns: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=("unstructured",), description="several: every layer gets the one that suits it best"
    )
    sparsity: Fraction | None = Field(
        default=None, description="fraction of zeros among the weights of `base`; by default 0.5 where nothing else is"
    )
    base: Literal["conv_linear", "selected"] = "conv_linear"
    remaining: dict[Literal["parameters", "macs", "bytes", "seconds"], Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(
        default_factory=dict, description="one cost and the share of the dense network's that may remain: macs: 0.5"
    )
    hardware: tuple[str, ...] = Field(
        default=(), description="measured times of layers, one table for each pattern; by default measured now"
    )
    threads: Positive = Field(default=1, description="of the times that are measured")
    calibration: str | None = Field(
        default=None, description="other images that calibrate, images:DIR; by default training images of the data"
    )
    images: Positive = Field(default=1024, description="images that calibrate, without labels")
    batch_size: Positive = 128
    allocation: str = Field(
        default="database", description="least error over all layers; or uniform, erk, ... levels as in sparsify"
    )
    power: Annotated[float, Field(gt=0.0)] = Field(default=1.0, description="exponent of allocation erk")
    levels_file: str | None = Field(default=None, description="levels of all layers, for allocation listed")
    errors: Literal["loss", "output", "absolute"] = Field(
        default="loss", description="what is minimised: divergence of the network's answers, or errors of layers"
    )
    search: Annotated[int, Field(ge=0)] = Field(default=0, description="networks tried around the best levels")
    cap: Annotated[float, Field(gt=0.0, le=1.0)] = Field(default=0.99, description="the most that one layer may lose")
    floor: Fraction = Field(default=0.0, description="the least density of a layer")
    layers: tuple[str, ...] = Field(default=(), description="names or globs of the layers; by default all")
    include_first: bool = False
    include_depthwise: bool = False
    include_classifier: bool = True
    exclude: tuple[str, ...] = ()
    exclude_kinds: tuple[Literal["conv", "linear", "depthwise", "conv_transpose", "first", "last"], ...] = ()
    permute: bool = Field(default=False, description="reorder channels first, so that N:M removes less")
    rearrange: bool = Field(default=False, description="reorder filters first, so that blocks hold similar ones")
    method: Literal["auto", "exact", "columns", "magnitude"] = Field(
        default="auto",
        description="second-order masks and updates, unit by unit (exact) or column by column; or masks by magnitude "
        "and weights by reconstruction alone, as MSBench and AdaPrune do",
    )
    criterion: str = Field(default="magnitude", description="of the masks of method magnitude")
    rounding: Literal["floor", "ceil", "nearest", "complement", "percentile"] = Field(
        default="floor", description="of the counts of method magnitude"
    )
    ties: Literal["exact", "threshold"] = Field(default="exact", description="likewise")
    fold_norms: bool = Field(
        default=False, description="multiply batch norms into the weights before them first: the function is the same"
    )
    correct_weights: Literal["exact", "msb"] | None = Field(
        default=None,
        description="method magnitude: kept weights of every filter get the mean and variance of all of its weights",
    )
    weigh_outputs: bool = Field(
        default=True,
        description="masks are chosen where they cost the network least: outputs of a layer count as its answers "
        "depend on them, half trusted",
    )
    second_pass: bool = Field(
        default=True,
        description="compress again layer by layer, with what the compressed layers before give; kept where that helps",
    )
    correct_bias: bool = Field(
        default=True, description="biases, or the batch norms behind them, take the shift of the mean"
    )
    estimate_norms: bool = Field(
        default=True, description="estimate statistics of batch norms again, where that brings the network nearer"
    )
    match_outputs: bool = Field(
        default=False,
        description="layers without a norm get the mean and variance of the dense layer's outputs, where that brings "
        "the network nearer",
    )
    held_out: Positive = Field(
        default=512, description="further ones that decide between results; of too few images at most a fifth"
    )
    reconstruction: GradientReconstruction | None = Field(default=None, description="fit units by gradient afterwards")
    tuning: Tuning | None = Field(default=None, description="tune the whole network on the images afterwards")
    budget: Duration | None = Field(default=None, description="seconds, or 90s, 10m, 1h")
    cache: str | None = Field(
        default=None, description="folder of Gram matrices and databases that several runs share; by default the run's"
    )

    @model_validator(mode="after")
    def _one_target(self) -> "PosttrainingStage":
        if len(self.remaining) > 1:
            raise ValueError("remaining takes one cost; run a second stage for another one")
        if self.remaining and self.sparsity is not None:
            raise ValueError("sparsity and remaining are two targets; write one of them")
        if self.hardware and "seconds" not in self.remaining:
            raise ValueError("hardware is for a target in seconds; write remaining: {seconds: 0.5}")
        if self.remaining and self.allocation != "database":
            raise ValueError(f"allocation {self.allocation} knows zeros only; write sparsity instead of remaining")
        if self.method == "magnitude" and (self.remaining or self.reconstruction is None):
            raise ValueError("method: magnitude needs a section reconstruction, and a target in zeros")
        course = self.reconstruction is not None and (self.reconstruction.table or self.reconstruction.rounds)
        if self.method != "magnitude" and course:
            raise ValueError("a table or rounds of reconstruction are courses of their own; write method: magnitude")
        if self.method != "magnitude":
            for key in ("criterion", "rounding", "ties", "correct_weights"):
                if getattr(self, key) != PosttrainingStage.model_fields[key].default:
                    raise ValueError(f"{key} is for masks by a score; write method: magnitude")
        if self.correct_weights is not None and self.reconstruction is not None and self.reconstruction.rounds:
            raise ValueError("rounds fit the weights of the round before as they are; leave correct_weights out")
        table = self.reconstruction.table if self.reconstruction is not None else ()
        if table and self.sparsity not in (None, table[-1]):
            raise ValueError(
                f"sparsity {self.sparsity:g} and a table that ends at {table[-1]:g} are two targets; leave sparsity out"
            )
        if (self.levels_file is not None) != (self.allocation == "listed"):
            raise ValueError("levels_file and allocation: listed go together")
        return self
