"""MSBench's files, of training and of its post-training tool, old names and new ones."""

import re

import pytest
import yaml

from secateur.errors import RecipeError
from secateur.recipe.importers import import_recipe, import_text
from secateur.sparsity import allocations, criteria, parse_pattern

HEAD = """\
model: {type: resnet18, kwargs: {num_classes: 10}, path: w.pth}
data: {path: DIR, batch_size: 64, num_workers: 4}
"""
POST = (
    HEAD
    + """\
sparse:
  cali_batchsize: 16
  reconstruction: {pattern: layer, max_count: 20000, keep_gpu: True, weight_lr: 1e-5}
  mask_generator: {type: NormalMaskGenerator}
  fake_sparse: {type: FakeSparse}
  scheduler: {type: BaseScheduler}
"""
)
TRAIN = HEAD + "sparsity:\n  mask_generator: {type: %s}\n  fake_sparse: {type: %s}\n  scheduler: {type: %s%s}\n"


def said(imported):
    return "\n".join(map(str, imported.notes))


def train(generator="NormalMaskGenerator", fake="DefaultFakeSparse", scheduler="BaseScheduler", kwargs=""):
    return import_text(TRAIN % (generator, fake, scheduler, f", kwargs: {{{kwargs}}}" if kwargs else ""), "f.yaml")


def sparsify_stages(imported):
    return [stage for stage in imported.recipe.stages if stage.stage in ("sparsify", "posttraining")]


def stage_of(imported):
    (stage,) = sparsify_stages(imported)
    return stage


def test_every_published_file_is_the_published_protocol(schedules):
    files = sorted((schedules / "msbench").iterdir())
    assert len(files) == 14
    for file in files:
        imported, written = import_recipe(file), yaml.safe_load(file.read_text())
        theirs, stage = written["sparse"], stage_of(imported)
        assert (stage.stage, stage.method, stage.criterion) == ("posttraining", "magnitude", "magnitude")
        assert (stage.rounding, stage.ties, stage.patterns) == ("complement", "threshold", ("unstructured",))
        assert stage.include_first and stage.include_depthwise and stage.include_classifier
        assert stage.base == "conv_linear" and not stage.estimate_norms and stage.tuning is None
        assert stage.images == theirs["cali_batchsize"] * 64 and stage.batch_size == 64
        config, options = stage.reconstruction, theirs["reconstruction"]
        assert (config.steps, config.learning_rate, config.relative) == (20_000, 1e-5, False)
        assert (config.unit, config.decay, config.batch_size) == (options["pattern"], "constant", 64)
        assert config.inputs == ("dense" if options.get("use_dense_inps") else "sparse")
        assert config.bias_learning_rate == options.get("bias_lr")
        assert config.cache == ("device" if options["keep_gpu"] else "host")
        fake = theirs["fake_sparse"].get("kwargs", {})
        assert config.mask == ("static" if fake.get("mask_is_static") else "every_step")
        assert stage.correct_weights == ("msb" if fake.get("weight_correction") else None)
        assert stage.correct_bias is options.get("bias_correction", False)
        assert stage.fold_norms is theirs.get("fuse_bn", False)
        assert "is a number of batches" in said(imported)


def test_network_images_and_weights_are_those_of_the_file():
    recipe = import_text(POST + "  target_sparsity: 0.5\n  set_sparsity: ERK\n", "f.yaml").recipe
    assert (recipe.model.name, recipe.model.weights, recipe.model.classes) == ("resnet18", "w.pth", 10)
    assert (recipe.data.name, recipe.data.workers) == ("imagefolder:DIR", 4)


@pytest.mark.parametrize(
    ("name", "ours"),
    [("regnetx_600m", "regnetx_006"), ("regnetx_3200m", "regnetx_032"), ("mobilenetv2", "mobilenet_v2"), ("a", "a")],
)
def test_names_of_networks(name, ours):
    text = POST.replace("type: resnet18", f"type: {name}") + "  target_sparsity: 0.5\n"
    assert import_text(text, "f.yaml").recipe.model.name == ours


