"""One step of a tuning on unlabelled images, and one look at the held-out images."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.recipe import Tuning
from secateur.sparsity.memory_layout import with_layout
from secateur.training.answers import Answers
from secateur.training.distillation import soft_loss
from secateur.training.hooks import Hook, Scene
from secateur.training.methods.constrained_thresholds import ConstrainedThresholds
from secateur.training.norm_modes import only_norms_train_
from secateur.training.optimizer import clip_gradients_, set_learning_rate_
from secateur.training.reselection import Reselection
from secateur.training.tuning import TuneRow, apart, loss_form, rate_at
from secateur.training.tuning_state import Budget, TuneMemory

# Looking at the held-out images takes at most about this share of a time box.
LOOKING = 0.1


@dataclass(frozen=True)
class TuningRun:
    """What one tuning works with.

    layout    of the images
    follow    whether batch norms follow the batch
    """

    scene: Scene
    layout: torch.memory_format
    settings: Tuning
    follow: bool
    budget: Budget
    rule: Reselection | ConstrainedThresholds | None
    hooks: tuple[Hook, ...]
    answers: Answers
    looks: list[tuple[Tensor, Tensor]]
    folder: Path | None
    description: dict[str, Any]

    @property
    def model(self) -> nn.Module:
        """The network that learns."""
        return self.scene.model

    def step(self, memory: TuneMemory, share: float, images: Tensor) -> bool:
        """One step of the optimiser; returns whether its loss was a number. The weights stay when it was not."""
        settings, step = self.settings, memory.step
        if self.rule and (self.rule.ended or share >= settings.settle):
            self.rule.end()
        elif isinstance(self.rule, Reselection):
            next_one = settings.settle * (memory.selections + 1)
            if share * settings.selections >= next_one:
                self.rule.choose_()
                memory.selections += 1
        inputs = on_device(images, next(self.model.parameters()).device, self.layout)
        only_norms_train_(self.model, self.follow)
        rate = memory.rate * rate_at(settings, share, memory.since)
        set_learning_rate_(self.scene.optimizer, rate)
        loss = soft_loss(self.model(inputs).float(), self.answers(inputs), loss_form(settings))
        for hook in self.hooks:
            extra = hook.extra_loss(self.model, step)
            loss = loss if extra is None else loss + extra
        value = float(loss.detach())
        if not math.isfinite(value):
            return False
        self.scene.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for hook in self.hooks:
            hook.after_backward(step)
        clip_gradients_(self.model, settings.clip_gradient_norm)
        self.scene.optimizer.step()
        for hook in self.hooks:
            hook.after_step(step)
        memory.step, memory.loss_sum, memory.loss_steps = step + 1, memory.loss_sum + value, memory.loss_steps + 1
        return True

    @torch.no_grad()
    def look(self, memory: TuneMemory, share: float) -> TuneRow:
        """Compare with the teacher on the held-out images."""
        self.model.eval()
        form, far, same, images = loss_form(self.settings), 0.0, 0, 0
        for inputs, taught in self.looks:
            outputs = self.model(inputs).float()
            far += float(soft_loss(outputs, taught, form)) * len(inputs)
            same += int((outputs.argmax(1) == taught.argmax(1)).sum())
            images += len(inputs)
        settled = not isinstance(self.rule, ConstrainedThresholds) or self.rule.ended
        mean = memory.loss_sum / memory.loss_steps if memory.loss_steps else 0.0
        return TuneRow(memory.step, share, mean, far / images, 100 * same / images, settled, self.budget.spent)

    def look_due(self, memory: TuneMemory) -> bool:
        """Whether it is time to look again."""
        last = memory.rows[-1].share
        wait = apart(self.settings, last)
        if self.budget.seconds:
            wait = max(wait, self.budget.reserve / (LOOKING * self.budget.seconds))
        share = self.budget.share(memory.step)
        # A little less, so that rounding does not put a look off by a step.
        return share < 1.0 and share >= last + wait * (1.0 - 1e-6)


def on_device(images: Tensor, device: torch.device, layout: torch.memory_format) -> Tensor:
    """Images where and how the networks compute."""
    return with_layout(images.to(device, non_blocking=True), layout)
