"""MSBench's configuration files.

    sparsity:   training (documentation and training configurations)
    sparse:     the tool that prunes networks which are trained already; its files have `reconstruction`

Both root keys are read in both meanings. Post-training files become one sparsify stage without training; what they say
about reconstruction is kept in the provenance, and a note says that it is not run.
"""

from typing import Any

from secateur.recipe.importers.importing import Draft, importers
from secateur.recipe.importers.msbench.levels import post_training_levels
from secateur.recipe.importers.msbench.masks import Masks, read_masks
from secateur.recipe.importers.msbench.networks import network_name
from secateur.recipe.importers.msbench.reconstruction import gradient_section
from secateur.recipe.importers.msbench.schedulers import SCHEDULERS
from secateur.recipe.importers.provenance import Provenance
from secateur.recipe.importers.reading import Fields, Reading, is_number
from secateur.recipe.importers.stages import FINISH
from secateur.registry import unknown

ROOTS = ("sparsity", "sparse")
NOT_RUN = "reconstruction is not run by this version of Secateur; the weights are masked and keep their values"


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
        stages, reconstruction = _stages(settings)
        # A table of levels ends with an evaluation of its own.
        finish = FINISH[1:] if stages[-1]["stage"] == "levels" else FINISH
        everything = [{"stage": "evaluate"}, *stages, *finish]
        value = {"version": 1, "model": model, "data": data, "seed": 0, "stages": everything}
        return Draft(value, Provenance("msbench", reading.document.source, reconstruction=reconstruction))


def _stages(settings: Fields) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(stages, what is said about reconstruction)."""
    masks = read_masks(settings)
    scheduler = settings.section("scheduler", "'scheduler'")
    name = scheduler.text("type", "BaseScheduler")
    if name not in SCHEDULERS:
        scheduler.fail("type", unknown("scheduler", name, SCHEDULERS))
    reconstruction = _reconstruction(settings, masks)
    options = scheduler.section("kwargs", "'kwargs' of the scheduler")
    after_training = (
        bool(reconstruction)
        or settings.flag("mask_only")
        or any(
            key in holder for holder in (settings, options) for key in ("target_sparsity", "set_sparsity", "USE_ERK")
        )
    )
    if name == "BaseScheduler" and after_training:
        return [_post_training(settings, scheduler, masks)], reconstruction
    if reconstruction:
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
    return stages, {}


def _post_training(settings: Fields, scheduler: Fields, masks: Masks) -> dict[str, Any]:
    levels = post_training_levels(settings, masks.level, _table(settings))
    options = scheduler.section("kwargs", "'kwargs' of the scheduler")
    options.ignore(
        *("target_sparsity", "set_sparsity", "erk_power_scale", "max_sparsity", "sparse_analysis", "USE_ERK"),
        "no_prune_layer_list",
    )
    options.finish()
    scheduler.finish()
    settings.ignore("mask_only", "leaf_module", "verbose")
    settings.flag("fuse_bn")
    settings.finish()
    fixed = ":" in masks.keys["pattern"]
    if "sparsity" not in levels and not fixed:
        settings.fail(None, "no level is given: 'target_sparsity', or 'sparsity' of the mask generator.")
    if fixed:
        settings.note(
            "mask_generator",
            "layers whose shape does not fit stay dense and are listed as skipped; MSBench counts them as 50 % sparse.",
        )
        levels = {**levels, "base": "selected"}
        levels.pop("sparsity", None)
    return {"stage": "sparsify", **masks.keys, **levels, "schedule": {"kind": "one_shot"}, "training": {"epochs": 0}}


def _table(settings: Fields) -> tuple[float, ...]:
    """The levels of `progressive`; empty without it."""
    table = settings.section("progressive", "'progressive'").value.get("sparsity_tables") or ()
    if not isinstance(table, list | tuple) or not all(map(is_number, table)):
        settings.fail("progressive", "'sparsity_tables' of 'progressive' is a list of fractions.")
    return tuple(table)


def _reconstruction(settings: Fields, masks: Masks) -> dict[str, Any]:
    """Everything about fitting the kept weights, as it is written."""
    found: dict[str, Any] = {}
    root = settings.reading.document.value
    data = root.get("data") if isinstance(root.get("data"), dict) else {}
    size = data.get("batch_size") if isinstance(data, dict) else None
    size = size if isinstance(size, int) and size > 0 else None
    if "reconstruction" in settings:
        found |= settings.section("reconstruction", "'reconstruction'").value
        found["section"] = gradient_section(settings, masks, _table(settings), size)
        settings.note("reconstruction", f"{NOT_RUN}.")
    if "progressive" in settings:
        found["progressive"] = dict(settings.section("progressive", "'progressive'").value)
        settings.note("progressive", "masks are chosen once, at the last level; progressive steps are not run.")
    batches = settings.whole("cali_batchsize", None, low=1)
    if batches is not None:
        found["cali_batches"] = batches
        images = f", {batches * size} images" if size else ""
        settings.note(
            "cali_batchsize", f"'cali_batchsize' is a number of batches: {batches}{images}, kept for reconstruction."
        )
        if size:
            found["images"] = batches * size
    if masks.correct:
        found["weight_correction"] = True
        settings.note("fake_sparse", "weight correction is not run by this version.")
    return found


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
        weights = None
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