@pytest.mark.parametrize(
    ("keys", "allocation", "power"),
    [
        ("set_sparsity: ERK", "erk", 1.0),
        ("USE_ERK: True", "erk", 1.0),
        ("USE_ERK: True\n  erk_power_scale: 0.25", "erk", 0.25),
        ("set_sparsity: Magnitude", "global_magnitude", 1.0),
        ("set_sparsity: L2Normalized", "l2_normalised", 1.0),
        ("set_sparsity: L2Normalized_v2\n  max_sparsity: 0.9", "l2_normalised", 1.0),
        ("set_sparsity: LAMP", "lamp", 1.0),
    ],
)
def test_allocations(keys, allocation, power):
    imported = import_text(POST + f"  {keys}\n  target_sparsity: 0.8\n", "f.yaml")
    stage = stage_of(imported)
    assert (stage.allocation, stage.power, stage.sparsity) == (allocation, power, 0.8)
    assert allocation in allocations
    assert stage.cap == (0.9 if "max_sparsity" in keys else 0.99)
    assert ("LAMP is a name that MSBench accepts and does nothing with" in said(imported)) is ("LAMP" in keys)


def test_settings_of_an_allocation_may_stand_with_the_scheduler():
    text = POST.replace("{type: BaseScheduler}", "{type: BaseScheduler, kwargs: {USE_ERK: True, target_sparsity: 0.6}}")
    stage = stage_of(import_text(text, "f.yaml"))
    assert (stage.allocation, stage.sparsity) == ("erk", 0.6)


def test_a_level_of_the_generator_is_uniform():
    text = POST.replace("{type: NormalMaskGenerator}", "{type: NormalMaskGenerator, kwargs: {sparsity: 0.3}}")
    stage = stage_of(import_text(text, "f.yaml"))
    assert (stage.allocation, stage.sparsity) == ("uniform", 0.3)


def test_a_saved_analysis_gives_the_levels():
    imported = import_text(POST + "  sparse_analysis: TABLES\n  target_sparsity: 0.8\n", "f.yaml")
    stage = stage_of(imported)
    assert (stage.allocation, stage.levels_file, stage.sparsity) == ("listed", "TABLES", 0.8)
    assert "the levels are those of the saved analysis in TABLES" in said(imported)


def test_excluded_layers():
    stage = stage_of(import_text(POST + "  target_sparsity: 0.8\n  no_prune_layer_list: module.conv1, fc\n", "f.yaml"))
    assert stage.exclude == ("conv1", "fc")


def test_progressive_without_an_allocation_is_uniform_and_warned_of():
    imported = import_text(POST + "  progressive: {sparsity_tables: [0.3, 0.5]}\n", "f.yaml")
    assert (stage_of(imported).allocation, stage_of(imported).sparsity) == ("uniform", 0.5)
    assert "'progressive' without an allocation gives every layer the same level" in said(imported)
    assert stage_of(imported).reconstruction.table == (0.3, 0.5)


def test_what_goes_before_the_reconstruction():
    text = POST.replace("FakeSparse}", "FakeSparse, kwargs: {weight_correction: True}}")
    text = text.replace("pattern: layer", "pattern: layer, bias_correction: True")
    imported = import_text(text + "  target_sparsity: 0.5\n  fuse_bn: True\n", "f.yaml")
    stage = stage_of(imported)
    assert (stage.correct_weights, stage.correct_bias, stage.fold_norms) == ("msb", True, True)
    assert stage.images == 1024
    assert "f.yaml:4: 'cali_batchsize' is a number of batches: 16 of 64, 1024 images" in said(imported)


