"""What follows the closed form, for torch networks: norms, units fitted by gradient, the whole network tuned."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from secateur.pipeline.posttraining.steps import Steps
from secateur.pipeline.posttraining.time_box import TimeBox
from secateur.posttraining.calibration import Calibration
from secateur.posttraining.descent import FitOptions
from secateur.posttraining.losses import Batches
from secateur.posttraining.norms_again import estimate_norms_again_
from secateur.posttraining.reconstruct import ReconstructOptions, reconstruct_
from secateur.posttraining.subject_torch import TorchSubject
from secateur.progress import say
from secateur.recipe.schema.after_training import Tuning
from secateur.recipe.schema.posttraining import GradientReconstruction
from secateur.sparsity import SparsityPlan, has_masks
from secateur.sparsity.draws import generator_for
from secateur.sparsity.norms import norm_modules
from secateur.training.cut_mix import cut_mixed
from secateur.training.tuning import adapted
from secateur.training.unlabeled import tune_

# Seconds of a time box that a tuning leaves for what follows it.
RESERVE = 5.0
# Steps of a tuning without any time box.
DEFAULT_STEPS = 2000


@dataclass(frozen=True)
class TuningJob:
    """What a tuning of the whole network works with.

    calibration    images that it learns from
    held_out       others, by which it is judged
    plans          of the zeros
    folder         keeps where it stands, so that a killed call goes on to the same numbers
    """

    config: Tuning
    calibration: Calibration
    held_out: Batches
    plans: Sequence[SparsityPlan]
    box: TimeBox
    folder: Path
    seed: int


def norms_(steps: Steps, batches: Batches) -> None:
    """Statistics of batch norms again, relative to the dense network; nothing where there are none."""
    if not norm_modules(steps.network):
        return
    steps.attempt("norm statistics", lambda: estimate_norms_again_(steps.network, batches(), dense=steps.dense), [])


def reconstruct_units_(
    steps: Steps,
    batches: Batches,
    config: GradientReconstruction,
    plans: Sequence[SparsityPlan],
    box: TimeBox,
    folder: Path,
    seed: int,
) -> None:
    """Units fitted by gradient; masks stay, or are chosen again at every step at the levels of the plans."""
    if not has_masks(steps.network):
        return
    seconds, options = box.grant("reconstruction", 0.5), options_of(config, seed)
    steps.attempt(
        f"{config.unit} reconstruction",
        lambda: reconstruct_(steps.network, steps.dense, batches, options, plans=plans, seconds=seconds, folder=folder),
        [config.model_dump(mode="json"), seconds, seed],
    )


def options_of(config: GradientReconstruction, seed: int) -> ReconstructOptions:
    """The section of a recipe as what `reconstruct_` takes."""
    memory = int(config.memory_gib * 2**30)
    return ReconstructOptions(config.unit, fit_of(config), config.inputs, config.mask, config.cache, memory, seed)


def fit_of(config: GradientReconstruction) -> FitOptions:
    """How each unit is fitted."""
    return FitOptions(
        steps=config.steps,
        learning_rate=config.learning_rate,
        relative=config.relative,
        bias_learning_rate=config.bias_learning_rate,
        decay=config.decay,
        stop_below=config.stop_below,
    )


def tune_network_(steps: Steps, job: TuningJob) -> dict[str, Any] | None:
    """Network-wise tuning in what is left of the time box; the rows of its history, None where there was none."""
    config, calibration = job.config, job.calibration
    if not has_masks(steps.network):
        return None
    boxes = [seconds for seconds in (config.seconds, job.box.grant("tuning", reserve=RESERVE)) if seconds is not None]
    if boxes and min(boxes) <= 0:
        say("posttraining: no time is left to tune the network")
        return None
    preprocessing = TorchSubject(steps.network).preprocessing
    rows: list[dict[str, Any]] = []

    def epoch_of(epoch: int) -> Any:
        images = calibration.batches(
            preprocessing, config.batch_size, augment=config.augment, seed=job.seed, epoch=epoch + 1
        )
        mixed = cut_mixed(images, config.mix, generator_for(job.seed, "mix", epoch))
        return _full(mixed, config.batch_size, len(calibration))

    def tune() -> None:
        history = tune_(
            steps.network,
            steps.dense,
            epoch_of,
            list(job.held_out()),
            adapted(config, steps.rows[-1]["distance"]),
            steps=config.steps if config.steps or boxes else DEFAULT_STEPS,
            seconds=min(boxes) if boxes else None,
            folder=job.folder,
            plan=job.plans[0] if len(job.plans) == 1 else None,
        )
        rows.extend(asdict(row) for row in history.rows)

    steps.attempt("tuning", tune)
    return {"rows": rows}


def _full(images: Any, batch_size: int, count: int) -> Any:
    """Without the last batch where it is a small rest: batch norms learn from whole batches."""
    for batch in images:
        if len(batch) * 2 >= min(batch_size, count):
            yield batch
