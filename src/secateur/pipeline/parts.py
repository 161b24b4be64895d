"""The parts of a sparsify stage: a plan for each, and who chooses its masks."""

from secateur import sparsity
from secateur.errors import RecipeError
from secateur.pipeline.context import Context
from secateur.pipeline.schedules import BY_THRESHOLD, schedule_of, thresholds_of
from secateur.pipeline.scoring import scoring_of, statistics_for
from secateur.recipe import RandomLevel, SparsifyPart, SparsifyStage, Thresholds, Training
from secateur.sparsity import (
    AllocationOptions,
    MaskKeeper,
    Sparsifier,
    SparsityPlan,
    ThresholdSparsifier,
    parse_pattern,
)
from secateur.sparsity.parts import as_part, check_disjoint

DEFAULT_SPARSITY = 0.8
# The allocation whose levels a search finds; before it has, plans show uniform ones.
SEARCHED = "ddpg"


def parts_of(stage: SparsifyStage) -> tuple[SparsifyPart, ...]:
    """The parts of a stage; a stage without any is its own."""
    return stage.parts or (stage,)


def plans_of(context: Context, stage: SparsifyStage) -> tuple[SparsityPlan, ...]:
    """A plan for every part; nothing is changed.

    raises    SparsityError  a target out of reach, a glob that matches nothing, a layer in two parts
              RecipeError    keys that contradict each other
    """
    if not stage.parts:
        return (plan_of(context, stage),)
    plans = tuple(as_part(plan_of(context, part)) for part in stage.parts)
    check_disjoint(plans)
    return plans


def plan_of(context: Context, part: SparsifyPart) -> SparsityPlan:
    """Level or reason for every layer of the network; nothing is changed. raises SparsityError, RecipeError."""
    by_threshold = isinstance(part.schedule, BY_THRESHOLD)
    levels, only = given_levels(context, part), part.layers
    if by_threshold:
        # Whoever is named beside `*` is meant, also the first convolution and the classifier.
        globs = _threshold_globs(part)
        levels = {glob: 0.0 for glob in globs if glob != "*"}
        only = only or (() if "*" in globs or not globs else tuple(globs))
    return sparsity.plan_sparsity(
        context.network,
        0.0 if by_threshold else _target(part),
        part.pattern,
        part.criterion,
        "uniform" if by_threshold or part.allocation == SEARCHED else part.allocation,
        part.base,
        remainder=part.remainder,
        include_first=part.include_first,
        include_depthwise=part.include_depthwise,
        include_classifier=part.include_classifier,
        only=only,
        exclude=part.exclude,
        exclude_kinds=part.exclude_kinds,
        levels=levels,
        options=AllocationOptions(
            cap=part.cap,
            floor=part.floor,
            level_max_factor=part.level_max_factor,
            density_min_factor=part.density_min_factor,
            tolerance=part.tolerance,
            power=part.power,
            tuning=part.tuning,
            decay=part.decay,
            sensitivity=None if part.sensitivity is None else sparsity.SensitivityTable.read(part.sensitivity),
            bound=part.bound,
        ),
        hardware=None if part.hardware is None else sparsity.LayerSeconds.read(part.hardware),
        rounding=part.rounding,
        ties=part.ties,
    )


def given_levels(context: Context, part: SparsifyPart) -> dict[str, float]:
    """Layer or glob -> level that the part gives itself, in its keys or a file. raises SparsityError."""
    if part.levels_file is None:
        return dict(part.levels)
    names = [layer.name for layer in sparsity.layers_of(context.network)]
    return sparsity.read_levels(part.levels_file, names, target=part.sparsity) | part.levels


def keeper_of(context: Context, part: SparsifyPart, training: Training, plan: SparsityPlan) -> MaskKeeper:
    """Who chooses the masks of a part; gives the layers of its plan masks. raises SparsityError, RecipeError."""
    if isinstance(part.schedule, BY_THRESHOLD):
        rule = thresholds_of(context.network, part, training)
        return ThresholdSparsifier(context.network, plan, rule, part.mask)
    schedule = schedule_of(context, part, training, plan.sparsity)
    scoring = scoring_of(part)
    statistics = statistics_for(context, scoring, part.statistics_images)
    seed = context.recipe.seed
    return Sparsifier(context.network, plan, schedule, scoring, seed, statistics, part.mask, part.leader)


def check_timing(context: Context, part: SparsifyPart, training: Training, plan: SparsityPlan) -> None:
    """raises RecipeError, SparsityError when the schedule of a part does not fit the training."""
    if isinstance(part.schedule, BY_THRESHOLD):
        thresholds_of(context.network, part, training)
    elif training.epochs and context.images.train is not None:
        schedule_of(context, part, training, plan.sparsity)


def _target(part: SparsifyPart) -> float | None:
    if isinstance(part.schedule, RandomLevel):
        if part.sparsity not in (None, part.schedule.high):
            raise RecipeError(
                f"stage 'sparsify': a random level of {part.schedule.low:g} to {part.schedule.high:g} and a sparsity "
                f"of {part.sparsity:g} contradict each other; leave sparsity out."
            )
        return part.schedule.high
    fixed = parse_pattern(part.pattern, part.remainder).fixed_level is not None
    has_own_total = part.allocation == "listed" or (part.allocation == "sensitivity" and part.bound is not None)
    if part.sparsity is None and not fixed and not has_own_total:
        return DEFAULT_SPARSITY
    return part.sparsity


def _threshold_globs(part: SparsifyPart) -> tuple[str, ...]:
    schedule = part.schedule
    if isinstance(schedule, Thresholds):
        return tuple(schedule.thresholds or schedule.sensitivities)
    return tuple(getattr(schedule, "sensitivities", ()))
