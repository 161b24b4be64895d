"""The recipe: what to do, as data.

A recipe names a model, a data set and a list of stages that run in order. Every key has a default that a careful
user would choose; unknown keys are errors. Words are those of the field and mean the same everywhere (see
docs/vocabulary.md): sparsity is a fraction of zeros, `base` says among which weights.
"""

from secateur.recipe.schema.after_training import PosttrainingStage, Tuning
from secateur.recipe.schema.base import Section
from secateur.recipe.schema.inputs import Data, Model
from secateur.recipe.schema.methods import Admm, Method, ProbMask, Str
from secateur.recipe.schema.posttraining import GradientReconstruction
from secateur.recipe.schema.quantization import LearnedRounding, MixedPrecision, QuantizeStage
from secateur.recipe.schema.quantization_training import LayerBits, QuantizationTraining
from secateur.recipe.schema.schedules import (
    AcDc,
    AgpEpochs,
    AgpIterations,
    Baidu,
    FixedLevels,
    MaskRule,
    OneShot,
    Ramp,
    RandomLevel,
    RigL,
    Schedule,
    Splice,
    Thresholds,
)
from secateur.recipe.schema.search import ChannelSearch, LevelSearch, Search
from secateur.recipe.schema.sparsify import (
    LevelsStage,
    RemoveBranchesStage,
    RemoveChannelsStage,
    SparsifyPart,
    SparsifyStage,
    ThinStage,
)
from secateur.recipe.schema.stages import (
    BenchmarkStage,
    EvaluateStage,
    ExportStage,
    FinetuneStage,
    Recipe,
    ReportStage,
    Stage,
    TrainStage,
)
from secateur.recipe.schema.training import Distillation, Regression, Regularizer, Training

__all__ = [
    "AcDc",
    "Admm",
    "AgpEpochs",
    "AgpIterations",
    "Baidu",
    "BenchmarkStage",
    "ChannelSearch",
    "Data",
    "Distillation",
    "EvaluateStage",
    "ExportStage",
    "FinetuneStage",
    "FixedLevels",
    "GradientReconstruction",
    "LayerBits",
    "LearnedRounding",
    "LevelSearch",
    "LevelsStage",
    "MaskRule",
    "Method",
    "MixedPrecision",
    "Model",
    "OneShot",
    "PosttrainingStage",
    "ProbMask",
    "QuantizationTraining",
    "QuantizeStage",
    "Ramp",
    "RandomLevel",
    "Recipe",
    "Regression",
    "Regularizer",
    "RemoveBranchesStage",
    "RemoveChannelsStage",
    "ReportStage",
    "RigL",
    "Schedule",
    "Search",
    "Section",
    "SparsifyPart",
    "SparsifyStage",
    "Splice",
    "Stage",
    "Str",
    "ThinStage",
    "Thresholds",
    "TrainStage",
    "Training",
    "Tuning",
]
