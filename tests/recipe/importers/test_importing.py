"""Which importer a text belongs to, what it must say, and that imports are stable."""

import copy
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import RecipeError
from secateur.recipe import load_recipe, parse_recipe, recipe_to_yaml
from secateur.recipe.document import MAX_BYTES, parse_document
from secateur.recipe.importers import (
    command_lines,
    import_command,
    import_document,
    import_recipe,
    import_text,
    importers,
    is_foreign,
)

DISTILLER = """\
# python compress_classifier.py -a=resnet20_cifar --epochs=4 --lr=0.1 DATA
pruners:
  p:
    class: AutomatedGradualPruner
    initial_sparsity: 0.0
    final_sparsity: 0.5
    weights: [module.layer1.0.conv1.weight]
policies:
  - pruner: {instance_name: p}
    starting_epoch: 0
    ending_epoch: 3
    frequency: 1
"""
MSBENCH = """\
model: {type: resnet18, path: w.pth}
data: {path: DIR, batch_size: 64}
sparse:
  mask_generator: {type: NormalMaskGenerator, kwargs: {sparsity: 0.5}}
  scheduler: {type: BaseScheduler}
  mask_only: True
"""
COMMANDS = {
    "1xn": "python imagenet.py --conv_type BlockL1Conv --N 4 --data_path DIR",
    "pocketflow": "python nets/resnet_at_cifar10_run.py --learner weight-sparse",
    "distiller": "python compress_classifier.py -a resnet20_cifar ../data --epochs 2",
}


def test_there_is_an_importer_for_every_tool():
    assert set(importers) == {"distiller", "msbench"} and set(command_lines) == set(COMMANDS)


@pytest.mark.parametrize(
    ("text", "tool"),
    [(DISTILLER, "distiller"), (MSBENCH, "msbench"), ("model: {name: a}\nstages: [{stage: evaluate}]\n", None)],
)
def test_files_are_recognised_by_their_root_keys(text, tool):
    value = parse_document(text).value
    assert [name for name, entry in importers.items() if entry.recognises(value)] == ([tool] if tool else [])
    assert is_foreign(parse_document(text)) is (tool is not None)


@pytest.mark.parametrize("tool", COMMANDS)
def test_commands_are_recognised_by_script_or_flags(tool):
    assert import_command(COMMANDS[tool]).provenance.tool == tool
    assert [name for name, entry in command_lines.items() if entry.recognises(COMMANDS[tool].split())] == [tool]


@pytest.mark.parametrize("text", [DISTILLER, MSBENCH])
def test_load_recipe_reads_files_of_other_tools(text, tmp_path, capsys):
    file = tmp_path / "foreign.yaml"
    file.write_text(text, encoding="utf-8")
    assert load_recipe(file, data="digits").data.name == "digits"
    assert f"{file}" in capsys.readouterr().err.replace("\n", "") or "weights" not in text


def test_notes_go_to_standard_error_with_their_lines(tmp_path, capsys):
    file = tmp_path / "f.yaml"
    file.write_text(DISTILLER, encoding="utf-8")
    load_recipe(file)
    assert f"{file}:2: no weights are named for resnet20b_cifar10" in capsys.readouterr().err


@pytest.mark.parametrize("text", [DISTILLER, MSBENCH])
@pytest.mark.parametrize("short", [True, False])
def test_importing_saving_and_loading_again_is_stable(text, short):
    recipe = import_text(text, "f.yaml").recipe
    saved = recipe_to_yaml(recipe, short)
    again = parse_recipe(saved)
    assert again == recipe
    assert recipe_to_yaml(again, short) == saved
    assert not is_foreign(parse_document(saved))


@pytest.mark.parametrize("tool", COMMANDS)
def test_recipes_of_commands_are_stable_too(tool):
    recipe = import_command(COMMANDS[tool]).recipe
    assert parse_recipe(recipe_to_yaml(recipe, short=True)) == recipe


def test_model_images_and_weights_of_the_user_come_first():
    recipe = import_text(MSBENCH, "f.yaml", "resnet34", "digits", "mine.pth").recipe
    assert (recipe.model.name, recipe.data.name, recipe.model.weights) == ("resnet34", "digits", "mine.pth")