@pytest.mark.parametrize(
    ("written", "ours"),
    [
        ("{pattern: block, max_count: 5000, keep_gpu: True}", {"unit": "block", "steps": 5000, "cache": "device"}),
        ("{pattern: independent, weight_lr: 1e-4, bias_lr: 1e-3}", {"learning_rate": 1e-4, "bias_learning_rate": 1e-3}),
        ("{use_dense_inps: True}", {"unit": "layer", "inputs": "dense", "steps": 20_000, "mask": "every_step"}),
        ("{}\n  progressive: {sparsity_tables: [0.3, 0.5]}", {"table": (0.3, 0.5), "batch_size": 64}),
    ],
)
def test_reconstruction_as_a_section_of_ours(written, ours):
    text = re.sub(r"  reconstruction: .*", f"  reconstruction: {written}", POST)
    target = "" if "progressive" in written else "  target_sparsity: 0.5\n"
    section = stage_of(import_text(text + target, "f.yaml")).reconstruction
    assert {key: getattr(section, key) for key in ours} == ours


def test_masks_that_stay_in_reconstruction():
    text = POST.replace("FakeSparse}", "FakeSparse, kwargs: {mask_is_static: True}}") + "  target_sparsity: 0.5\n"
    assert stage_of(import_text(text, "f.yaml")).reconstruction.mask == "static"


def test_a_table_says_the_levels_whatever_the_target_says():
    imported = import_text(
        POST + "  target_sparsity: 0.9\n  set_sparsity: ERK\n  progressive: {sparsity_tables: [0.3, 0.5]}\n", "f.yaml"
    )
    stage = stage_of(imported)
    assert (stage.sparsity, stage.allocation, stage.reconstruction.table) == (0.5, "erk", (0.3, 0.5))
    assert "whatever the target says" in said(imported)


@pytest.mark.parametrize(("written", "noted"), [("True", False), ("False", True)])
def test_masks_alone_count_as_soon_as_they_are_named(written, noted):
    imported = import_text(POST + f"  target_sparsity: 0.5\n  mask_only: {written}\n", "f.yaml")
    stage = stage_of(imported)
    assert (stage.stage, stage.training.epochs, stage.schedule.kind) == ("sparsify", 0, "one_shot")
    assert "'reconstruction' is not carried out" in said(imported)
    assert ("counts as given whatever it is set to" in said(imported)) is noted


def test_filters_and_two_of_four_are_fitted_too():
    filters = "{type: FPGMMaskGenerator, kwargs: {sparsity: 0.5, func: l2}}"
    stage = stage_of(import_text(POST.replace("{type: NormalMaskGenerator}", filters), "f.yaml"))
    assert (stage.patterns, stage.criterion, stage.sparsity) == (("filter",), "fpgm-l2", 0.5)
    stage = stage_of(import_text(POST.replace("NormalMaskGenerator", "NMMaskGenerator"), "f.yaml"))
    assert (stage.patterns, stage.sparsity, stage.base) == (("2:4",), None, "selected")


def test_a_progressive_table_rises():
    with pytest.raises(RecipeError, match="must rise"):
        import_text(POST + "  progressive: {sparsity_tables: [0.5, 0.3]}\n", "f.yaml")


@pytest.mark.parametrize(
    ("generator", "pattern", "criterion", "ties"),
    [
        ("NormalMaskGenerator, kwargs: {sparsity: 0.5}", "unstructured", "magnitude", "threshold"),
        ("NormalMaskGenerator, kwargs: {sparsity: 0.5, structured: True, func: p1}", "filter", "l1", "threshold"),
        ("NormalMaskGenerator, kwargs: {sparsity: 0.5, structured: True, func: p2}", "filter", "l2", "threshold"),
        ("FPGMMaskGenerator, kwargs: {sparsity: 0.5, func: cos}", "filter", "fpgm-cos", "exact"),
        ("NuclearMaskGenerator, kwargs: {sparsity: 0.5}", "filter", "nuclear", "exact"),
        ("NMMaskGenerator", "2:4", "magnitude", "exact"),
    ],
)
def test_mask_generators(generator, pattern, criterion, ties):
    stage = stage_of(train(generator))
    assert (stage.pattern, stage.criterion, stage.ties) == (pattern, criterion, ties)
    assert criterion in criteria and parse_pattern(pattern)
    assert stage.sparsity == (None if pattern == "2:4" else 0.5)


