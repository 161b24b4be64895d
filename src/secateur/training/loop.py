"""The training loop.

    every epoch    masks, where the schedule says so; all batches; test accuracy; history; checkpoint
    every batch    loss (labels, and the teacher's outputs where there is one), gradients, clipping, step

A run can be killed at any moment: the same call goes on from the last checkpoint and ends with the same
numbers, bit for bit on a CPU with the same number of threads. All that varies is derived from the place in
the run: the learning rate from the step, the images and their augmentation from (seed, epoch, image), dropout
from (seed, step, process)."""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from secateur.errors import DataError, TrainingError
from secateur.files import write_json
from secateur.progress import track
from secateur.recipe import Distillation, Training
from secateur.sparsity import MaskKeeper, layers_of
from secateur.sparsity.layers import weighted_modules
from secateur.training import distributed
from secateur.training.average import WeightAverage
from secateur.training.best import KeepBest
from secateur.training.checkpoint import Place, load_checkpoint_, save_checkpoint
from secateur.training.distillation import as_teacher, distillation_loss, outputs_of
from secateur.training.evaluate import accuracy_where_it_is, check_labels
from secateur.training.features import FeatureMatch
from secateur.training.history import History, Row, finite
from secateur.training.hooks import Hook, Scene
from secateur.training.learning_rate import learning_rate
from secateur.training.mask_updates import MaskUpdates
from secateur.training.optimizer import build_optimizer, clip_gradients_, frozen_biases, set_learning_rate_
from secateur.training.placement import moved, placed
from secateur.training.run import Run
from secateur.training.tensorboard import tensorboard_log
from secateur.zoo.image_data import ImageData
from secateur.zoo.preprocessing import Preprocessing

CHECKPOINT, HISTORY = "checkpoint.safetensors", "history.json"


def fit(
    model: nn.Module,
    data: ImageData,
    config: Training,
    *,
    folder: Path | str,
    preprocessing: Preprocessing,
    teacher: nn.Module | None = None,
    distillation: Distillation | None = None,
    sparsifier: MaskKeeper | Sequence[MaskKeeper] | None = None,
    hooks: Sequence[Hook] = (),
    seed: int = 0,
    name: str = "train",
    evaluate_each_epoch: bool = True,
    workers: int = 0,
    train_limit: int | None = None,
    test_limit: int | None = None,
) -> History:
    """Train `model` in place; a run that was interrupted, or is complete, goes on from its checkpoint.

    folder                 gets checkpoint.safetensors, history.json and tensorboard/; one folder a run
    teacher                with `distillation`: whom to learn from, by default the model as it is given
    sparsifier             chooses the masks again whenever its schedule is due; several have layers of their own
    hooks                  what else happens at every epoch and step, after the sparsifiers, in this order
    evaluate_each_epoch    otherwise only after the last one
    raises                 TrainingError  a loss not finite, a checkpoint damaged or of another run
                           DataError      no training images, or labels that the model has no output for
                           DiskError      a checkpoint that cannot be written; the one before it stays
    """
    distributed.start()
    if data.train is None:
        raise DataError(f"{data.name} has no training images.")
    if distillation is not None:
        teacher = as_teacher(model if teacher is None else teacher)
    elif teacher is not None:
        raise TrainingError("a teacher was given, but not how to learn from it: give a distillation too.")
    sparsifiers = (sparsifier,) if isinstance(sparsifier, MaskKeeper) else sparsifier or ()
    maps = (FeatureMatch(distillation.features),) if distillation is not None and distillation.features else ()
    choosing = (*map(MaskUpdates, sparsifiers), *hooks, *maps)
    every_hook = (*choosing, *_result_hooks(config, choosing))
    run = Run(
        model, data, config, Path(folder), preprocessing, teacher, distillation, every_hook, seed, name,
        evaluate_each_epoch, workers, train_limit, test_limit,
    )  # fmt: skip
    device = distributed.device()
    with contextlib.ExitStack() as stack:
        # The caller's random numbers are left as they are.
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        # The choice of cuDNN kernels by timing would make two equal runs differ.
        stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True))
        networks = filter(None, (model, teacher))
        layout = stack.enter_context(placed(networks, device, preprocessing.input_size))
        stack.enter_context(frozen_biases(model, config.freeze_bias))
        for hook in every_hook:
            stack.callback(hook.close)
        return _train(run, device, layout)