def test_weights_of_another_network_are_not_taken():
    assert import_text(MSBENCH, "f.yaml", "resnet34").recipe.model.weights is None
    assert import_text(MSBENCH, "f.yaml", "resnet18").recipe.model.weights == "w.pth"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DISTILLER.split("\n", 1)[1], "does not say which network it is for; give MODEL"),
        (MSBENCH.replace("type: resnet18, ", ""), "does not say which network"),
        (MSBENCH.replace("path: DIR, ", ""), "does not say which images; give --data"),
    ],
)
def test_a_file_that_names_neither_network_nor_images_is_told_so(text, words):
    with pytest.raises(RecipeError, match=words):
        import_text(text, "f.yaml")


def test_an_own_recipe_is_no_foreign_one():
    with pytest.raises(RecipeError, match="of none of the tools that are read: distiller, msbench"):
        import_text("model: {name: a}\nstages: [{stage: evaluate}]\n", "f.yaml")


@pytest.mark.parametrize(
    ("command", "tool", "words"),
    [
        ("python train.py --lr 1", None, "is no command of"),
        ("python 'x.py", None, "cannot be read as a shell would: no closing quotation"),
        (COMMANDS["1xn"], "1xm", "Did you mean '1xn'"),
        ("", None, "is no command of"),
    ],
)
def test_a_command_of_no_known_tool_is_a_sentence(command, tool, words):
    with pytest.raises(RecipeError, match=words):
        import_command(command, tool)


def test_a_command_may_go_over_several_lines_with_comments():
    text = "#!/bin/sh\n# train\n$ python imagenet.py \\\n  --conv_type BlockL1Conv \\\n  --N 8 --data_path 'a #b'\n"
    recipe = import_command(text).recipe
    assert recipe.stages[1].pattern == "1x8" and recipe.data.name == "imagefolder:a #b"
    folder = import_command("python compress_classifier.py -a resnet18 \\\n  DIR --epochs 2").recipe.data.name
    assert folder == "imagefolder:DIR"


@pytest.mark.parametrize("tool", COMMANDS)
@pytest.mark.parametrize("end", ["> log.txt", "2>&1 | tee log", "&& echo done", "&", "# as published"])
def test_what_is_the_shells_own_is_no_word_of_the_command(tool, end):
    assert import_command(f"{COMMANDS[tool]} {end}", tool).recipe == import_command(COMMANDS[tool], tool).recipe


@pytest.mark.parametrize("tool", COMMANDS)
def test_a_word_without_its_flag_is_refused(tool):
    command = COMMANDS[tool].replace("--epochs 2", "--epochs 2 0.5") + (" 0.5" if tool != "distiller" else "")
    with pytest.raises(RecipeError, match=r"the word '0\.5' belongs to no flag"):
        import_command(command, tool)


WORDS = ["--lr", "--epochs", "--N", "--nb_epochs_rat", "--pr_target", "--learner", "--ws_prune_ratio", "-b", "--gpus"]
WORDS += [
    "0",
    "-1",
    "1e300",
    "nan",
    "inf",
    "x",
    "''",
    "--",
    "-",
    "=",
    "--lr=",
    "channel",
    "9" * 400,
    "--lrn_rate_init=0",
]

