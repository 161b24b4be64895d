"""MSBench's protocol after training as a stage `posttraining` with masks by magnitude.

reconstruction    pattern -> unit           max_count -> steps              use_dense_inps -> inputs: dense
                  weight_lr, bias_lr        absolute and constant           keep_gpu -> cache: device
                  bias_correction -> correct_bias
progressive       sparsity_tables -> table of levels; every level is fitted to the original network
fake_sparse       mask_is_static -> mask    weight_correction -> correct_weights: msb
fuse_bn           fold_norms                cali_batchsize      batches, times data.batch_size = images
"""

from typing import Any

from pydantic import ValidationError

from secateur.recipe.importers.msbench.masks import Masks
from secateur.recipe.importers.reading import Fields
from secateur.recipe.schema.posttraining import GradientReconstruction

PUBLISHED_STEPS, PUBLISHED_RATE, PUBLISHED_BATCH, PUBLISHED_BATCHES = 20_000, 1e-5, 64, 16


def reconstruction_stage(settings: Fields, masks: Masks, levels: dict[str, Any]) -> dict[str, Any]:
    """The stage that a file with `reconstruction` stands for.

    levels    keys of the allocation
    raises    RecipeError  a unit, number or table that does not exist
    """
    table, size = level_table(settings), _batch_size(settings)
    batches = settings.whole("cali_batchsize", PUBLISHED_BATCHES, low=1)
    settings.note(
        "cali_batchsize" if "cali_batchsize" in settings else None,
        f"'cali_batchsize' is a number of batches: {batches} of {size}, {batches * size} images.",
    )
    section, correct_bias = _section(settings, masks, table, size)
    if masks.method is not None:
        settings.note("mask_generator", "thresholds are learned in training only; masks go by magnitude here.")
    if table and levels.get("sparsity") != table[-1]:
        settings.note("progressive", f"the table says the levels, the last is {table[-1]:g}, whatever the target says.")
        levels = levels | {"sparsity": table[-1]}
    keys = {"criterion": masks.keys["criterion"], **{key: masks.keys[key] for key in _COUNTS if key in masks.keys}}
    return {
        "stage": "posttraining",
        "method": "magnitude",
        "patterns": [masks.keys["pattern"]],
        **keys,
        **levels,
        "images": batches * size,
        "batch_size": size,
        "fold_norms": settings.flag("fuse_bn"),
        **({"correct_weights": "msb"} if masks.correct else {}),
        "correct_bias": correct_bias,
        # Statistics of norms stay as they are.
        "estimate_norms": False,
        "reconstruction": section,
    }


def level_table(settings: Fields) -> tuple[float, ...]:
    """The levels of `progressive`; empty without it. raises RecipeError"""
    if "progressive" not in settings:
        return ()
    return settings.section("progressive", "'progressive'").numbers("sparsity_tables")


_COUNTS = ("rounding", "ties")


def _section(settings: Fields, masks: Masks, table: tuple[float, ...], batch_size: int) -> tuple[dict[str, Any], bool]:
    """(keys of `GradientReconstruction`, whether biases are corrected first)."""
    options = settings.section("reconstruction", "'reconstruction'")
    keys: dict[str, Any] = {
        "unit": options.text("pattern", "layer", choices=("independent", "layer", "block")),
        "steps": options.whole("max_count", PUBLISHED_STEPS),
        "learning_rate": options.number("weight_lr", PUBLISHED_RATE, low=1e-12),
        "relative": False,
        "decay": "constant",
        "inputs": "dense" if options.flag("use_dense_inps") else "sparse",
        "mask": "static" if masks.static else "every_step",
        "batch_size": batch_size,
        "cache": "device" if options.flag("keep_gpu") else "host",
    }
    if (bias := options.number("bias_lr", None, low=0.0)) is not None:
        keys["bias_learning_rate"] = bias
    if table:
        keys["table"] = list(table)
    correct_bias = options.flag("bias_correction")
    options.finish()
    try:
        GradientReconstruction.model_validate(keys)
    except ValidationError as error:
        settings.fail("progressive", f"'sparsity_tables' of 'progressive': {error.errors()[0]['msg']}.")
    return keys, correct_bias


def _batch_size(settings: Fields) -> int:
    """Images of a batch, which stands with the data."""
    if settings.reading.document.value.get("data") is None:
        return PUBLISHED_BATCH
    return settings.reading.fields(("data",), "'data'").whole("batch_size", PUBLISHED_BATCH, low=1)
