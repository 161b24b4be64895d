"""Tuning a sparse network on unlabelled images: it learns to answer like the dense one.

    loss = T^2 KL(softmax(teacher / T) || softmax(student / T))  +  distances of chosen maps  +  that of the mask rule

Everything but batch norms works as in evaluation, so there is no dropout, and equal steps give equal numbers. The
result is the network that was nearest to the teacher on held-out images, so that a run which ends early, or a rate that
is too high, leaves nothing worse than what it was given.

Source: the loss, the learned thresholds and the budget of FCPTS (fast and controllable post-training sparsity, 2024).
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterable
from itertools import chain, count
from pathlib import Path

import torch
from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.files import write_json
from secateur.progress import Tracker, say, track
from secateur.recipe import Tuning
from secateur.sparsity import SparsityPlan, has_masks, unwrapped
from secateur.training import distributed
from secateur.training.answers import Answers
from secateur.training.checkpoint import Place, digest_of, load_checkpoint_, save_checkpoint
from secateur.training.distillation import as_teacher
from secateur.training.features import FeatureMatch
from secateur.training.hooks import Hook, Scene
from secateur.training.methods.constrained_thresholds import ConstrainedThresholds
from secateur.training.norm_modes import norms_follow, norms_should_follow
from secateur.training.optimizer import build_optimizer
from secateur.training.placement import placed
from secateur.training.reselection import Reselection
from secateur.training.tuning import (
    TuneHistory,
    TuneRow,
    described,
    loss_form,
    lost,
    optimizer_form,
)
from secateur.training.tuning_run import TuningRun, on_device
from secateur.training.tuning_state import Budget, TuneMemory

CHECKPOINT, HISTORY = "tuning.safetensors", "tuning.json"
DEFAULT = Tuning()


def tune_(
    model: nn.Module,
    teacher: nn.Module,
    epochs_of: Callable[[int], Iterable[Tensor]],
    held_out: Iterable[Tensor],
    settings: Tuning = DEFAULT,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    folder: Path | str | None = None,
    plan: SparsityPlan | None = None,
    same_images: bool = False,
    name: str = "tune",
    on_progress: Callable[[TuneRow], None] | None = None,
) -> TuneHistory:
    """Tune `model`, which has masks, in place to answer like `teacher`, which stays as it is.

    epochs_of      epoch, from 0 -> its batches of prepared images; the same epoch gives the same batches
    held_out       batches of other images of the same kind, to choose the result by; kept in memory
    settings       its own steps and seconds are for whoever calls
    steps          optimiser steps of the budget
    seconds        time box, everything from this call on included, and what earlier starts of the run have used
    folder         gets a checkpoint, from which a run that was killed goes on, and the history as JSON
    plan           levels and pattern, where `settings.masks` is not static
    same_images    the images are the same in every epoch: the teacher answers each of them once
    on_progress    called with every look at the held-out images
    returns        the looks, and which of them is the result
    raises         TrainingError  no budget, no masks, no images, a checkpoint damaged or of another run
    """
    if steps is None and seconds is None:
        raise TrainingError("a tuning needs a budget: a number of steps, or of seconds.")
    budget, network = Budget(steps, seconds), unwrapped(model)
    rule = _mask_rule(network, settings, plan)
    maps = (FeatureMatch(settings.features),) if settings.features else ()
    hooks: tuple[Hook, ...] = (*((rule,) if rule else ()), *maps)
    description = {
        "settings": described(settings),
        "budget": {"steps": steps, "seconds": seconds},
        "student": digest_of(network),
        "teacher": digest_of(teacher),
        "plan": plan and plan.to_dict(),
        "same_images": same_images,
    }
    description = json.loads(json.dumps(description))
    guide, device = as_teacher(teacher), distributed.device()
    given = iter(held_out)
    first = next(given, None)
    if first is None:
        raise TrainingError("a tuning needs held-out images to choose its result by; none were given.")
    with contextlib.ExitStack() as stack:
        layout = stack.enter_context(placed((network, guide), device, first.shape[1:]))
        stack.enter_context(norms_follow(network, settings.norm_momentum))
        for hook in hooks:
            stack.callback(hook.close)
        optimizer = build_optimizer(network, optimizer_form(settings), relative=settings.optimizer == "adamw")
        scene = Scene(network, optimizer, guide, optimizer_form(settings), 1, 0)
        for hook in hooks:
            hook.begin(scene)
        answers = Answers(guide, same_images and not maps)
        if answers.remember:
            answers.learn(on_device(batch, device, layout) for batch in epochs_of(0))
        held = (on_device(batch, device, layout) for batch in chain((first,), given))
        looks = [(images, answers(images)) for images in held]
        follow = settings.norms == "train" or (settings.norms == "auto" and _follow(scene, epochs_of, settings, layout))
        where = Path(folder) if folder else None
        run = TuningRun(scene, layout, settings, follow, budget, rule, hooks, answers, looks, where, description)
        history = _tune(run, epochs_of, name, on_progress)
    if folder:
        write_json(Path(folder) / HISTORY, history.to_dict())
    return history


def _tune(
    run: TuningRun,
    epochs_of: Callable[[int], Iterable[Tensor]],
    name: str,
    on_progress: Callable[[TuneRow], None] | None,
) -> TuneHistory:
    memory, budget = TuneMemory(), run.budget
    every = (*run.hooks, memory)
    path = run.folder / CHECKPOINT if run.folder else None
    place = Place()
    if path:
        place = load_checkpoint_(path, run.model, run.scene.optimizer, run.description, every)
        budget.before += memory.spent

    def save(place: Place) -> None:
        if path:
            memory.spent = budget.spent
            save_checkpoint(path, place, run.model, run.scene.optimizer, run.description, every)

    def look(share: float) -> None:
        started = time.monotonic()
        row = run.look(memory, share)
        # The slowest look so far, and something for what is left to do behind it.
        budget.reserve = max(budget.reserve, 1.2 * (time.monotonic() - started))
        memory.add(row, run.model)
        if run.rule is None and memory.best and lost(row.held_out, memory.rows[memory.best_row].held_out):
            memory.back_(run.model, run.scene.optimizer, share)
            say(f"{name}: lost its way in {memory.step} steps; back to the best network, {memory.rate:.2g} of the rate")
        if on_progress:
            on_progress(row)

    if not memory.rows:
        look(0.0)
    saved, total = time.monotonic(), budget.steps or math.ceil(budget.seconds or 0)
    with track(total, name) as progress:
        shown = _show(progress, 0, memory, budget)
        for epoch in count(place.epoch) if not place.finished else ():
            met = 0
            for batch, images in enumerate(epochs_of(epoch)):
                met += 1
                if epoch == place.epoch and batch < place.batch:
                    continue
                share = budget.share(memory.step)
                if share >= 1.0:
                    break
                if not run.step(memory, share, images):
                    say(f"{name}: the loss is no number after {memory.step} steps; the best network so far stays.")
                    break
                if run.look_due(memory):
                    look(budget.share(memory.step))
                shown = _show(progress, shown, memory, budget)
                if time.monotonic() - saved >= run.settings.checkpoint_seconds:
                    save(Place(epoch, batch + 1))
                    saved = time.monotonic()
            else:
                if not met:
                    raise TrainingError(f"there are no images to tune on in epoch {epoch + 1}.")
                continue
            break
    if not place.finished:
        if run.rule:
            run.rule.end()
        look(1.0)
        if memory.best_row < 0:
            raise TrainingError("the outputs are not finite numbers, at the end as at the beginning of the tuning.")
        save(Place(finished=True))
    run.model.load_state_dict(memory.best)
    return TuneHistory(tuple(memory.rows), memory.best_row)


def _follow(
    scene: Scene, epochs_of: Callable[[int], Iterable[Tensor]], settings: Tuning, layout: torch.memory_format
) -> bool:
    """Whether batch norms follow the batch, judged by the first one."""
    first = next(iter(epochs_of(0)), None)
    if first is None or scene.teacher is None:
        return False
    images = on_device(first, next(scene.model.parameters()).device, layout)
    return norms_should_follow(scene.model, scene.teacher, images, loss_form(settings))


def _mask_rule(
    model: nn.Module, settings: Tuning, plan: SparsityPlan | None
) -> Reselection | ConstrainedThresholds | None:
    if settings.masks == "static":
        if not has_masks(model):
            raise TrainingError(
                "the network has no masks, so tuning would fill its zeros; attach_masks_ gives it some."
            )
        return None
    if plan is None:
        raise TrainingError(f"{settings.masks} masks need a plan: the pattern, and the level of every layer.")
    if settings.masks == "scheduled":
        return Reselection(plan)
    return ConstrainedThresholds(plan, settings.constraint, settings.squared_constraint, settings.threshold_rate)


def _show(progress: Tracker, shown: int, memory: TuneMemory, budget: Budget) -> int:
    """Bring the bar to where the run stands; returns that place."""
    now = memory.step if budget.steps else math.floor(min(budget.spent, budget.seconds or 0.0))
    if now > shown:
        last = memory.rows[-1]
        loss = memory.loss_sum / memory.loss_steps if memory.loss_steps else last.loss
        progress.advance(now - shown, loss=loss, held_out=last.held_out, agree=last.agreement)
    return max(now, shown)
