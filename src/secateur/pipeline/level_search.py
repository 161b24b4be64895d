"""Allocation `ddpg`: levels of weight sparsity found by trying tables.

    table -> masks of the part's criterion -> every layer fitted to the dense outputs -> short fine-tuning -> accuracy

Source: PocketFlow (weight sparsification with DDPG).
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur import zoo
from secateur.errors import RecipeError
from secateur.pipeline.context import Context
from secateur.pipeline.judge import Judge, check_images
from secateur.pipeline.parts import SEARCHED, given_levels, parts_of, plan_of
from secateur.pipeline.schedules import BY_THRESHOLD
from secateur.pipeline.scoring import scoring_of, statistics_for
from secateur.progress import say
from secateur.recipe import LevelSearch, SparsifyPart, SparsifyStage
from secateur.search import Found, LevelDecision, LevelProblem, check_learner, search
from secateur.sparsity import Sparsifier, layers_of, match_layers, parse_pattern
from secateur.training import distributed
from secateur.training.regression import regress_


def check_level_search(context: Context, stage: SparsifyStage) -> None:
    """raises RecipeError, SparsityError when a part asks for a search that cannot be made"""
    for part in parts_of(stage):
        if part.allocation != SEARCHED:
            if part.search is not None:
                raise RecipeError(
                    f"stage 'sparsify': search stands beside allocation: {part.allocation}, which searches nothing; "
                    f"write allocation: {SEARCHED}, or leave search out."
                )
            continue
        if isinstance(part.schedule, BY_THRESHOLD):
            raise RecipeError("stage 'sparsify': levels are searched or left to thresholds; not both.")
        if parse_pattern(part.pattern, part.remainder).fixed_level is not None:
            raise RecipeError(
                f"stage 'sparsify': {part.pattern} has one level, so that a search has nothing to choose."
            )
        refused = [key for key in ("hardware", "level_max_factor", "density_min_factor") if getattr(part, key)]
        if refused:
            raise RecipeError(
                f"stage 'sparsify': allocation {SEARCHED} knows no {refused[0]}; its levels are bounded by cap and "
                "floor."
            )
        check_learner(part.search or LevelSearch())
        check_images(context)
        level_problem(context, part)


def searched(context: Context, stage: SparsifyStage) -> tuple[SparsifyStage, list[dict[str, Any]]]:
    """The stage with the levels that its searches find, and a summary of each; parts without one are as before."""
    parts, summaries = list(parts_of(stage)), []
    for number, part in enumerate(parts):
        if part.allocation == SEARCHED:
            folder = context.stage_folder / ("search" if not stage.parts else f"search-{number + 1}")
            found = search_levels(context, part, folder)
            parts[number] = _with_levels(context, part, found.table)
            summaries.append(summary(found))
    if not stage.parts:
        return stage.model_copy(update={key: getattr(parts[0], key) for key in SparsifyPart.model_fields}), summaries
    return stage.model_copy(update={"parts": tuple(parts)}), summaries


def search_levels(context: Context, part: SparsifyPart, folder: Path) -> Found:
    """Search the levels of one part; the network is not changed. raises what searching and training raise."""
    settings = part.search or LevelSearch()
    problem = level_problem(context, part)
    judge = LevelJudge(context, part, folder)

    def accuracy(table: Mapping[str, float]) -> float:
        return judge.accuracy(_with_levels(context, part, table))

    distributed.barrier()
    found = search(
        problem,
        accuracy,
        folder,
        settings,
        seed=context.recipe.seed,
        depends_on=judge.depends_on() | {"part": part.model_dump(mode="json")},
        writes=distributed.is_main(),
    )
    say(f"search: {100 * found.best.accuracy:.2f} % held-out {settings.metric} in roll-out {found.best.number}")
    return found


class LevelJudge(Judge):
    """Judges parts that differ from `part` in their levels alone, however these come about.

    folder    of the search
    """

    def __init__(self, context: Context, part: SparsifyPart, folder: Path) -> None:
        self._levels = part.search or LevelSearch()
        super().__init__(context, self._levels, folder)
        self._scoring = scoring_of(part)
        self._statistics = statistics_for(context, self._scoring, part.statistics_images)
        self._dense = copy.deepcopy(context.network).eval()

    def accuracy(self, part: SparsifyPart) -> float:
        """Fraction of the held-out images, with the masks of the part's plan, fitted layers and a fine-tuning."""
        context, settings, seed = self.context, self._levels, self.context.recipe.seed
        network = copy.deepcopy(self._dense)
        plan = plan_of(context, part)
        keeper = Sparsifier(network, plan, None, self._scoring, seed, self._statistics, leader=part.leader)
        keeper.choose_(keeper.timing.first)
        batches = zoo.loader(
            self.images,
            "train",
            context.preprocessing,
            batch_size=distributed.share_of(settings.batch_size),
            seed=seed,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            workers=context.recipe.data.workers,
            limit=settings.regression.iterations * settings.batch_size,
        )
        regress_(
            network,
            self._dense,
            batches,
            layers=plan.levels,
            iterations=settings.regression.iterations,
            learning_rate=settings.regression.learning_rate,
        )
        return self.accuracy_of(network)


def level_problem(context: Context, part: SparsifyPart) -> LevelProblem:
    """The decisions of a part: the layers of its uniform plan that have no given level. raises SparsityError."""
    plan = plan_of(context, part)
    layers = layers_of(context.network)
    given = {name for glob in given_levels(context, part) for name in match_layers(layers, glob)}
    bound = min(part.cap, 1.0 - part.floor)
    decisions = tuple(
        LevelDecision(layer.name, layer.shape, plan.pattern.prunable(layer.filter_shape, layer.groups), bound)
        for layer in layers
        if layer.name in plan.levels and layer.name not in given
    )
    counted = sum(
        layer.weights
        for layer in layers
        if layer.name not in given and (part.base == "conv_linear" or layer.name in plan.levels)
    )
    total = sum(decision.weights for decision in decisions)
    target = plan.sparsity * counted / total if total else 0.0
    reward = (part.search or LevelSearch()).reward
    return LevelProblem(decisions, min(target, 1.0), reward, counted)


def _with_levels(context: Context, part: SparsifyPart, table: Mapping[str, float]) -> SparsifyPart:
    levels = {**given_levels(context, part), **table}
    listed = {"allocation": "listed", "levels": levels, "levels_file": None, "sparsity": None, "search": None}
    return part.model_copy(update=listed)


def summary(found: Found) -> dict[str, Any]:
    """Plain JSON for the result of a stage."""
    return {
        "rollouts": len(found.rollouts),
        "best": found.best.number,
        "accuracy": found.best.accuracy,
        "reward": found.best.reward,
        "table": found.table,
    }