@pytest.mark.parametrize(
    ("fake", "update"),
    [
        ("FakeSparse", "every_step"),
        ("DefaultFakeSparse, kwargs: {mask_is_static: False}", "every_step"),
        ("DefaultFakeSparse, kwargs: {mask_is_static: True}", "scheduled"),
    ],
)
def test_when_masks_change(fake, update):
    assert stage_of(train("NormalMaskGenerator, kwargs: {sparsity: 0.5}", fake)).mask.update == update


def test_the_old_key_for_masks_that_stay():
    assert stage_of(train("NormalMaskGenerator, kwargs: {sparsity: 0.5, freeze_mask: True}")).mask.update == "scheduled"


def test_a_table_of_levels():
    imported = train(
        scheduler="AmbaLevelPruneScheduler",
        kwargs="sparsity_table: [30, 55, 90], total_iters: 7000, no_prune_layer: 'module.conv1, fc', no_prune_keyword: "
        "down, dw_no_prune: True, prun_algo: 1, prun_algo_tuning: 0.3, prun_hw_aware: chip, prune_tolerance_max: 1.2",
    )
    stages = sparsify_stages(imported)
    assert [stage.sparsity for stage in stages] == [0.3, 0.55, 0.9]
    assert [s.folder for s in imported.recipe.stages if s.stage == "export"] == [
        "levels/30",
        "levels/55",
        "levels/90",
        "",
    ]
    stage = stages[0]
    assert (stage.allocation, stage.tuning) == ("energy", 0.3)
    assert (stage.exclude, stage.exclude_kinds) == (("conv1", "fc", "*down*"), ("depthwise",))
    assert (stage.mask.update, stage.tolerance, stage.level_max_factor) == ("every_step", 0.015, 1.2)
    assert (stage.training.epochs, stage.training.learning_rate, stage.training.label_smoothing) == (16, 0.01, 0.1)
    notes = said(imported)
    assert "the decay here is our own design" in notes and "no tables of chips" in notes
    assert "3 levels share 7000 iterations" in notes


def test_tolerances_of_one_are_no_bounds():
    kwargs = "prune_tolerance_max: 1.0, prune_tolerance_min: 1.0"
    stages = sparsify_stages(train(scheduler="AmbaLevelPruneScheduler", kwargs=kwargs))
    assert {(stage.level_max_factor, stage.density_min_factor) for stage in stages} == {(None, None)}


def test_the_table_of_the_source_and_uniform_levels():
    stages = sparsify_stages(train(scheduler="AmbaLevelPruneScheduler", kwargs="prun_algo: 0, total_iters: null"))
    assert [stage.sparsity for stage in stages] == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert {(stage.allocation, stage.training.epochs) for stage in stages} == {("uniform", 16)}


@pytest.mark.parametrize(
    ("calculator", "pattern"),
    [("m4n2_1d", "2:4/tensor_core"), ("m4n2_2d_best", "2:4-2d"), ("m4n2_2d_greedy", "2:4-2d-greedy")],
)
def test_ampere(calculator, pattern):
    imported = train(scheduler="AmpereScheduler", kwargs=f"mask_calculator: {calculator}, allow_permutation: True")
    stage = stage_of(imported)
    assert (stage.pattern, stage.permute, stage.mask.update, stage.base) == (pattern, True, "scheduled", "selected")
    assert parse_pattern(pattern)
    assert "stay dense and are listed as skipped; MSBench counts them as 50 % sparse" in said(imported)


def test_probmask():
    imported = train(
        "ProbMaskGenerator",
        "ProbMaskFakeSparse, kwargs: {score_init_constant: 0.9}",
        "ProbMaskPruneScheduler",
        "prune_rate: 0.9, total_iterations: 100, warmup_iteration_stamps: 20, finetune_iteration_stamps: 80",
    )
    stage = stage_of(imported)
    assert (stage.method.kind, stage.method.start, stage.method.end, stage.method.initial) == (
        "probmask",
        0.2,
        0.8,
        0.0,
    )
    assert (stage.sparsity, stage.method.score_init) == (0.9, 0.9)


