"""Masks by magnitude, weights by gradient: the published protocols, to be compared with.

MSBench      levels of a table one after the other; after each, unit after unit is fitted
AdaPrune     rounds of pruning and fitting everything together
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from secateur.errors import RecipeError
from secateur.pipeline.posttraining.choices import patterns_of, target_of
from secateur.pipeline.posttraining.gradients import fit_of, options_of
from secateur.pipeline.posttraining.time_box import TimeBox
from secateur.posttraining.adaprune import AdaPruneOptions, adaprune_
from secateur.posttraining.losses import Batches
from secateur.posttraining.progressive import progressive_
from secateur.recipe.schema.after_training import PosttrainingStage
from secateur.sparsity import AllocationOptions, SparsityPlan, plan_sparsity


def sparsify_by_magnitude_(
    network: nn.Module,
    dense: nn.Module,
    batches: Batches,
    stage: PosttrainingStage,
    folder: Path,
    box: TimeBox,
    seed: int,
) -> SparsityPlan:
    """Carry out a stage with `method: magnitude`; masks are attached. raises as the verbs, RecipeError"""
    config = stage.reconstruction
    assert config is not None  # checked with the recipe
    planner, seconds = planner_of(stage), box.grant("reconstruction", 0.5 if stage.tuning is not None else 1.0)
    target = target_of(stage).value
    if config.rounds:
        rounds = AdaPruneOptions(rounds=config.rounds, unit=config.unit, fit=fit_of(config), seed=seed)
        adaprune_(network, dense, batches, target, rounds, plan=planner, seconds=seconds, folder=folder)
        return planner(dense, target)
    table: Sequence[float] = config.table or (target,)
    levels = progressive_(
        network, dense, batches, table, options_of(config, seed), plan=planner, seconds=seconds, folder=folder
    )
    return levels[-1].plan


def planner_of(stage: PosttrainingStage) -> Callable[[nn.Module, float], SparsityPlan]:
    """(network, sparsity) -> level or reason for every layer. raises RecipeError."""
    rule, *more = patterns_of(stage)
    if more:
        raise RecipeError("stage 'posttraining': method magnitude knows one pattern.")
    allocation = "uniform" if stage.allocation == "database" else stage.allocation
    fixed = rule.fixed_level is not None

    def plan(network: nn.Module, sparsity: float) -> SparsityPlan:
        return plan_sparsity(
            network,
            None if fixed else sparsity,
            rule,
            "magnitude",
            allocation,
            stage.base,
            include_first=stage.include_first,
            include_depthwise=stage.include_depthwise,
            include_classifier=stage.include_classifier,
            only=stage.layers,
            exclude=stage.exclude,
            exclude_kinds=stage.exclude_kinds,
            options=AllocationOptions(cap=stage.cap, floor=stage.floor),
        )

    return plan
