"""Zeros after training without a gradient: Gram matrices, levels, second-order masks and updates, corrections.

    dense inputs      Gram matrices of the dense network -> levels of every layer -> weights of every layer
    second pass       layer by layer in order of execution: W <- argmin |W X^ - W_dense X|, pruned again, where X^ is
                      what the layers before, which are pruned already, give, so that errors do not pile up
    corrections       statistics of batch norms, or biases where no batch norm follows

The second pass may end at any layer: those behind it keep what they had, and the network stays whole.

Source: Frantar & Alistarh 2022 (OBC); the order of the steps is our own design.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from secateur.graph.census import Census
from secateur.pipeline.posttraining.choices import Choice, Chosen, choose_levels, method_of, selection_of
from secateur.pipeline.posttraining.time_box import TimeBox
from secateur.posttraining import Gram, compress_layer
from secateur.posttraining.gathering import gather_grams
from secateur.posttraining.losses import Batches
from secateur.posttraining.output_statistics import bias_or_zero, output_mean
from secateur.posttraining.second_order import corrected_target
from secateur.posttraining.stitch import apply_
from secateur.posttraining.subject import Subject
from secateur.progress import say, track
from secateur.recipe.schema.after_training import PosttrainingStage
from secateur.sparsity import LayerSeconds

# Of a time box, what the second pass may take, measured from the beginning of the stage.
SECOND_PASS = 0.5


@dataclass(frozen=True)
class Facts:
    """What the subject itself does not know.

    census      of the dense network
    measure     pattern -> measured times of layers
    norms       layers whose output goes into a batch norm alone: its statistics take the shift, not the bias
    """

    census: Census | None = None
    measure: Callable[[str], LayerSeconds] | None = None
    norms: frozenset[str] = frozenset()


def sparsify_closed_form_(
    subject: Subject,
    dense: Subject,
    batches: Batches,
    stage: PosttrainingStage,
    folder: Path,
    box: TimeBox,
    facts: Facts,
    seed: int = 0,
) -> Chosen:
    """Make `subject`, which is still dense, sparse as `stage` says; masks hold the zeros.

    dense      the same network, which stays as it is
    folder     keeps Gram matrices and the database, so that a killed call goes on
    raises     PosttrainingError, SparsityError, RecipeError, DataError, DiskError
    """
    names = selection_of(dense.layers, stage).chosen
    grams = gather_grams(dense, batches, names, folder=folder / "grams", seed=seed)
    chosen = choose_levels(
        dense,
        subject,
        grams,
        batches,
        stage,
        folder / "database",
        census=facts.census,
        measure=facts.measure,
        seed=seed,
    )
    if chosen.stitched is not None and chosen.database is not None:
        apply_(subject, chosen.database, chosen.stitched)
    else:
        with track(len(chosen.choices), "layers") as progress:
            for name, choice in chosen.choices.items():
                if name in grams:
                    _compress_(subject, dense, name, choice, grams[name], grams[name], stage, name in facts.norms)
                progress.advance()
    if stage.second_pass:
        _second_pass_(subject, dense, batches, chosen.choices, grams, stage, box, facts, seed)
    return chosen


def _second_pass_(
    subject: Subject,
    dense: Subject,
    batches: Batches,
    choices: Mapping[str, Choice],
    grams: Mapping[str, Gram],
    stage: PosttrainingStage,
    box: TimeBox,
    facts: Facts,
    seed: int,
) -> None:
    order = [name for name in grams if name in choices]
    with track(len(order), "second pass") as progress:
        for number, name in enumerate(order):
            if box.budget is not None and box.spent > SECOND_PASS * box.budget:
                say(f"posttraining: the second pass ends after {number} of {len(order)} layers, for want of time")
                return
            fresh = gather_grams(subject, batches, [name], dense=dense, seed=seed)
            if name in fresh:
                _compress_(subject, dense, name, choices[name], fresh[name], grams[name], stage, name in facts.norms)
            progress.advance()


def _compress_(
    subject: Subject,
    dense: Subject,
    name: str,
    choice: Choice,
    inputs: Gram,
    dense_inputs: Gram,
    stage: PosttrainingStage,
    into_norm: bool,
) -> None:
    """One layer, for the inputs that it gets now."""
    weight = dense.weight(name)
    centered = inputs.centered()
    target = weight if centered.cross is None else corrected_target(weight, centered)
    found = compress_layer(target, centered, choice.pattern, [choice.level], method=method_of(stage))[0]
    bias: Tensor | None = None
    if stage.correct_bias and not into_norm:
        wanted = output_mean(weight, dense_inputs, name)
        bias = (wanted + bias_or_zero(dense, name, wanted) - output_mean(found.weight, inputs, name)).float()
    subject.store_(name, found.weight, bias, found.mask)
