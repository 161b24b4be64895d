"""Distillation: learn from a teacher's outputs as well as from the labels.

    p = softmax(teacher / T)      q = softmax(student / T)
    kl               loss = task_weight * task + weight * T^2 * sum p (log p - log q)      (Distiller's form)
    cross_entropy    loss = task_weight * task + weight * -sum p log q                     (PocketFlow's form)

both as means over the batch. The factor T^2, which keeps the gradient's size the same at every temperature,
is part of the first form and not of the second, as in their sources; `square_temperature` says otherwise.

Source: Hinton, Vinyals & Dean 2015.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.recipe import Distillation


def soft_loss(student: Tensor, teacher: Tensor, config: Distillation) -> Tensor:
    """How far the student's outputs are from the teacher's, with the factor T^2 where it applies, unweighted.

    student, teacher    logits, (batch, classes)
    returns             scalar, mean over the batch
    raises              TrainingError  when the two networks have different outputs
    """
    if student.shape != teacher.shape:
        raise TrainingError(
            f"the student's output has shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}; "
            f"distillation needs networks with the same classes."
        )
    log_student = F.log_softmax(student / config.temperature, dim=1)
    log_teacher = F.log_softmax(teacher / config.temperature, dim=1)
    gap = log_teacher - log_student if config.form == "kl" else -log_student
    loss = (log_teacher.exp() * gap).sum(dim=1).mean()
    squared = config.form == "kl" if config.square_temperature is None else config.square_temperature
    return loss * config.temperature**2 if squared else loss


def distillation_loss(task: Tensor, student: Tensor, teacher: Tensor, config: Distillation) -> Tensor:
    """The loss to descend: the weighted sum of the labels' loss `task` and the teacher's."""
    return config.task_weight * task + config.weight * soft_loss(student, teacher, config)


def as_teacher(network: nn.Module) -> nn.Module:
    """A copy of `network` that only answers: evaluation mode, no gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def outputs_of(teacher: nn.Module, images: Tensor) -> Tensor:
    """The teacher's logits."""
    return teacher(images).float()
