"""MSBench's configuration files.

    sparsity:   training (documentation and training configurations)
    sparse:     the tool that prunes networks which are trained already; its files have `reconstruction`

Both root keys are read in both meanings. Files with `reconstruction` become a stage `posttraining` that repeats the
published protocol; those without, or with `mask_only`, one sparsify stage without training.
"""

from typing import Any

from secateur.recipe.importers.importing import Draft, importers
from secateur.recipe.importers.msbench.levels import post_training_levels
from secateur.recipe.importers.msbench.masks import Masks, read_masks
from secateur.recipe.importers.msbench.networks import network_name
from secateur.recipe.importers.msbench.reconstruction import level_table, reconstruction_stage
from secateur.recipe.importers.msbench.schedulers import SCHEDULERS
from secateur.recipe.importers.provenance import Provenance
from secateur.recipe.importers.reading import Fields, Reading
from secateur.recipe.importers.stages import FINISH
from secateur.registry import unknown

ROOTS = ("sparsity", "sparse")
# Keys of a file for networks that are trained already.
AFTER_TRAINING = ("target_sparsity", "set_sparsity", "USE_ERK")


@importers.register("msbench")
class MSBenchFile:
    """The importer of MSBench's files."""

    @staticmethod
    def recognises(value: dict[str, Any]) -> bool:
        return "stages" not in value and any(key in value for key in ROOTS)

    @staticmethod
    def read(reading: Reading) -> Draft:
        root = reading.fields((), "an MSBench file")
        names = [name for name in ROOTS if name in root]
        if len(names) > 1:
            root.fail("sparse", "'sparsity' and 'sparse' are two names of the same section; give one.")
        model, data = _model(reading, root), _data(reading, root)
        root.ignore("saver", "seed", "lr_scheduler", "optimizer", "train", "trainer")
        root.finish()
        settings = reading.fields((names[0],), f"'{names[0]}'")
        stages = _stages(settings)
        # A table of levels ends with an evaluation of its own.
        finish = FINISH[1:] if stages[-1]["stage"] == "levels" else FINISH
        everything = [{"stage": "evaluate"}, *stages, *finish]
        value = {"version": 1, "model": model, "data": data, "seed": 0, "stages": everything}
        return Draft(value, Provenance("msbench", reading.document.source))


def _stages(settings: Fields) -> list[dict[str, Any]]:
    masks = read_masks(settings)
    scheduler = settings.section("scheduler", "'scheduler'")
    name = scheduler.text("type", "BaseScheduler")
    if name not in SCHEDULERS:
        scheduler.fail("type", unknown("scheduler", name, SCHEDULERS))
    options = scheduler.section("kwargs", "'kwargs' of the scheduler")
    fitted = any(key in settings for key in ("reconstruction", "progressive", "cali_batchsize"))
    asked = any(key in holder for holder in (settings, options) for key in AFTER_TRAINING)
    if name == "BaseScheduler" and (fitted or asked or "mask_only" in settings):
        return [_post_training(settings, scheduler, masks)]
    if fitted:
        settings.fail(
            "reconstruction", f"'reconstruction' and {name} contradict each other: that scheduler is for training."
        )
    settings.ignore("mask_only", "fuse_bn", "leaf_module", "target_sparsity", "set_sparsity", "USE_ERK")
    stages = SCHEDULERS[name](options, masks)
    scheduler.finish()
    settings.finish()
    settings.note(
        None,
        "MSBench's training scripts say how weights are trained, its files do not; taken are the settings of its "
        "published training: see 'training' in the recipe.",
    )
    return stages


def _post_training(settings: Fields, scheduler: Fields, masks: Masks) -> dict[str, Any]:
    levels = _levels(settings, scheduler, masks)
    settings.ignore("leaf_module", "verbose")
    if "reconstruction" in settings and "mask_only" not in settings:
        stage = reconstruction_stage(settings, masks, levels)
    else:
        stage = _masks_alone(settings, masks, levels)
    settings.finish()
    if "sparsity" not in levels and not _is_fixed(masks):
        settings.fail(None, "no level is given: 'target_sparsity', or 'sparsity' of the mask generator.")
    return stage


def _is_fixed(masks: Masks) -> bool:
    """Whether the pattern says itself how many zeros there are."""
    return ":" in masks.keys["pattern"]


def _levels(settings: Fields, scheduler: Fields, masks: Masks) -> dict[str, Any]:
    """Keys of the allocation."""
    levels = post_training_levels(settings, masks.level, level_table(settings))
    options = scheduler.section("kwargs", "'kwargs' of the scheduler")
    options.ignore(
        *("target_sparsity", "set_sparsity", "erk_power_scale", "max_sparsity", "sparse_analysis", "USE_ERK"),
        "no_prune_layer_list",
    )
    options.finish()
    scheduler.finish()
    if _is_fixed(masks):
        settings.note(
            "mask_generator",
            "layers whose shape does not fit stay dense and are listed as skipped; MSBench counts them as 50 % sparse.",
        )
        levels = {**levels, "base": "selected"}
        levels.pop("sparsity", None)
    return levels


def _masks_alone(settings: Fields, masks: Masks, levels: dict[str, Any]) -> dict[str, Any]:
    """Weights keep their values: no `reconstruction`, or `mask_only`, which counts as soon as it is there."""
    if "mask_only" in settings and not settings.flag("mask_only"):
        settings.note("mask_only", "'mask_only' counts as given whatever it is set to, as in MSBench.")
    for key in ("reconstruction", "progressive"):
        if key in settings:
            settings.note(key, f"'{key}' is not carried out: masks are chosen at the last level, weights stay.")
            settings.ignore(key)
    if masks.correct:
        settings.note("fake_sparse", "weights are corrected before a reconstruction only, and there is none.")
    if settings.flag("fuse_bn"):
        settings.note("fuse_bn", "batch norms stay: norms are folded before a reconstruction only, and there is none.")
    settings.ignore("cali_batchsize")
    return {"stage": "sparsify", **masks.keys, **levels, "schedule": {"kind": "one_shot"}, "training": {"epochs": 0}}


def _model(reading: Reading, root: Fields) -> dict[str, Any]:
    model = root.section("model", "'model'")
    written = model.text("type", None)
    options = model.section("kwargs", "'kwargs' of the model")
    classes = options.whole("num_classes", None, low=1)
    weights = model.text("path", None)
    options.finish()
    model.finish()
    name = reading.model or (network_name(written) if written is not None else None)
    if name is None:
        root.fail(None, "the file does not say which network it is for; give MODEL, such as resnet18.")
    if reading.model is not None and (written is None or reading.model != network_name(written)):
        weights = classes = None
    if reading.weights is not None:
        classes = None  # those of the weights that are given
    if weights is not None and reading.weights is None:
        reading.note(("model", "path"), f"the weights are {weights.strip()}, as the file says; --weights names others.")
    chosen = reading.weights_for(name, weights.strip() if weights else None)
    return {"name": name, "weights": chosen, "classes": classes}


def _data(reading: Reading, root: Fields) -> dict[str, Any]:
    data = root.section("data", "'data'")
    folder = data.text("path", None)
    workers = data.whole("num_workers", 0)
    data.ignore("batch_size", "pin_memory", "input_size", "test_resize", "type")
    data.finish()
    found: dict[str, Any] = {"workers": min(workers, 64)}
    return found | {"name": reading.data or (f"imagefolder:{folder}" if folder else None)}
