"""Distiller's pruners that rank structures: at one level, along AGP, or at a random level.

L1RankedStructureParameterPruner(_AGP), L2Ranked...     filters, channels, rows, blocks
Activation...Ranked, GradientRanked, RandomRanked, BernoulliFilterPruner(_AGP)    filters
group_size q     a multiple of q structures stays: pattern filter/q
Leader           all layers of the list lose what the first one loses
"""

from typing import Any

from secateur.recipe.importers.distiller.pruners import PATTERNS, ROUNDINGS, Pruner, PrunerPart, gradual, pruner
from secateur.registry import unknown

STRUCTURES = ("3D", "Filters", "Channels", "Rows", "Blocks")
CRITERIA = {
    "L1Ranked": "l1",
    "L2Ranked": "l2",
    "ActivationAPoZRanked": "apoz",
    "ActivationMeanRanked": "mean_activation",
    "GradientRanked": "gradient_weight-signed",
    "RandomRanked": "random",
    "Bernoulli": "bernoulli",
}


@pruner(
    "L1RankedStructureParameterPruner",
    "L2RankedStructureParameterPruner",
    "ActivationAPoZRankedFilterPruner",
    "ActivationMeanRankedFilterPruner",
    "GradientRankedFilterPruner",
    "RandomRankedFilterPruner",
    "BernoulliFilterPruner",
)
def _at_one_level(one: Pruner) -> list[PrunerPart]:
    level = one.fields.number("desired_sparsity", low=0.0)
    if not level < 1:
        one.fields.fail("desired_sparsity", f"'desired_sparsity' is a fraction below 1, found {level:g}.")
    return [_ranked(one, one.fields.value["class"], level, {"kind": "fixed"})]


@pruner(
    "L1RankedStructureParameterPruner_AGP",
    "L2RankedStructureParameterPruner_AGP",
    "ActivationAPoZRankedFilterPruner_AGP",
    "ActivationMeanRankedFilterPruner_AGP",
    "GradientRankedFilterPruner_AGP",
    "RandomRankedFilterPruner_AGP",
    "BernoulliFilterPruner_AGP",
)
def _gradually(one: Pruner) -> list[PrunerPart]:
    level, schedule = gradual(one)
    return [_ranked(one, one.fields.value["class"], level, schedule)]


@pruner("StructuredAutomatedGradualPruner")
def _gradual_filters(one: Pruner) -> list[PrunerPart]:
    """The old name of L1 filters along AGP; oldest files say the group of each parameter in `reg_regims`."""
    level, schedule = gradual(one)
    if "reg_regims" not in one.fields:
        return [_ranked(one, "L1Ranked", level, schedule)]
    regims = one.fields.section("reg_regims", f"'reg_regims' of {one.fields.where}")
    one.fields.value = {**one.fields.value, "weights": list(regims.value)}
    groups = {regims.text(str(name), choices=STRUCTURES[:-1]) for name in regims.value}
    if len(groups) != 1:
        one.fields.fail("reg_regims", f"{one.fields.where} needs one group for all of its parameters.")
    one.fields.value["group_type"] = groups.pop()
    return [_ranked(one, "L1Ranked", level, schedule)]


@pruner("RandomLevelStructureParameterPruner")
def _at_random_levels(one: Pruner) -> list[PrunerPart]:
    bounds = one.fields.numbers("sparsity_range")
    if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] < 1:
        one.fields.fail("sparsity_range", "'sparsity_range' is [low, high], fractions from 0 to below 1.")
    schedule = {"kind": "random", "low": bounds[0], "high": bounds[1]}
    return [_ranked(one, "L1Ranked", bounds[1], schedule)]


@pruner("FMReconstructionChannelPruner")
def _reconstructed_channels(one: Pruner) -> list[PrunerPart]:
    level = one.fields.number("desired_sparsity", low=0.0)
    one.fields.ignore("magnitude_fn", "ch_thr")
    one.fields.note(
        "class", "channels are chosen by L1 as there, but the kept weights are not refitted to feature maps."
    )
    return [_ranked(one, "L1Ranked", level, {"kind": "fixed"}, "Channels")]


def _ranked(one: Pruner, name: str, level: float, schedule: dict[str, Any], group: str = "Filters") -> PrunerPart:
    fields, common = one.fields, dict(one.common)
    criterion = next(ours for prefix, ours in CRITERIA.items() if name.startswith(prefix))
    if criterion == "mean_activation":
        fields.note("class", "Distiller removes the filters with the largest mean activation; here the smallest go.")
    group = fields.text("group_type", group, choices=(*STRUCTURES, "Channels") if group == "Filters" else (group,))
    layers = one.weights()
    pattern = _block(one) if group == "Blocks" else PATTERNS[group]
    if group != "Blocks":
        fields.ignore("kwargs")
    if (size := fields.whole("group_size", 1, low=1)) > 1:
        if group == "Blocks":
            fields.fail("group_size", "'group_size' does not go with blocks.")
        pattern = f"{pattern}/{size}"
    rounding = fields.text("rounding_fn", "floor")
    if rounding not in ROUNDINGS:
        fields.fail("rounding_fn", unknown("rounding_fn", rounding, ROUNDINGS))
    common["rounding"] = ROUNDINGS[rounding]
    noise = fields.number("noise", 0.0, low=0.0, high=1.0)
    leader = fields.text("group_dependency", None, choices=("Leader",)) == "Leader"
    keys = {"layers": layers, "pattern": pattern, "sparsity": level, "criterion": criterion, **common}
    keys |= {"noise": noise} if noise else {}
    keys |= {"leader": layers[0]} if leader and len(layers) > 1 else {}
    return PrunerPart(keys, schedule, layers)


def _block(one: Pruner) -> str:
    shape = one.fields.section("kwargs", f"'kwargs' of {one.fields.where}").numbers("block_shape")
    if len(shape) != 4 or any(side != int(side) or side < 1 for side in shape):
        one.fields.fail("kwargs", "'block_shape' is four whole numbers: filters, channels, height, width.")
    return "block:" + "x".join(str(int(side)) for side in shape)
