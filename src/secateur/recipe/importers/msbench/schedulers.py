"""MSBench's schedulers of training, as stages.

    AmbaLevelPruneScheduler    stage `levels`: a table in percent, one training and one artifact for each entry
    AmpereScheduler            2:4, in one dimension or two, with the shapes that sparse tensor cores take
    ProbMaskPruneScheduler     method probmask
    STRScheduler, ADMMScheduler    method str, admm
    BaseScheduler              all zeros at the first step

How the weights are trained is said by MSBench's training scripts, not by its files: the settings of its published
training are taken, and a note says so.
"""

from typing import Any

from secateur.recipe.importers.msbench.levels import EVERY_LAYER, names_of
from secateur.recipe.importers.msbench.masks import Masks, check_level
from secateur.recipe.importers.reading import Fields

DEFAULT_TABLE = (30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)
# The published training of the level tables.
EPOCHS_OF_A_LEVEL = 16
TRAINING = {
    "epochs": EPOCHS_OF_A_LEVEL,
    "batch_size": 64,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "nesterov": True,
    "weight_decay": 1e-4,
    "label_smoothing": 0.1,
    "decay": "cosine",
}
CALCULATORS = {"m4n2_1d": "2:4/tensor_core", "m4n2_2d_best": "2:4-2d", "m4n2_2d_greedy": "2:4-2d-greedy"}
# Patterns of mask generators that AmpereScheduler goes with.
_SINGLE = ("unstructured", "2:4")
RUN_ONLY = ("lr_scheduler", "init_lr", "mask_dict", "verbose", "verbosity", "output_dir", "save_dir")


def level_table(options: Fields, masks: Masks) -> list[dict[str, Any]]:
    """AmbaLevelPruneScheduler."""
    table = options.numbers("sparsity_table", DEFAULT_TABLE)
    if not table or any(not 0 <= level < 100 for level in table):
        options.fail("sparsity_table", f"'sparsity_table' lists percentages from 0 to below 100, found {list(table)}.")
    if list(table) != sorted(set(table)):
        options.fail("sparsity_table", f"the levels of 'sparsity_table' rise, found {list(table)}.")
    if max(table) < 1 and max(table) > 0:
        options.note("sparsity_table", f"'sparsity_table' is in percent: {table[-1]:g} means {table[-1]:g} %.")
    total = options.whole("total_iters", 10_000) if options.value.get("total_iters", 1) is not None else None
    options.ignore("total_iters", *RUN_ONLY)
    energy = options.whole("prun_algo", 1) == 1
    tuning = options.number("prun_algo_tuning", 0.5, low=0.0, high=1.0)
    keys: dict[str, Any] = {"base": "conv_linear", **EVERY_LAYER, "allocation": "energy" if energy else "uniform"}
    if energy:
        keys |= {"tuning": tuning, "tolerance": options.number("sparse_rate_tolerance", 0.015, low=1e-9, high=0.999)}
        options.note(
            None,
            "how MSBench lowers the levels of early layers is hidden in a closed binary; the decay here is our own "
            "design, so levels and accuracy will differ.",
        )
    else:
        options.ignore("sparse_rate_tolerance")
    if options.text("prun_hw_aware", ""):
        options.note("prun_hw_aware", "there are no tables of chips; 'prun_hw_aware' is not imported.")
    keys |= _left_out(options)
    if not options.flag("do_sparse_analysis", True):
        options.note(
            "do_sparse_analysis", "levels are always computed from the weights at hand, not from saved tables."
        )
    options.ignore("default_input_shape", "default_input_custom", because="images are of the size of 'data.input_size'")
    for name, ours in (("prune_tolerance_max", "level_max_factor"), ("prune_tolerance_min", "density_min_factor")):
        if (factor := options.number(name, 1.0, low=1e-9)) != 1.0:
            keys[ours] = factor
    if total is not None:
        options.note(
            "total_iters" if "total_iters" in options.value else None,
            f"{len(table)} levels share {total} iterations in MSBench; here they share "
            f"{EPOCHS_OF_A_LEVEL * len(table)} epochs, {EPOCHS_OF_A_LEVEL} each as published.",
        )
    options.finish()
    stage = {"stage": "levels", "table": [round(level / 100, 10) for level in table], **masks.keys, **keys}
    return [stage | {"mask": _rule(masks), "training": TRAINING | {"epochs": EPOCHS_OF_A_LEVEL * len(table)}}]


def _left_out(options: Fields) -> dict[str, Any]:
    excluded = names_of(options, "no_prune_layer")
    keywords = names_of(options, "no_prune_keyword")
    if keywords:
        options.note(
            "no_prune_keyword",
            "layers whose name contains the keyword stay dense; MSBench's base scheduler compares the whole name.",
        )
    excluded += [f"*{word}*" for word in keywords]
    keys: dict[str, Any] = {"exclude": excluded} if excluded else {}
    return keys | ({"exclude_kinds": ["depthwise"]} if options.flag("dw_no_prune") else {})


