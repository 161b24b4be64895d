"""Masks by magnitude, weights by gradient: the published protocols, to be compared with.

MSBench      levels of a table one after the other; at each, masks, weights and biases corrected if that is asked for,
             and then unit after unit is fitted
AdaPrune     rounds of pruning and fitting everything together
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from secateur.errors import RecipeError
from secateur.pipeline.posttraining.choices import patterns_of, target_of
from secateur.pipeline.posttraining.choose_levels import allocation_options, given_levels
from secateur.pipeline.posttraining.gradients import fit_of, options_of
from secateur.pipeline.posttraining.time_box import TimeBox
from secateur.posttraining.adaprune import AdaPruneOptions, adaprune_
from secateur.posttraining.losses import Batches
from secateur.posttraining.mean_shift import shift_means_
from secateur.posttraining.progressive import Level, progressive_
from secateur.posttraining.weight_correction import correct_weights_
from secateur.recipe.schema.after_training import PosttrainingStage
from secateur.sparsity import SparsityPlan, layers_of, plan_sparsity
from secateur.sparsity.norms import following_norms


def sparsify_by_magnitude_(
    network: nn.Module,
    dense: nn.Module,
    batches: Batches,
    stage: PosttrainingStage,
    folder: Path,
    box: TimeBox,
    seed: int,
    after: Callable[[Level], None] | None = None,
) -> SparsityPlan:
    """Carry out a stage with `method: magnitude`; masks are attached.

    batches    of the size that weights are fitted with
    after      called at every level, with the network as it then is
    raises     as the verbs, RecipeError
    """
    config = stage.reconstruction
    assert config is not None  # checked with the recipe
    planner, seconds = planner_of(stage), box.grant("reconstruction", 0.5 if stage.tuning is not None else 1.0)
    target = target_of(stage).value
    if config.rounds:
        rounds = AdaPruneOptions(rounds=config.rounds, unit=config.unit, fit=fit_of(config), seed=seed)
        adaprune_(network, dense, batches, target, rounds, plan=planner, seconds=seconds, folder=folder)
        return planner(dense, target)
    norms = following_norms(network)

    def correct(plan: SparsityPlan) -> None:
        names = list(plan.levels)
        if stage.correct_weights is not None:
            correct_weights_(network, names, stage.correct_weights)
        if stage.correct_bias:
            shift_means_(network, dense, batches, names, norms=norms)

    table: Sequence[float] = config.table or (target,)
    levels = progressive_(
        network,
        dense,
        batches,
        table,
        options_of(config, seed),
        plan=planner,
        correct=correct,
        after=after,
        seconds=seconds,
        folder=folder,
    )
    return levels[-1].plan


def planner_of(stage: PosttrainingStage) -> Callable[[nn.Module, float], SparsityPlan]:
    """(network, sparsity) -> level or reason for every layer. raises RecipeError."""
    rule, *more = patterns_of(stage)
    if more:
        raise RecipeError("stage 'posttraining': method magnitude knows one pattern.")
    allocation = "uniform" if stage.allocation == "database" else stage.allocation
    total = rule.fixed_level is None and allocation != "listed"

    def plan(network: nn.Module, sparsity: float) -> SparsityPlan:
        return plan_sparsity(
            network,
            sparsity if total else None,
            rule,
            stage.criterion,
            allocation,
            stage.base,
            include_first=stage.include_first,
            include_depthwise=stage.include_depthwise,
            include_classifier=stage.include_classifier,
            only=stage.layers,
            exclude=stage.exclude,
            exclude_kinds=stage.exclude_kinds,
            levels=given_levels(layers_of(network), stage, sparsity),
            options=allocation_options(stage),
            rounding=stage.rounding,
            ties=stage.ties,
        )

    return plan
