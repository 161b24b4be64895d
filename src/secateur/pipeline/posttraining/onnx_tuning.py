"""Tuning of an ONNX file: its torch twin learns to answer like that of the dense file, and is written back.

    zeros of the file -> masks of the twin -> tuning, kept where it brings it nearer -> weights and biases of the file

Batch norms that are left in a file keep their statistics, scales and shifts: files have them folded as a rule.
"""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from secateur.errors import RecipeError
from secateur.pipeline.posttraining.gradients import TuningJob, tune_network_
from secateur.pipeline.posttraining.onnx_twin import Twin, check_twin, twin_of
from secateur.pipeline.posttraining.steps import Steps
from secateur.posttraining.losses import Batches, Divergence
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.subject_torch import TorchSubject
from secateur.recipe import Tuning

# Images on which a file and its twin are compared.
COMPARED = 16


@dataclass(frozen=True)
class Tuned:
    """What came of it.

    steps    the rows of `Steps`
    rows     looks at the held-out images, None where there was no time
    """

    steps: list[dict[str, Any]]
    rows: dict[str, Any] | None


def check_tuning(config: Tuning) -> None:
    """Whether the twin of a file can be tuned so. raises RecipeError"""
    for key, fault in (
        ("norms", config.norms == "train"),
        ("masks", config.masks != "static"),
        ("features", bool(config.features)),
    ):
        if fault:
            raise RecipeError(
                f"tuning: an ONNX file cannot have {key}: {getattr(config, key)}; leave it out, or give the torch "
                "network with its weights instead."
            )


def checked_twin(subject: OnnxSubject, batches: Batches) -> Twin:
    """A file's twin that answers like it. raises PosttrainingError, ModelError, QuantizationError: there is none"""
    twin = twin_of(subject)
    check_twin(twin, subject, _few(batches))
    return twin


def tune_onnx_(
    subject: OnnxSubject,
    student: Twin,
    teacher: Twin,
    job: TuningJob,
) -> Tuned:
    """Tune `subject`, whose zeros stay, in what is left of the time box; it is as it was where that does not help.

    student   the twin of `subject` as it is, which is changed; `teacher` is that of the dense file
    raises    PosttrainingError, TrainingError, ArtifactError
    """
    network: Any = student.module
    network.preprocessing = subject.preprocessing
    own = TorchSubject(network)
    for name in student.names.values():
        weight = own.weight(name)
        if bool((weight == 0).any()):
            own.store_(name, weight, mask=weight != 0)
    distance = Divergence(TorchSubject(teacher.module, subject.preprocessing), job.held_out)
    distance.subject = own
    steps = Steps(network, teacher.module, distance, job.folder / "steps")
    steps.begin("closed form")
    settings = job.config.model_copy(update={"norms": "frozen"})
    tuned = tune_network_(steps, replace(job, config=settings, folder=job.folder / "tuning"))
    if tuned is not None and steps.rows[-1]["kept"]:
        _write_back_(subject, student, own)
        check_twin(student, subject, _few(job.held_out))
    return Tuned(steps.rows, tuned)


def _write_back_(subject: OnnxSubject, student: Twin, own: TorchSubject) -> None:
    for name, found in student.names.items():
        module: Any = student.module.get_submodule(found)
        trained = module.bias is not None and module.bias.requires_grad
        subject.store_(name, own.weight(found), own.bias(found) if trained else None)


def _few(batches: Batches) -> Tensor:
    return next(iter(batches()))[:COMPARED]
