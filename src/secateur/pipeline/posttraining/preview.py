"""What a stage `posttraining` may change, before anything is computed, and what it can be told to be impossible."""

import math
from collections.abc import Sequence

from secateur.errors import RecipeError, SparsityError
from secateur.graph.table import dims, text_table
from secateur.pipeline.posttraining.choices import one_level, patterns_of, selection_of, target_of
from secateur.pipeline.posttraining.choose_levels import given_levels
from secateur.recipe.schema.after_training import PosttrainingStage
from secateur.sparsity import NM, BlockOf, Layer, Pattern, Scoring


def check_posttraining(layers: Sequence[Layer], stage: PosttrainingStage) -> None:
    """Whether the stage can be carried out on a network of these layers, as far as it can be known beforehand.

    raises    SparsityError  patterns or layers that do not exist, no layer to change, too many zeros asked for
              RecipeError    keys that contradict each other
    """
    rules, chosen = patterns_of(stage), selection_of(layers, stage).chosen
    if not chosen:
        raise SparsityError(f"no layer can have the pattern {' or '.join(map(str, rules))}: all are left dense.")
    check_orders(stage)
    if stage.allocation != "database" and len(rules) > 1:
        raise RecipeError(f"allocation {stage.allocation} knows one pattern; several need allocation: database.")
    if stage.tuning is not None and stage.tuning.masks != "static" and len(rules) > 1:
        raise RecipeError(
            f"stage 'posttraining': a tuning with {stage.tuning.masks} masks chooses zeros of one pattern; "
            "with several, masks: static."
        )
    if stage.method == "magnitude":
        _check_scores(rules, stage)
    given_levels(layers, stage, target_of(stage).value)
    if one_level(stage) or stage.remaining or stage.levels_file is not None:
        return
    asked, weights = target_of(stage).value, {layer.name: math.prod(layer.shape) for layer in layers}
    counted = sum(weights.values()) if stage.base == "conv_linear" else sum(weights[name] for name in chosen)
    limit = min(stage.cap, 1.0 - stage.floor)
    reach = sum(min(limit * weights[layer.name], _most(layer, rules)) for layer in layers if layer.name in chosen)
    most = reach / counted
    if asked > most + 1e-9:
        raise SparsityError(
            f"{100 * asked:g} % zeros are asked for, but at most {100 * most:.2f} % of the weights (base {stage.base}) "
            f"can go from the {len(chosen)} layers that may lose any; include more layers or ask for less."
        )


def _most(layer: Layer, rules: Sequence[Pattern]) -> int:
    """Weights of a layer that the widest of the patterns that it may have can take."""
    shape, groups = layer.filter_shape, layer.groups
    return max(
        rule.prunable(shape, groups) if rule.fixed_level is None else rule.zeros(shape, rule.fixed_level, groups=groups)
        for rule in rules
        if not rule.applies(shape, groups, layer.kind)
    )


def _check_scores(rules: Sequence[Pattern], stage: PosttrainingStage) -> None:
    if len(rules) > 1:
        raise RecipeError("stage 'posttraining': method magnitude knows one pattern.")
    scoring = Scoring(stage.criterion)
    scoring.check(rules[0])
    if scoring.needs:
        raise RecipeError(
            f"stage 'posttraining': criterion {stage.criterion} looks at more than the weights; the masks of method "
            "magnitude go by scores of the weights alone, such as magnitude, l1, l2 or fpgm-l2."
        )


def check_orders(stage: PosttrainingStage) -> None:
    """Whether channels can be put in an order for the patterns. raises RecipeError"""
    if not (stage.permute or stage.rearrange):
        return
    kind = NM if stage.permute else BlockOf
    if not any(isinstance(rule, kind) for rule in patterns_of(stage)) or (stage.permute and stage.rearrange):
        raise RecipeError(
            "stage 'posttraining': permute is for N:M patterns such as 2:4, rearrange for 1xN patterns such as 1x4; "
            "a network has one order of its channels."
        )


def preview(layers: Sequence[Layer], stage: PosttrainingStage) -> str:
    """Every layer with the patterns that it may get, or the reason why it stays dense, and the target."""
    selection = selection_of(layers, stage)
    rows: list[tuple[str, ...]] = []
    for layer in layers:
        fitting = [
            str(rule) for rule in patterns_of(stage) if not rule.applies(layer.filter_shape, layer.groups, layer.kind)
        ]
        reason = selection.skipped.get(layer.name, "")
        pattern = "dense" if reason else ", ".join(fitting)
        rows.append((layer.name, layer.kind, dims(layer.shape), pattern, f"{math.prod(layer.shape):,}", reason))
    goal = "as many zeros as the pattern has" if one_level(stage) else f"target {target_of(stage)}"
    way = f"allocation {stage.allocation}, errors {stage.errors}"
    if stage.method == "magnitude":
        way = f"masks by {stage.criterion}, {_fitted(stage)}"
    box = "no time limit" if stage.budget is None else f"at most {stage.budget:g} s"
    return "\n".join(
        [
            text_table(("layer", "kind", "shape", "pattern", "weights", "remark"), rows, left=4),
            f"{goal}; {way}; {stage.images} images, {stage.held_out} more to judge by; {box}; "
            f"{'tuned afterwards' if stage.tuning is not None else 'no tuning'}",
        ]
    )


def _fitted(stage: PosttrainingStage) -> str:
    config = stage.reconstruction
    assert config is not None  # checked with the recipe
    steps = f"{config.steps:,} steps, rate {config.learning_rate:g}"
    if config.rounds:
        return f"{config.rounds} rounds of {steps} on everything"
    table = f", level by level {' '.join(f'{100 * level:g}' for level in config.table)} %" if config.table else ""
    return f"each {config.unit} by {steps}{table}, {config.inputs} inputs, masks {config.mask}"
