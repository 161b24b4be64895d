"""MSBench's configuration files.

    sparsity:   training (documentation and training configurations)
    sparse:     the tool that prunes networks which are trained already; its files have `reconstruction`

Both root keys are read in both meanings. Files with `reconstruction` become a stage `posttraining` that repeats the
published protocol; those without, or with `mask_only`, one sparsify stage without training.
"""

from typing import Any

from secateur.recipe.importers.importing import Draft, importers
from secateur.recipe.importers.msbench.levels import post_training_levels
from secateur.recipe.importers.msbench.masks import Masks, check_level, read_masks
from secateur.recipe.importers.msbench.networks import network_name
from secateur.recipe.importers.msbench.reconstruction import level_table, reconstruction_stage
from secateur.recipe.importers.msbench.schedulers import SCHEDULERS, TRAINING
from secateur.recipe.importers.provenance import Provenance
from secateur.recipe.importers.reading import Fields, Reading
from secateur.recipe.importers.stages import FINISH
from secateur.registry import unknown

ROOTS = ("sparsity", "sparse")
# Pixels of the published files, which the networks have by default.
PUBLISHED_SIZE, PUBLISHED_RESIZE = 224, 256
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
        seed = root.whole("seed", 0, high=2**31 - 1)
        root.ignore("saver")
        root.ignore(
            *("lr_scheduler", "optimizer", "train", "trainer"),
            because="trainings have the settings that are published for MSBench; see 'training' in the recipe",
        )
        root.finish()
        settings = reading.fields((names[0],), f"'{names[0]}'")
        stages = _stages(settings)
        if any(stage.get("training", {}).get("epochs") for stage in stages):
            _note_batch(reading)
        # A table of levels ends with an evaluation of its own.
        finish = FINISH[1:] if stages[-1]["stage"] == "levels" else FINISH
        everything = [{"stage": "evaluate"}, *stages, *finish]
        value = {"version": 1, "model": model, "data": data, "seed": seed, "stages": everything}
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
    stages = SCHEDULERS[name](options, masks)
    _check_levels(settings, name, stages[0])
    settings.ignore("mask_only", "leaf_module", because=f"it is for networks that are trained already; {name} trains")
    if settings.flag("fuse_bn"):
        settings.note("fuse_bn", "batch norms stay: they are trained too.")
    if masks.correct:
        settings.note("fake_sparse", "weights are corrected before a reconstruction only, and there is none.")
    scheduler.finish()
    settings.finish()
    settings.note(
        None,
        "MSBench's training scripts say how weights are trained, its files do not; taken are the settings of its "
        "published training: see 'training' in the recipe.",
    )
    return stages


def _note_batch(reading: Reading) -> None:
    data = reading.fields(("data",), "'data'") if "data" in reading.document.value else None
    published = TRAINING["batch_size"]
    if data is not None and data.whole("batch_size", published, low=1) != published:
        data.note(
            "batch_size", f"'batch_size' is not imported: trainings take the published {published} images a step."
        )


def _check_levels(settings: Fields, name: str, stage: dict[str, Any]) -> None:
    """raises    RecipeError  keys of the tool that contradict the levels of a scheduler of training"""
    target = settings.number("target_sparsity", None, low=0.0, high=1.0)
    check_level(settings, "target_sparsity", target, stage["pattern"])
    level = stage["table"][-1] if "table" in stage else stage.get("sparsity")
    if target is not None and level is not None and target != level:
        settings.fail(
            "target_sparsity", f"'target_sparsity' {target:g} and the {level:g} of {name} contradict each other."
        )
    if settings.text("set_sparsity", None) is not None or settings.flag("USE_ERK"):
        key = "set_sparsity" if "set_sparsity" in settings else "USE_ERK"
        settings.fail(key, f"'{key}' and {name} contradict each other: that scheduler says itself who loses how many.")


def _post_training(settings: Fields, scheduler: Fields, masks: Masks) -> dict[str, Any]:
    levels = _levels(settings, scheduler, masks)
    settings.ignore("leaf_module", "verbose")
    if "reconstruction" in settings and "mask_only" not in settings:
        stage = reconstruction_stage(settings, masks, levels)
    else:
        stage = _masks_alone(settings, masks, levels)
    settings.finish()
    if "sparsity" not in levels and masks.fixed is None:
        settings.fail(None, "no level is given: 'target_sparsity', or 'sparsity' of the mask generator.")
    return stage


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
    if masks.fixed is not None:
        holder = options if "target_sparsity" in options else settings
        name = "progressive" if "target_sparsity" not in holder and "progressive" in settings else "target_sparsity"
        check_level(holder, name, levels.get("sparsity"), masks.keys["pattern"])
        if levels["allocation"] != "uniform":
            kind = levels["allocation"]
            settings.fail(
                None, f"levels by {kind} and {masks.keys['pattern']} contradict each other; give one of both."
            )
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
    data = root.section("data", "'data'")
    size = data.whole("input_size", PUBLISHED_SIZE, low=1)
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
    found = {"name": name, "weights": chosen, "classes": classes}
    return found if size == PUBLISHED_SIZE else found | {"options": {"input_size": size}}


def _data(reading: Reading, root: Fields) -> dict[str, Any]:
    data = root.section("data", "'data'")
    folder = data.text("path", None)
    workers = data.whole("num_workers", 0)
    size, resized = data.whole("input_size", PUBLISHED_SIZE, low=1), data.whole("test_resize", None, low=1)
    data.ignore("batch_size", "pin_memory", "type")
    data.finish()
    found: dict[str, Any] = {"workers": min(workers, 64)}
    if resized is not None and (size, resized) != (PUBLISHED_SIZE, PUBLISHED_RESIZE):
        if resized < size:
            data.fail("test_resize", f"images of {size} pixels cannot be cut out of ones of {resized}.")
        found["crop_pct"] = round(size / resized, 6)
    return found | {"name": reading.data or (f"imagefolder:{folder}" if folder else None)}
