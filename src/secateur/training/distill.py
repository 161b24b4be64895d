"""The verb `distill`: train a student on a teacher's answers."""

from pathlib import Path

from torch import nn

from secateur.recipe import Distillation, Training
from secateur.training.history import History
from secateur.training.loop import fit
from secateur.zoo.image_data import ImageData
from secateur.zoo.models import preprocessing_of
from secateur.zoo.preprocessing import Preprocessing


def distill(
    student: nn.Module,
    teacher: nn.Module,
    data: ImageData,
    config: Training | None = None,
    *,
    folder: Path | str,
    distillation: Distillation | None = None,
    preprocessing: Preprocessing | None = None,
    seed: int = 0,
    name: str = "distill",
) -> History:
    """Train `student` in place to answer like `teacher`, which stays as it is; resumable like `fit`.

    config, distillation    by default those of a recipe that says nothing: 10 epochs, kl at temperature 4
    preprocessing           by default the student's own; both networks see the same images
    raises                  as `fit`; ModelError when the student has no preprocessing and none is given
    """
    return fit(
        student,
        data,
        config or Training.model_validate({}),
        folder=folder,
        preprocessing=preprocessing or preprocessing_of(student),
        teacher=teacher,
        distillation=distillation or Distillation.model_validate({}),
        seed=seed,
        name=name,
    )
