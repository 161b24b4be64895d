"""What a table of a search is worth: a short fine-tuning, then the accuracy on training images that it did not see.

    held out   training images by chance, a fifth of them at most; test images are never looked at
    training   the others, Adam at a constant rate, so many steps

A network whose loss is no number any more is worth 0, and a line says so.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from secateur import zoo
from secateur.errors import RecipeError, TrainingError
from secateur.pipeline.context import Context
from secateur.progress import say
from secateur.recipe import Search, Training
from secateur.training import distributed, evaluate, fit
from secateur.training.checkpoint import digest_of
from secateur.zoo.image_data import Images
from secateur.zoo.loader import spread

FOLDER = "finetuning"


class Chosen:
    """Some of the images of a split."""

    def __init__(self, images: Images, indices: np.ndarray) -> None:
        self._images, self._indices = images, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int, /) -> tuple[Image.Image, int]:
        return self._images[int(self._indices[index])]


def check_images(context: Context) -> None:
    """raises RecipeError when there are too few training images to hold some out"""
    train = context.images.train
    if train is None or min(len(train), context.recipe.data.train_limit or len(train)) < 5:
        raise RecipeError("a search judges tables on training images that it holds out, and there are too few.")


def held_out(images: zoo.ImageData, count: int, limit: int | None = None, seed: int = 0) -> zoo.ImageData:
    """Training images in two splits: the others to train with, and `count` of them, a fifth at most, to judge by.

    limit    so many training images, evenly spread, are all that there is
    """
    everything = images.split("train")
    indices = spread(len(everything), limit)
    # By chance: images may be sorted by class, or have their classes in turn.
    order = np.random.default_rng(seed).permutation(indices)
    judged = min(count, max(len(indices) // 5, 1))
    name = f"{images.name}, held out"
    parts = (Chosen(everything, np.sort(order[judged:])), Chosen(everything, np.sort(order[:judged])))
    return zoo.ImageData(name, *parts, images.classes, images.flip)


class Judge:
    """Judges networks for one search.

    folder    of the search; a training keeps its checkpoint there while it lasts
    """

    def __init__(self, context: Context, settings: Search, folder: Path) -> None:
        check_images(context)
        self.context, self._settings, self._folder = context, settings, folder / FOLDER
        self.images = held_out(context.images, settings.images, context.recipe.data.train_limit, context.recipe.seed)

    def accuracy_of(self, network: nn.Module) -> float:
        """Fraction of the held-out images after the fine-tuning of `network`, which is changed."""
        settings, context = self._settings, self.context
        preprocessing, workers = context.preprocessing, context.recipe.data.workers
        if not settings.iterations:
            result: Any = evaluate(network, self.images, preprocessing, workers=workers)
            return getattr(result, settings.metric) / 100
        self._clear()
        epochs, limit = shared_out(settings.iterations, settings.batch_size, len(self.images.split("train")))
        training = Training(
            epochs=epochs,
            batch_size=settings.batch_size,
            optimizer="adamw",
            learning_rate=settings.learning_rate,
            weight_decay=0.0,
            decay="constant",
            checkpoint_seconds=1e9,
        )
        try:
            history = fit(
                network,
                self.images,
                training,
                folder=self._folder,
                preprocessing=preprocessing,
                seed=context.recipe.seed,
                name="search",
                evaluate_each_epoch=False,
                workers=workers,
                train_limit=limit,
            )
        except TrainingError as error:
            say(f"search: a table counts as accuracy 0: {error}")
            return 0.0
        finally:
            self._clear()
        return getattr(history.rows[-1], settings.metric) / 100

    def depends_on(self) -> dict[str, Any]:
        """Plain JSON: what the accuracies depend on beside the tables."""
        context = self.context
        return {
            "network": digest_of(context.network),
            "preprocessing": context.preprocessing.to_dict(),
            "images": [self.images.name, *(len(self.images.split(name)) for name in ("train", "test"))],
            "settings": self._settings.model_dump(mode="json"),
        }

    def _clear(self) -> None:
        distributed.barrier()
        if distributed.is_main() and self._folder.exists():
            shutil.rmtree(self._folder)
        distributed.barrier()


def shared_out(iterations: int, batch_size: int, images: int) -> tuple[int, int]:
    """(epochs, images of each) that make so many steps; less than one more for each epoch."""
    epochs = -(-iterations // -(-images // batch_size))
    return epochs, min(-(-iterations // epochs) * batch_size, images)