def ampere(options: Fields, masks: Masks) -> list[dict[str, Any]]:
    """AmpereScheduler."""
    calculator = options.text("mask_calculator", "m4n2_1d", choices=tuple(CALCULATORS))
    again = options.flag("allow_recompute_mask")
    options.ignore(*RUN_ONLY)
    options.ignore("whitelist", because="layers of every kind are pruned")
    _check_two_of_four(options, masks, again)
    excluded = names_of(options, "disallowed_layer_names")
    allowed = names_of(options, "allowed_layer_names")
    keys: dict[str, Any] = {
        "pattern": CALCULATORS[calculator],
        "criterion": "magnitude",
        "base": "selected",
        **EVERY_LAYER,
    }
    keys |= {"exclude": excluded} if excluded else {}
    keys |= {"layers": allowed} if allowed else {}
    keys |= {"permute": True} if options.flag("allow_permutation") else {}
    options.finish()
    _note_skipped(options)
    rule = {"update": "every_step"} if again else {}
    return [_trained(keys, {"kind": "one_shot"}, rule)]


def _check_two_of_four(options: Fields, masks: Masks, again: bool) -> None:
    """raises    RecipeError  a mask generator that wants other zeros than those of this scheduler"""
    if masks.name not in ("NormalMaskGenerator", "NMMaskGenerator") or masks.keys["pattern"] not in _SINGLE:
        wanted = masks.name if masks.name != "NormalMaskGenerator" else "structured masks"
        wanted = masks.keys["pattern"] if masks.name == "NMMaskGenerator" else wanted
        options.fail(None, f"AmpereScheduler and {wanted} contradict each other: it keeps 2 of 4 weights.")
    check_level(options, "sparsity", masks.level, "2:4")
    if masks.static and again:
        options.fail("allow_recompute_mask", "'allow_recompute_mask' and static masks contradict each other.")


def probmask(options: Fields, masks: Masks) -> list[dict[str, Any]]:
    """ProbMaskPruneScheduler."""
    level = options.number("prune_rate", masks.level if masks.level is not None else 0.5, low=0.0, high=0.9999)
    total = options.whole("total_iterations", low=1)
    start = options.whole("warmup_iteration_stamps", 0)
    end = options.whole("finetune_iteration_stamps", total)
    initial = options.number("start_prune_rate", 0.0, low=0.0, high=0.9999)
    options.ignore(*RUN_ONLY)
    options.finish()
    if not 0 <= start < end <= total:
        options.fail(None, f"the stamps rise: 0 <= warm-up {start} < fine-tuning {end} <= total {total}.")
    method = {"kind": "probmask", "start": start / total, "end": end / total, "initial": initial}
    method |= {key: value for key, value in masks.learned.items() if key == "score_init"}
    if masks.learned.get("tau") is not None:
        # MSBench's tau is the temperature at the end over the one at the beginning; ours is the sum in the denominator.
        options.note(None, "the temperature follows the published course; 'tau' of the generator is not imported.")
    return [_by_method(masks, level, method)]


def str_thresholds(options: Fields, masks: Masks) -> list[dict[str, Any]]:
    """STRScheduler."""
    level = _target(options, masks)
    method: dict[str, Any] = {"kind": "str"}
    method |= {key: value for key, value in masks.learned.items() if key == "threshold_init"}
    return [_by_method(masks, level, method)]


def admm(options: Fields, masks: Masks) -> list[dict[str, Any]]:
    """ADMMScheduler."""
    level = _target(options, masks)
    options.note(None, "MSBench's ADMM has no gradient in its penalty; here weights are pulled to their projection.")
    return [_by_method(masks, level, {"kind": "admm"})]


def one_shot(options: Fields, masks: Masks) -> list[dict[str, Any]]:
    """BaseScheduler in training."""
    options.ignore(*RUN_ONLY)
    keys: dict[str, Any] = {"base": "selected", **EVERY_LAYER, "sparsity": masks.level}
    keys |= _left_out(options)
    options.finish()
    if masks.level is None and masks.fixed is None:
        options.fail(None, "no level is given: 'sparsity' of the mask generator says how many weights go.")
    if masks.fixed is not None:
        keys.pop("sparsity")
        _note_skipped(options)
    return [_trained(masks.keys | keys, {"kind": "one_shot"}, _rule(masks))]


def _target(options: Fields, masks: Masks) -> float:
    inner = options.section("sparsity", "'sparsity' of the scheduler")
    level = inner.number("target_sparsity", masks.level, low=0.0, high=0.9999)
    inner.flag("uniform", True)
    inner.finish()
    options.ignore(*RUN_ONLY)
    options.finish()
    if level is None:
        options.fail(None, "no level is given: 'sparsity.target_sparsity' of the scheduler says how many weights go.")
    return level


def _by_method(masks: Masks, level: float, method: dict[str, Any]) -> dict[str, Any]:
    keys = {**masks.keys, **EVERY_LAYER, "sparsity": level, "base": "conv_linear"}
    return {**_trained(keys, None, {}), "method": method}


def _trained(keys: dict[str, Any], schedule: dict[str, Any] | None, rule: dict[str, Any]) -> dict[str, Any]:
    stage: dict[str, Any] = {"stage": "sparsify", **keys}
    if schedule is not None:
        stage["schedule"] = schedule
    if rule:
        stage["mask"] = rule
    return stage | {"training": dict(TRAINING)}


def _rule(masks: Masks) -> dict[str, Any]:
    return {} if masks.static else {"update": "every_step"}


def _note_skipped(options: Fields) -> None:
    options.note(
        None,
        "layers whose shape does not fit 2:4 stay dense and are listed as skipped; MSBench counts them as 50 % sparse.",
    )


SCHEDULERS = {
    "BaseScheduler": one_shot,
    "AmbaLevelPruneScheduler": level_table,
    "AmpereScheduler": ampere,
    "ProbMaskPruneScheduler": probmask,
    "STRScheduler": str_thresholds,
    "ADMMScheduler": admm,
}
