"""What a stage gets to work with, and the registry of stages.

    @stage_handlers.register("evaluate")
    def evaluate_stage(context: Context, stage: EvaluateStage) -> dict: ...

A handler changes `context.network` in place or writes into the run folder, and returns plain JSON. A new stage is one
file with one decorated function, and one section in the recipe's schema; one that trains or changes the network is
also named in run.py.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from secateur import zoo
from secateur.pipeline.network import build_images, build_network
from secateur.pipeline.record import StageRecord
from secateur.recipe import Distillation, Recipe
from secateur.registry import Registry

STAGES_FOLDER = "stages"

Handler = Callable[["Context", Any], dict[str, Any]]

stage_handlers: Registry[Handler] = Registry("stage")


@dataclass
class Context:
    """The state of a run while its stages go by.

    network          the network as the stages before have left it
    dense            a copy from before the first zeros; None as long as there are none
    stage_folder     where the current stage may keep files
    finished         the stages before the current one, with their results
    """

    recipe: Recipe
    folder: Path
    images: zoo.ImageData
    network: nn.Module
    dense: nn.Module | None = None
    stage_folder: Path = field(default_factory=Path)
    finished: tuple[StageRecord, ...] = ()

    @property
    def preprocessing(self) -> zoo.Preprocessing:
        return zoo.preprocessing_of(self.network)

    def keep_dense(self) -> None:
        """Remember the network as the dense baseline, if none is remembered yet."""
        if self.dense is None:
            self.dense = copy.deepcopy(self.network).eval()

    def teacher(self, distillation: Distillation | None) -> nn.Module | None:
        """Whom to learn from: the dense network, or another one that the recipe names."""
        if distillation is None:
            return None
        if distillation.teacher != "dense":
            return build_network(distillation.teacher, self.recipe.data, self.images, self.recipe.seed)
        return self.dense if self.dense is not None else copy.deepcopy(self.network).eval()

    @classmethod
    def of(cls, recipe: Recipe, folder: Path, images: zoo.ImageData | None = None) -> "Context":
        """The beginning of a run; `images` when they are at hand already.

        raises    DataError, ModelError, WeightsError
        """
        images = images or build_images(recipe.data)
        return cls(recipe, folder, images, build_network(recipe.model, recipe.data, images, recipe.seed))
