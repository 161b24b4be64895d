"""What becomes of every layer: its pattern and level, or the reason why it stays dense."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secateur.errors import PosttrainingError, RecipeError
from secateur.posttraining.database import Database
from secateur.posttraining.second_order import Method
from secateur.posttraining.stitched import Stitched
from secateur.posttraining.subject import Subject
from secateur.posttraining.target import Target
from secateur.recipe.schema.after_training import PosttrainingStage
from secateur.sparsity import (
    Layer,
    Pattern,
    PlannedLayer,
    Selection,
    SparsityPlan,
    parse_pattern,
)
from secateur.sparsity.selection import select_layers

DEFAULT_SPARSITY = 0.5


@dataclass(frozen=True)
class Choice:
    """What one layer gets."""

    pattern: Pattern
    level: float


@dataclass(frozen=True)
class Chosen:
    """What all layers get.

    choices     layer -> pattern and level; a layer that is not there stays dense
    skipped     layer -> why it stays dense
    stitched    of allocation `database`
    database    the same
    """

    choices: Mapping[str, Choice]
    skipped: Mapping[str, str]
    stitched: Stitched | None = None
    database: Database | None = None


def patterns_of(stage: PosttrainingStage) -> tuple[Pattern, ...]:
    """The patterns of a stage. raises SparsityError for one that does not exist."""
    return tuple(parse_pattern(spec) for spec in stage.patterns)


def one_level(stage: PosttrainingStage) -> bool:
    """Whether the patterns say themselves how many zeros there are: 2:4 and nothing else, without a target."""
    fixed = all(rule.fixed_level is not None for rule in patterns_of(stage))
    return fixed and stage.sparsity is None and not stage.remaining


def selection_of(layers: Sequence[Layer], stage: PosttrainingStage) -> Selection:
    """The layers that may lose weights, and why others may not. raises SparsityError."""
    selections = [
        select_layers(
            layers,
            rule,
            include_first=stage.include_first,
            include_depthwise=stage.include_depthwise,
            include_classifier=stage.include_classifier,
            only=stage.layers,
            exclude=stage.exclude,
            exclude_kinds=stage.exclude_kinds,
        )
        for rule in patterns_of(stage)
    ]
    chosen = {name for selection in selections for name in selection.chosen}
    skipped = {name: reason for name, reason in selections[0].skipped.items() if name not in chosen}
    transposed = {layer.name for layer in layers if layer.kind == "conv_transpose"}
    skipped |= dict.fromkeys(chosen & transposed, "a transposed convolution has no Gram matrix")
    return Selection(tuple(layer.name for layer in layers if layer.name in chosen - transposed), skipped)


def selection_for(subject: Subject, stage: PosttrainingStage) -> Selection:
    """The same, without layers that share a weight and walk over their inputs differently: they have no Gram matrix."""
    selection, skipped = selection_of(subject.layers, stage), dict[str, str]()
    for name in selection.chosen:
        try:
            subject.geometry(name)
        except PosttrainingError as error:
            skipped[name] = str(error).removeprefix(f"{name}: ").rstrip(".")
    chosen = tuple(name for name in selection.chosen if name not in skipped)
    return Selection(chosen, selection.skipped | skipped)


def method_of(stage: PosttrainingStage) -> Method:
    """The way of the second order. raises RecipeError where the stage goes by magnitude."""
    if stage.method == "magnitude":
        raise RecipeError("stage 'posttraining': method magnitude has no second order.")
    return stage.method


def target_of(stage: PosttrainingStage) -> Target:
    """The target as the database knows it."""
    for kind, share in stage.remaining.items():
        return Target(kind, share, relative=True)
    table = stage.reconstruction.table if stage.reconstruction is not None else ()
    asked = table[-1] if table else stage.sparsity
    return Target("sparsity", DEFAULT_SPARSITY if asked is None else asked, base=stage.base)


def plans_for(subject: Subject, chosen: Chosen, stage: PosttrainingStage) -> tuple[SparsityPlan, ...]:
    """What was done, one plan for each pattern in use, zeros counted in the network as it is now."""
    patterns = dict.fromkeys(choice.pattern for choice in chosen.choices.values())
    allocation = "uniform" if one_level(stage) else stage.allocation
    plans: list[SparsityPlan] = []
    for pattern in patterns:
        layers = tuple(_planned(subject, layer, pattern, chosen) for layer in subject.layers)
        zeros, total = sum(layer.zeros for layer in layers), sum(math.prod(layer.shape) for layer in layers)
        plans.append(
            SparsityPlan(zeros / total, stage.base, pattern, "second_order", allocation, "floor", "exact", layers)
        )
    return tuple(plans)


def _planned(subject: Subject, layer: Layer, pattern: Pattern, chosen: Chosen) -> PlannedLayer:
    facts = (layer.name, layer.kind, layer.shape, layer.groups)
    choice = chosen.choices.get(layer.name)
    if choice is None:
        return PlannedLayer(*facts, None, 0, 0, chosen.skipped.get(layer.name, "dense costs least error"))
    if choice.pattern != pattern:
        return PlannedLayer(*facts, None, 0, 0, f"has the pattern {choice.pattern}")
    units = pattern.units(layer.filter_shape, layer.groups)
    return PlannedLayer(*facts, choice.level, units, int((subject.weight(layer.name) == 0).sum()))
