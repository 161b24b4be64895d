"""Who decides MSBench's levels: allocation, target, and the layers left out.

set_sparsity: ERK | Magnitude | L2Normalized | L2Normalized_v2 | LAMP,  USE_ERK (old)    target_sparsity in all
sparse_analysis: FOLDER           levels from a saved analysis
mask_generator.kwargs.sparsity    the same level everywhere
AmbaLevelPruneScheduler           a table of levels, by energy
"""

from collections.abc import Callable
from typing import Any

from secateur.recipe.importers.reading import Fields
from secateur.registry import unknown

ALLOCATIONS = {
    "ERK": "erk",
    "Magnitude": "global_magnitude",
    "L1Normalized": "l1_normalised",
    "L2Normalized": "l2_normalised",
    "L2Normalized_v2": "l2_normalised",
    "LAMP": "lamp",
    "Uniform": "uniform",
    "uniform": "uniform",
}
# MSBench prunes every layer.
EVERY_LAYER = {"include_first": True, "include_depthwise": True, "include_classifier": True}


def names_of(fields: Fields, name: str) -> list[str]:
    """Layers that a key lists, as a list or between commas, without `module.`."""
    raw = fields.raw(name, "")
    words = raw.split(",") if isinstance(raw, str) else list(fields.texts(name))
    return [word.strip().removeprefix("module.").removesuffix(".weight") for word in words if word.strip()]


def post_training_levels(root: Fields, level: float | None, progressive: tuple[float, ...]) -> dict[str, Any]:
    """The keys of a part that say how many zeros each layer gets; settings stand at the root or with the scheduler."""
    holders = [root, root.section("scheduler", "'scheduler'").section("kwargs", "'kwargs' of the scheduler")]
    target = _one(holders, "target_sparsity", lambda f, name: f.number(name, None, low=0.0, high=1.0))
    kind = _one(holders, "set_sparsity", lambda f, name: f.text(name, None))
    power = _one(holders, "erk_power_scale", lambda f, name: f.number(name, None, low=1e-9))
    cap = _one(holders, "max_sparsity", lambda f, name: f.number(name, None, low=1e-9, high=1.0))
    analysis = _one(holders, "sparse_analysis", lambda f, name: f.text(name, None))
    use_erk = bool(_one(holders, "USE_ERK", lambda f, name: f.flag(name) if name in f else None))
    excluded = [name for fields in holders for name in names_of(fields, "no_prune_layer_list")]
    if kind is not None and kind not in ALLOCATIONS:
        root.fail("set_sparsity", unknown("set_sparsity", kind, ALLOCATIONS))
    if kind == "LAMP":
        root.note("set_sparsity", "LAMP is a name that MSBench accepts and does nothing with; here it is carried out.")
    if use_erk and kind not in (None, "ERK"):
        root.fail("USE_ERK", f"'USE_ERK' and set_sparsity {kind} contradict each other.")
    if use_erk:
        kind = "ERK"
    if power is not None and kind != "ERK":
        root.note("erk_power_scale", "'erk_power_scale' is not imported: levels are not those of ERK.")
    keys: dict[str, Any] = {"base": "conv_linear", **EVERY_LAYER}
    if excluded:
        keys["exclude"] = excluded
    if cap is not None:
        keys["cap"] = cap
    if progressive and kind is None and analysis is None:
        root.note("progressive", "'progressive' without an allocation gives every layer the same level, as in MSBench.")
    if target is None:
        target = progressive[-1] if progressive else level
    if analysis is not None:
        if kind is not None:
            root.fail("sparse_analysis", f"'sparse_analysis' and {kind} contradict each other; both give levels.")
        keys |= {"allocation": "listed", "levels_file": analysis}
        root.note(
            "sparse_analysis",
            f"the levels are those of the saved analysis in {analysis}, at its table nearest to the target.",
        )
    elif kind is not None:
        keys["allocation"] = ALLOCATIONS[kind]
        keys |= {"power": power if power is not None else 1.0} if kind == "ERK" else {}
    else:
        keys["allocation"] = "uniform"
    if (analysis is not None or kind is not None) and target is None:
        root.fail(None, "'target_sparsity' is needed: the allocation has no level to meet.")
    if target is not None and level is not None and target != level:
        root.fail(
            "target_sparsity",
            f"target_sparsity {target:g} and the mask generator's sparsity {level:g} contradict each other.",
        )
    wanted = target if target is not None else level
    if wanted is not None and not wanted < 1:
        root.fail(None, f"a sparsity is a fraction below 1, found {wanted:g}.")
    return keys if wanted is None else {**keys, "sparsity": wanted}


def _one(holders: list[Fields], name: str, read: Callable[[Fields, str], Any]) -> Any:
    """What the sections that have a key say; all are read, so that no key is unknown. raises RecipeError for two."""
    values = [(fields, value) for fields in holders if (value := read(fields, name)) is not None]
    if values and values[-1][1] != values[0][1]:
        values[-1][0].fail(name, f"'{name}' is {values[0][1]} in one place and {values[-1][1]} here; give one of both.")
    return values[0][1] if values else None
