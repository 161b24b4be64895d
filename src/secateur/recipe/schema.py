"""The recipe: what to do, as data.

A recipe names a model, a data set and a list of stages that run in order. Every key has a default that a careful
user would choose; unknown keys are errors. Words are those of the field and mean the same everywhere (see
docs/vocabulary.md): sparsity is a fraction of zeros, `base` says among which weights.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of a recipe: frozen, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(Section):
    """Which network, and with which weights."""

    name: str = Field(description="a name that `secateur models` lists, or package.module:callable")
    weights: str | None = Field(default=None, description="'pretrained', a .safetensors or .pth file, or none: random")
    classes: Positive | None = Field(default=None, description="number of classes; by default that of the data set")
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of the model's constructor")


class Data(Section):
    """Which images."""

    name: str = Field(default="digits", description="digits, cifar10, imagefolder:DIR or package.module:callable")
    root: str | None = Field(default=None, description="folder where torchvision keeps its data sets")
    classes_file: str | None = Field(
        default=None, description="text file with one class folder a line: fixes their order"
    )
    holdout: Fraction | None = Field(
        default=None, description="share of a folder without train/ and val/ kept for testing"
    )
    workers: Annotated[int, Field(ge=0, le=64)] = Field(
        default=0, description="loader processes; 0 loads in the main one"
    )
    crop_pct: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(default=None, description="test-time centre crop")
    train_limit: Positive | None = Field(default=None, description="use only so many training images, evenly spread")
    test_limit: Positive | None = Field(default=None, description="use only so many test images, evenly spread")


class Training(Section):
    """How weights are trained. Learning rates are per step of `batch_size` images."""

    epochs: Annotated[int, Field(ge=0)] = 10
    batch_size: Positive = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.01
    momentum: Fraction = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    decay: Literal["cosine", "step", "constant"] = "cosine"
    step_epochs: tuple[Positive, ...] = Field(
        default=(), description="epochs at which `decay: step` multiplies by gamma"
    )
    step_gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    final_learning_rate: Annotated[float, Field(ge=0.0)] = Field(default=0.0, description="where the cosine ends")
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 0.0
    label_smoothing: Fraction = 0.0
    clip_gradient_norm: Annotated[float, Field(gt=0.0)] | None = None
    augment: bool = Field(default=True, description="random crops and flips of the training images")
    mixed_precision: bool = Field(default=True, description="bfloat16 autocast; only where the device is a GPU")
    checkpoint_seconds: Annotated[float, Field(gt=0.0)] = Field(
        default=60.0, description="a checkpoint is written at every epoch's end and at least this often within one"
    )

    @model_validator(mode="after")
    def _steps_inside_the_run(self) -> "Training":
        if self.decay == "step" and not self.step_epochs:
            raise ValueError("decay: step needs step_epochs, such as [5, 8]")
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


Schedule = Annotated[OneShot | AgpEpochs | AgpIterations, Field(discriminator="kind")]


class TrainStage(Section):
    """Train the dense network."""

    stage: Literal["train"] = "train"
    training: Training = Training()
    distillation: Distillation | None = None


class EvaluateStage(Section):
    """Measure top-1 and top-5 on the test images."""

    stage: Literal["evaluate"] = "evaluate"


class SparsifyStage(Section):
    """Remove weights; with epochs, while the rest is trained."""

    stage: Literal["sparsify"] = "sparsify"
    pattern: str = Field(default="1x4", description="unstructured, 1xN or 1xN-fine with N in 2..32")
    sparsity: Fraction = Field(default=0.8, description="fraction of zeros among the weights of `base`")
    base: Literal["conv_linear", "selected"] = Field(
        default="conv_linear", description="all convolution and linear weights, or only those of the layers pruned"
    )
    criterion: str = "magnitude"
    allocation: str = "uniform"
    remainder: Literal["short", "dense"] = Field(default="short", description="filters beyond a multiple of N")
    include_first: bool = False
    include_depthwise: bool = False
    include_classifier: bool = False
    exclude: tuple[str, ...] = Field(default=(), description="layer names or globs such as layer4.*")
    levels: dict[str, Fraction] = Field(default_factory=dict, description="given levels of single layers, by glob")
    cap: Annotated[float, Field(gt=0.0, le=1.0)] = Field(default=0.99, description="the most that one layer may lose")
    schedule: Schedule = Field(default_factory=AgpEpochs)
    training: Training = Training()
    distillation: Distillation | None = None


class FinetuneStage(Section):
    """Train the kept weights; the masks stay as they are."""

    stage: Literal["finetune"] = "finetune"
    training: Training = Training()
    distillation: Distillation | None = None


class ExportStage(Section):
    """Write ONNX and compact weights, and check that they are the same function."""

    stage: Literal["export"] = "export"
    batch: Literal["dynamic"] | Positive = "dynamic"
    opset: Annotated[int, Field(ge=18, le=30)] = 18
    check_images: Positive = Field(default=64, description="real images on which torch and ONNX Runtime must agree")


class BenchmarkStage(Section):
    """Time the compressed and the dense network side by side, runtime by runtime."""

    stage: Literal["benchmark"] = "benchmark"
    runtimes: tuple[str, ...] = Field(default=(), description="by default every runtime that is installed here")
    batches: tuple[Positive, ...] = (1,)
    threads: tuple[Positive, ...] = Field(default=(), description="by default one, and all cores")
    repeats: Positive = Field(default=100, description="timed runs of each candidate, interleaved")
    warmup: Annotated[int, Field(ge=0)] = 20
    max_seconds: Annotated[float, Field(gt=0.0)] = Field(
        default=30.0, description="time limit of one batch and thread count"
    )
    accuracy_images: Annotated[int, Field(ge=0)] = Field(
        default=512, description="test images on which every runtime's accuracy is measured; 0 skips it"
    )


class ReportStage(Section):
    """Write report.html, .md, .json and the tables."""

    stage: Literal["report"] = "report"
    title: str | None = None


Stage = Annotated[
    TrainStage | EvaluateStage | SparsifyStage | FinetuneStage | ExportStage | BenchmarkStage | ReportStage,
    Field(discriminator="stage"),
]


class Recipe(Section):
    """A model, images, and the stages that turn the one into something smaller."""

    version: Literal[1] = 1
    model: Model
    data: Data = Data()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