HOSTILE = {
    "alias": ("policies: &p [1]\npruners: *p\n", "aliases"),
    "deep": ("policies: " + "[" * 40 + "]" * 40, "nested deeper"),
    "code": ("policies: !!python/object/apply:os.system [id]\n", "not valid YAML"),
    "twice": ("policies: []\npolicies: []\n", "given twice"),
    "epochs": (DISTILLER.replace("ending_epoch: 3", "ending_epoch: 999999999"), "is at most 10000"),
    "negative": (DISTILLER.replace("starting_epoch: 0", "starting_epoch: -1"), "at least 0"),
    "many epochs": (DISTILLER.replace("--epochs=4", "--epochs=9999999999999"), "from 0 to 10000"),
    "no mapping": (DISTILLER.replace("instance_name: p", "instance_name: [1]"), "is a text"),
    "null section": ("pruners:\npolicies:\n", "'policies' is a list"),
    "key that is no text": ("policies: []\n1: 2\n", "unknown key '1'"),
    "sparse null": ("sparse:\nmodel: {type: resnet18}\ndata: {path: d}\n", "no level is given"),
    "list for a section": ("sparse: [1]\nmodel: {type: resnet18}\ndata: {path: d}\n", "is a mapping"),
    "empty policies": (DISTILLER.split("policies:")[0] + "policies: []\n", "'policies' is a list of one"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_with_a_sentence(kind):
    text, words = HOSTILE[kind]
    with pytest.raises(RecipeError, match=words) as caught:
        import_text(text, "f.yaml", "resnet18", "digits")
    assert str(caught.value).startswith("f.yaml")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    file = tmp_path / "large.yaml"
    file.write_text(DISTILLER + "#" * MAX_BYTES, encoding="utf-8")
    with pytest.raises(RecipeError, match="too large"):
        import_recipe(file)


RICH = [
    """\
# python compress_classifier.py -a=resnet20_cifar --epochs=4 --lr=0.1 DATA
pruners:
  rise: {class: AutomatedGradualPruner, initial_sparsity: 0.0, final_sparsity: 0.5, weights: [layer1.0.conv1]}
  blocks:
    class: L1RankedStructureParameterPruner
    group_type: Blocks
    kwargs: {block_shape: [1, 8, 1, 1]}
    desired_sparsity: 0.5
    weights: [layer1.0.conv2]
  below: {class: StructureParameterPruner, reg_regims: {layer2.0.conv1: [0.1, 3D]}, threshold_criteria: Max}
extensions: {thin: {class: FilterRemover, thinning_func_str: remove_filters}}
lr_schedulers: {fall: {class: MultiStepMultiGammaLR, milestones: [1, 2], gammas: [0.1, 0.5]}}
regularizers: {small: {class: GroupLassoRegularizer, reg_regims: {layer1.1.conv1: [1e-4, 3D]}, threshold_criteria: Max}}
policies:
  - {pruner: {instance_name: rise}, starting_epoch: 0, ending_epoch: 3, frequency: 1}
  - {pruner: {instance_name: blocks, args: {fold_batchnorm: True, mini_batch_pruning_frequency: 3}}, epochs: [0]}
  - {pruner: {instance_name: below}, epochs: [0]}
  - {extension: {instance_name: thin}, epochs: [3]}
  - {lr_scheduler: {instance_name: fall}, starting_epoch: 0, ending_epoch: 4, frequency: 1}
  - {regularizer: {instance_name: small, args: {keep_mask: True}}, epochs: [0, 1]}
""",
    MSBENCH + "  set_sparsity: ERK\n  progressive: {sparsity_tables: [0.3, 0.5]}\n",
    """\
model: {type: resnet18}
data: {path: DIR}
sparsity:
  mask_generator: {type: NormalMaskGenerator, kwargs: {structured: True, func: p1}}
  fake_sparse: {type: FakeSparse, kwargs: {mask_is_static: False}}
  scheduler:
    type: AmbaLevelPruneScheduler
    kwargs: {sparsity_table: [30, 60], total_iters: 7000, no_prune_layer: "a, b", prun_algo: 1}
""",
]
NAN, INF = float("nan"), float("inf")
ODD = [
    None,
    True,
    -1,
    0,
    1,
    10**9,
    10**400,
    0.5,
    1e300,
    INF,
    NAN,
    "",
    "*",
    "[",
    "1e-5",
    [],
    {},
    [1],
    {"a": {"b": 1}},
    {1: 2},
]


@pytest.mark.parametrize("text", RICH)
def test_rich_files_are_read(text):
    assert import_text(text, "f.yaml").recipe.stages


@given(st.sampled_from(RICH), st.integers(0, 2**32))
@settings(deadline=None, max_examples=120)
def test_a_file_with_something_odd_in_any_place_is_a_recipe_or_a_sentence(text, seed):
    chance = random.Random(seed)
    document = parse_document(text, "f.yaml")
    for _ in range(chance.choice((1, 2))):
        place = chance.choice([at for at in places(document.value) if at] or [("policies",)])
        node = document.value
        for part in place[:-1]:
            node = node[part]
        node[place[-1]] = copy.deepcopy(chance.choice(ODD))
    try:
        import_document(document, chance.choice((None, "resnet18")), "digits")
    except RecipeError as error:
        assert str(error).startswith("f.yaml") and "\n" not in str(error)


def places(value, at=()):
    """The path of everything in plain data."""
    yield at
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*at, key))


@given(st.sampled_from(sorted(COMMANDS.values())), st.lists(st.sampled_from(WORDS), max_size=4))
@settings(deadline=None, max_examples=150)
def test_a_command_with_odd_words_is_a_recipe_or_a_sentence(command, words):
    try:
        import_command(f"{command} {' '.join(words)}", data="digits")
    except RecipeError as error:
        assert str(error).startswith("command") and "\n" not in str(error)
