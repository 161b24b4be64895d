"""The stages of a recipe, and the recipe itself."""

from typing import Annotated, Literal

from pydantic import Field

from secateur.recipe.schema.after_training import PosttrainingStage
from secateur.recipe.schema.base import Positive, Section
from secateur.recipe.schema.inputs import Data, Model
from secateur.recipe.schema.quantization import QuantizeStage
from secateur.recipe.schema.sparsify import (
    LevelsStage,
    RemoveBranchesStage,
    RemoveChannelsStage,
    SparsifyStage,
    ThinStage,
)
from secateur.recipe.schema.training import Distillation, Regularizer, Training


class TrainStage(Section):
    """Train the dense network."""

    stage: Literal["train"] = "train"
    regularize: tuple[Regularizer, ...] = ()
    training: Training = Training()
    distillation: Distillation | None = None


class EvaluateStage(Section):
    """Measure top-1 and top-5 on the test images."""

    stage: Literal["evaluate"] = "evaluate"


class FinetuneStage(Section):
    """Train the kept weights; the masks stay as they are."""

    stage: Literal["finetune"] = "finetune"
    regularize: tuple[Regularizer, ...] = ()
    training: Training = Training()
    distillation: Distillation | None = None


class ExportStage(Section):
    """Write ONNX and compact weights, and check that they are the same function."""

    stage: Literal["export"] = "export"
    batch: Literal["dynamic"] | Positive = "dynamic"
    opset: Annotated[int, Field(ge=18, le=30)] = 18
    check_images: Positive = Field(default=64, description="real images on which torch and ONNX Runtime must agree")
    tflite: bool = Field(
        default=False, description="TensorFlow Lite files too; needs Google's converter (pip install litert-torch)"
    )
    folder: str = Field(default="", pattern=r"^(levels/\d+(\.\d+)?)?$", description="of the run, for one level")


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
    TrainStage
    | EvaluateStage
    | SparsifyStage
    | LevelsStage
    | PosttrainingStage
    | RemoveChannelsStage
    | RemoveBranchesStage
    | ThinStage
    | FinetuneStage
    | QuantizeStage
    | ExportStage
    | BenchmarkStage
    | ReportStage,
    Field(discriminator="stage"),
]


class Recipe(Section):
    """A model, images, and the stages that turn the one into something smaller."""

    version: Literal[1] = 1
    model: Model
    data: Data = Data()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