def _train(run: Run, device: torch.device, layout: torch.memory_format) -> History:
    optimizer = build_optimizer(run.model, run.config)
    steps = len(run.batches(0))
    if not steps:
        raise DataError(f"{run.data.name} has fewer training images than there are processes.")
    for hook in run.hooks:
        hook.begin(Scene(run.model, optimizer, run.teacher, run.config, steps, run.seed))
    description = json.loads(json.dumps(run.description()))
    path = run.folder / CHECKPOINT
    place = load_checkpoint_(path, run.model, optimizer, description, run.hooks)
    distributed.barrier()  # every process has read the file before the main one writes it again
    learner = run.model
    if distributed.started():
        learner = DistributedDataParallel(run.model, device_ids=[device] if device.type == "cuda" else None)

    def save(place: Place) -> None:
        if distributed.is_main():
            save_checkpoint(path, place, run.model, optimizer, description, run.hooks)

    with _log(run, place) as log:
        while place.epoch < run.config.epochs:
            if place.batch == 0:
                for hook in run.hooks:
                    hook.before_epoch(place.epoch)
            place = _train_epoch(run, learner, optimizer, place, steps, save, layout)
            if place.epoch + 1 == run.config.epochs:
                for hook in run.hooks:
                    hook.end()
            for hook in run.hooks:
                hook.before_evaluation(place.epoch)
            row = _finish_epoch(run, place, steps, layout)
            for hook in run.hooks:
                hook.after_epoch(row)
            log(row)
            history = History((*place.history.rows, row))
            done = place.epoch + 1
            place = Place(epoch=done, history=history, finished=done == run.config.epochs)
            save(place)
            distributed.barrier()
    if distributed.is_main():
        write_json(run.folder / HISTORY, place.history.to_dict())
    return place.history


def _train_epoch(
    run: Run,
    learner: nn.Module,
    optimizer: torch.optim.Optimizer,
    place: Place,
    steps: int,
    save: Callable[[Place], None],
    layout: torch.memory_format,
) -> Place:
    """The rest of an epoch, from `place` on. returns the place after its last batch."""
    config, device = run.config, next(learner.parameters()).device
    learner.train()
    saved = now = time.monotonic()
    with track(steps, f"{run.name} {place.epoch + 1}/{config.epochs}") as progress:
        progress.advance(place.batch)
        for images, labels in run.batches(place.epoch, place.batch):
            step = place.epoch * steps + place.batch
            rate = learning_rate(config, step, steps, place.history.rows)
            set_learning_rate_(optimizer, rate)
            torch.manual_seed(_noise_seed(run.seed, step, distributed.rank()))
            for hook in run.hooks:
                hook.before_step(step)

            inputs, targets = moved(images, labels, device, layout)
            with torch.autocast(device.type, torch.bfloat16, config.mixed_precision and device.type == "cuda"):
                outputs = learner(inputs).float()
                taught = None if run.teacher is None else outputs_of(run.teacher, inputs)
            check_labels(outputs, labels)
            loss = F.cross_entropy(outputs, targets, label_smoothing=config.label_smoothing)
            if taught is not None and run.distillation is not None:
                loss = distillation_loss(loss, outputs, taught, run.distillation)
            for hook in run.hooks:
                extra = hook.extra_loss(run.model, step)
                loss = loss if extra is None else loss + extra
            sums = _sums(loss, outputs, targets)
            if not math.isfinite(sums[0]):
                raise TrainingError(
                    f"the loss is {sums[0]} in epoch {place.epoch + 1}, batch {place.batch + 1} of {steps}, "
                    f"at learning rate {rate:g}; a lower one or clip_gradient_norm may help. "
                    f"The last checkpoint in {run.folder} is from before."
                )

            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for hook in run.hooks:
                hook.after_backward(step)
            clip_gradients_(run.model, config.clip_gradient_norm)
            optimizer.step()
            for hook in run.hooks:
                hook.after_step(step)

            before, now = now, time.monotonic()
            place = replace(
                place,
                batch=place.batch + 1,
                loss_sum=place.loss_sum + sums[0],
                correct=place.correct + round(sums[1]),
                images=place.images + round(sums[2]),
                seconds=place.seconds + now - before,
            )
            progress.advance(loss=place.loss_sum / place.images, top1=100 * place.correct / place.images)
            if now - saved >= config.checkpoint_seconds:
                save(place)
                saved = time.monotonic()
    return place