@pytest.mark.parametrize(
    ("generator", "fake", "scheduler", "kind"),
    [
        ("STRMaskGenerator", "STRFakeSparse, kwargs: {sInit_value: -8}", "STRScheduler", "str"),
        ("NormalMaskGenerator", "FakeSparse", "ADMMScheduler", "admm"),
    ],
)
def test_str_and_admm(generator, fake, scheduler, kind):
    stage = stage_of(train(generator, fake, scheduler, "sparsity: {target_sparsity: 0.7, uniform: False}"))
    assert (stage.method.kind, stage.sparsity) == (kind, 0.7)
    if kind == "str":
        assert stage.method.threshold_init == -8


def test_keys_without_a_meaning_here_are_noted():
    kwargs = "do_sparse_analysis: False, default_input_shape: [1, 3, 128, 128], sparsity_table: [50]"
    text = TRAIN % ("NormalMaskGenerator", "FakeSparse", "AmbaLevelPruneScheduler", f", kwargs: {{{kwargs}}}")
    text = text.replace("batch_size: 64", "batch_size: 32").replace("sparsity:\n", "sparsity:\n  fuse_bn: True\n")
    notes = said(import_text("optimizer: {type: SGD}\n" + text, "f.yaml"))
    for words in (
        "f.yaml:1: 'optimizer' is not imported",
        "f.yaml:3: 'batch_size' is not imported: trainings take the published 64",
        "f.yaml:5: batch norms stay",
        "f.yaml:8: levels are always computed",
        "f.yaml:8: 'default_input_shape' is not imported",
    ):
        assert words in notes, notes


def test_seed_and_size_of_images():
    text = POST.replace("batch_size: 64", "batch_size: '32', input_size: 128, test_resize: 160")
    recipe = import_text("seed: 7\n" + text + "  target_sparsity: 0.5\n", "f.yaml").recipe
    assert (recipe.seed, recipe.model.options, recipe.data.crop_pct) == (7, {"input_size": 128}, 0.8)
    assert (recipe.stages[1].batch_size, recipe.stages[1].images) == (32, 512)
    published = import_text(POST.replace("64,", "64, input_size: 224, test_resize: 256,") + "  target_sparsity: 0.5\n")
    assert (published.recipe.model.options, published.recipe.data.crop_pct) == ({}, None)


def test_the_same_twice_is_no_contradiction():
    text = POST.replace("{type: BaseScheduler}", "{type: BaseScheduler, kwargs: {target_sparsity: 0.5}}")
    assert stage_of(import_text(text + "  target_sparsity: 0.5\n", "f.yaml")).sparsity == 0.5
    two_of_four = POST.replace("NormalMaskGenerator", "NMMaskGenerator") + "  target_sparsity: 0.5\n"
    assert stage_of(import_text(two_of_four, "f.yaml")).patterns == ("2:4",)


CONTRADICTING = POST.replace(
    "{type: BaseScheduler}", "{type: BaseScheduler, kwargs: {target_sparsity: 0.9, set_sparsity: Magnitude}}"
)


def ampere(generator, more=""):
    return TRAIN % (generator, "FakeSparse", "AmpereScheduler", "") + more


