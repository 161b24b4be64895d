"""MSBench's `reconstruction:` and `progressive:` as the recipe's section of gradient reconstruction.

pattern -> unit                  max_count -> steps            mask_only -> steps: 0
weight_lr, bias_lr               absolute and constant         use_dense_inps -> inputs: dense
mask_is_static -> mask           sparsity_tables -> table      keep_gpu -> cache: device
"""

from typing import Any

from pydantic import ValidationError

from secateur.recipe.importers.msbench.masks import Masks
from secateur.recipe.importers.reading import Fields
from secateur.recipe.schema.posttraining import GradientReconstruction

PUBLISHED_STEPS, PUBLISHED_RATE, PUBLISHED_BATCH = 20_000, 1e-5, 64


def gradient_section(
    settings: Fields, masks: Masks, table: tuple[float, ...], batch_size: int | None
) -> dict[str, Any]:
    """The keys of `GradientReconstruction` that carry a file's settings out.

    table         levels of `progressive`
    batch_size    of the file's data
    raises        RecipeError  a pattern, number or table that does not exist
    """
    options = settings.section("reconstruction", "'reconstruction'")
    keys: dict[str, Any] = {
        "unit": options.text("pattern", "layer", choices=("independent", "layer", "block")),
        "steps": 0 if settings.flag("mask_only") else options.whole("max_count", PUBLISHED_STEPS),
        "learning_rate": options.number("weight_lr", PUBLISHED_RATE, low=1e-12),
        "relative": False,
        "decay": "constant",
        "inputs": "dense" if options.flag("use_dense_inps") else "sparse",
        "mask": "static" if masks.static else "every_step",
        "batch_size": batch_size or PUBLISHED_BATCH,
        "cache": "device" if options.flag("keep_gpu") else "host",
    }
    if (bias := options.number("bias_lr", None, low=0.0)) is not None:
        keys["bias_learning_rate"] = bias
    if table:
        keys["table"] = list(table)
    # Corrections are steps of their own, not settings of this one.
    options.flag("bias_correction")
    options.finish()
    try:
        GradientReconstruction.model_validate(keys)
    except ValidationError as error:
        settings.fail("progressive", f"'sparsity_tables' of 'progressive': {error.errors()[0]['msg']}.")
    return keys