def _finish_epoch(run: Run, place: Place, steps: int, layout: torch.memory_format) -> Row:
    """Evaluate where that is wanted, and sum the epoch up."""
    started, accuracy = time.monotonic(), None
    run.model.eval()
    needed = run.config.keep != "last" or run.config.decay == "plateau"
    if run.evaluate_each_epoch or needed or place.epoch + 1 == run.config.epochs:
        accuracy = accuracy_where_it_is(
            run.model,
            run.data,
            run.preprocessing,
            layout,
            batch_size=max(256, distributed.share_of(run.config.batch_size)),
            limit=run.test_limit,
            workers=run.workers,
            name=f"{run.name} {place.epoch + 1}/{run.config.epochs} test",
        )
    row = Row(
        epoch=place.epoch,
        learning_rate=learning_rate(run.config, (place.epoch + 1) * steps - 1, steps, place.history.rows),
        loss=place.loss_sum / place.images,
        train_accuracy=100 * place.correct / place.images,
        top1=accuracy and accuracy.top1,
        top5=accuracy and accuracy.top5,
        test_loss=accuracy and finite(accuracy.loss),
        sparsity=_sparsity(run.model),
        seconds=place.seconds + time.monotonic() - started,
    )
    run.model.train()
    return row


def _result_hooks(config: Training, others: Sequence[Hook]) -> tuple[Hook, ...]:
    """What decides which weights are the result; the best epoch is found before the average steps aside."""
    best = () if config.keep == "last" else (KeepBest(config.keep, others),)
    return best if config.average_weights is None else (*best, WeightAverage(config.average_weights))


@torch.no_grad()
def _sums(loss: Tensor, outputs: Tensor, targets: Tensor) -> list[float]:
    """Loss, correct answers and images of one batch, over all processes."""
    images = torch.tensor(len(targets), device=targets.device)
    correct = (outputs.argmax(dim=1) == targets).sum()
    return distributed.sum_over_group(torch.stack([loss.double() * images, correct.double(), images.double()])).tolist()


@torch.no_grad()
def _sparsity(model: nn.Module) -> float:
    """Fraction of zeros among all convolution and linear weights, masks applied."""
    modules = weighted_modules(model)
    weights = [cast(Tensor, modules[layer.name].weight) for layer in layers_of(model)]
    total = sum(weight.numel() for weight in weights)
    return 1 - sum(int(torch.count_nonzero(weight)) for weight in weights) / total if total else 0.0


def _noise_seed(seed: int, step: int, rank: int) -> int:
    """Of the random numbers that the network itself draws (dropout) in one step on one process."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()[:8], "little") >> 1


def _log(run: Run, place: Place) -> contextlib.AbstractContextManager[Callable[[Row], None]]:
    if distributed.is_main():
        return tensorboard_log(run.folder, place.epoch)
    return contextlib.nullcontext(lambda row: None)