FAULTS = [
    (CONTRADICTING + "  target_sparsity: 0.5\n", 8, "'target_sparsity' is 0.5 in one place and 0.9 here"),
    (CONTRADICTING + "  set_sparsity: ERK\n", 8, "'set_sparsity' is ERK in one place and Magnitude here"),
    (POST.replace("NormalMask", "NMMask") + "  target_sparsity: 0.9\n", 9, "that pattern has 0.5 zeros always"),
    (
        POST.replace("NormalMask", "NMMask") + "  set_sparsity: ERK\n  target_sparsity: 0.5\n",
        3,
        "levels by erk and 2:4",
    ),
    (POST.replace("batch_size: 64", "batch_size: many") + "  target_sparsity: 0.5\n", 2, "is a number"),
    (ampere("NMMaskGenerator, kwargs: {N: 1, M: 4}"), 6, "AmpereScheduler and 1:4 contradict each other"),
    (ampere("NMMaskGenerator, kwargs: {N: 4, M: 2}"), 4, "N is less than M"),
    (ampere("FPGMMaskGenerator"), 6, "AmpereScheduler and FPGMMaskGenerator contradict each other"),
    (ampere("NormalMaskGenerator, kwargs: {sparsity: 0.9}"), 6, "that pattern has 0.5 zeros always"),
    (ampere("NormalMaskGenerator", "  target_sparsity: 0.9\n"), 7, "that pattern has 0.5 zeros always"),
    (ampere("NormalMaskGenerator", "  set_sparsity: ERK\n"), 7, "'set_sparsity' and AmpereScheduler contradict"),
    (
        POST.replace("NormalMaskGenerator", "NormalMaskGen") + "  target_sparsity: 0.5\n",
        6,
        "Did you mean 'NormalMaskGener",
    ),
    (
        POST.replace("{type: FakeSparse}", "{type: FakSparse}") + "  target_sparsity: 0.5\n",
        7,
        "unknown fake-sparse module",
    ),
    (POST.replace("BaseScheduler", "BaseSchedulr"), 8, "Did you mean 'BaseScheduler'?"),
    (POST + "  set_sparsity: ERKK\n  target_sparsity: 0.5\n", 9, "Did you mean 'ERK'?"),
    (POST + "  set_sparsity: ERK\n", 3, "'target_sparsity' is needed"),
    (POST, 3, "no level is given"),
    (POST + "  target_sparsity: 1.0\n", 3, "is a fraction below 1"),
    (POST + "  target_sparsty: 0.5\n", 9, "Did you mean 'target_sparsity'?"),
    (POST + "  USE_ERK: True\n  set_sparsity: LAMP\n  target_sparsity: 0.5\n", 9, "contradict each other"),
    (POST + "  sparse_analysis: T\n  set_sparsity: ERK\n  target_sparsity: 0.5\n", 9, "contradict each other"),
    (POST.replace("max_count", "max_cuont") + "  target_sparsity: 0.5\n", 5, "Did you mean 'max_count'?"),
    (POST.replace("pattern: layer", "pattern: layr") + "  target_sparsity: 0.5\n", 5, "Did you mean 'layer'?"),
    (POST + "sparsity: {}\n", 3, "two names of the same section"),
    (
        POST.replace("{type: NormalMaskGenerator}", "{type: NormalMaskGenerator, kwargs: {sparsity: 0.3}}")
        + "  target_sparsity: 0.5\n",
        9,
        "target_sparsity 0.5 and the mask generator's sparsity 0.3 contradict each other",
    ),
    (POST.replace("BaseScheduler", "AmbaLevelPruneScheduler"), 5, "that scheduler is for training"),
    (HEAD.replace("num_workers", "num_worker") + "sparse: {}\n", 2, "Did you mean 'num_workers'?"),
    (
        TRAIN
        % ("NormalMaskGenerator", "FakeSparse", "AmbaLevelPruneScheduler", ", kwargs: {sparsity_table: [30, 130]}"),
        6,
        "lists percentages from 0 to below 100",
    ),
    (
        TRAIN
        % ("NormalMaskGenerator", "FakeSparse", "AmbaLevelPruneScheduler", ", kwargs: {sparsity_table: [50, 40]}"),
        6,
        "the levels of 'sparsity_table' rise",
    ),
    (TRAIN % ("NormalMaskGenerator", "FakeSparse", "BaseScheduler", ""), 6, "no level is given"),
    (
        TRAIN
        % (
            "ProbMaskGenerator",
            "ProbMaskFakeSparse",
            "ProbMaskPruneScheduler",
            ", kwargs: {total_iterations: 10, warmup_iteration_stamps: 8, finetune_iteration_stamps: 4}",
        ),
        6,
        "the stamps rise",
    ),
]


@pytest.mark.parametrize(("text", "line", "words"), FAULTS, ids=[f"{n}" for n in range(len(FAULTS))])
def test_a_faulty_file_is_a_sentence_with_its_line(text, line, words):
    with pytest.raises(RecipeError) as caught:
        import_text(text, "f.yaml")
    assert words in str(caught.value) and str(caught.value).startswith(f"f.yaml:{line}: "), str(caught.value)
