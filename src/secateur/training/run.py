"""The arguments of a training, and what its numbers depend on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from secateur.recipe import Distillation, Training
from secateur.training import distributed
from secateur.training.checkpoint import digest_of
from secateur.training.hooks import Hook, described
from secateur.zoo.image_data import ImageData
from secateur.zoo.loader import loader
from secateur.zoo.preprocessing import Preprocessing


@dataclass(frozen=True)
class Run:
    """The arguments of `fit`."""

    model: nn.Module
    data: ImageData
    config: Training
    folder: Path
    preprocessing: Preprocessing
    teacher: nn.Module | None
    distillation: Distillation | None
    hooks: tuple[Hook, ...]
    seed: int
    name: str
    evaluate_each_epoch: bool
    workers: int
    train_limit: int | None
    test_limit: int | None

    def batches(self, epoch: int, skip: int = 0) -> Any:
        """This process's share of the training images of one epoch, without the first `skip` batches."""
        return loader(
            self.data,
            "train",
            self.preprocessing,
            batch_size=distributed.share_of(self.config.batch_size),
            augment=self.config.augment,
            seed=self.seed,
            epoch=epoch,
            skip_batches=skip,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            workers=self.workers,
            limit=self.train_limit,
        )

    def description(self) -> dict[str, Any]:
        """All that the numbers of this run depend on, except the starting weights and the machine."""
        return {
            "config": self.config.model_dump(mode="json", exclude={"checkpoint_seconds"}),
            "distillation": self.distillation and self.distillation.model_dump(mode="json"),
            "teacher": self.teacher and digest_of(self.teacher),
            "hooks": described(self.hooks),
            "seed": self.seed,
            "data": self.data.name,
            "preprocessing": self.preprocessing.to_dict(),
            "train_limit": self.train_limit,
            "test_limit": self.test_limit,
            "evaluate_each_epoch": self.evaluate_each_epoch,
        }
