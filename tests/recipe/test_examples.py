"""The ready recipes: they parse, say what the tools they come from say, and plan every layer of their network."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from secateur.cli.app import app
from secateur.recipe import RemoveChannelsStage, SparsifyStage, TrainStage, load_recipe, parse_recipe, recipe_to_yaml
from secateur.recipe.importers import import_command, import_text

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted((EXAMPLES / "recipes").glob("*.yaml"))

MSBENCH = """
sparsity:
  mask_generator: {type: NormalMaskGenerator}
  fake_sparse: {type: FakeSparse}
  scheduler:
    type: AmbaLevelPruneScheduler
    kwargs: {sparsity_table: [30, 40, 50, 60, 70, 80, 90], prun_algo: 1, prun_algo_tuning: 0.5}
"""


@pytest.mark.parametrize("path", [*RECIPES, *sorted(EXAMPLES.glob("*.yaml"))], ids=lambda path: path.stem)
def test_every_example_parses_and_names_itself(path):
    recipe = load_recipe(path)
    assert recipe.stages[-1].stage == "report"
    assert f"--recipe examples/{path.relative_to(EXAMPLES)}" in path.read_text()


@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_the_levels_of_msbench_are_what_its_file_is_imported_as(model):
    ours = load_recipe(EXAMPLES / "recipes" / f"msbench_{model}_levels.yaml")
    theirs = import_text(MSBENCH, model=model, data="imagefolder:imagenet", weights="pretrained").recipe
    assert (ours.model, ours.data) == (theirs.model, theirs.data)
    levels = [stage for stage in ours.stages if isinstance(stage, SparsifyStage)]
    assert [stage.sparsity for stage in levels] == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert {stage.training.epochs for stage in levels} == {16}
    assert levels == [stage for stage in theirs.stages if isinstance(stage, SparsifyStage)]


def test_the_blocks_of_msbench_are_what_its_file_is_imported_as():
    ours = load_recipe(EXAMPLES / "recipes" / "msbench_blocks.yaml")
    theirs = import_text(
        """
        data: {batch_size: 64}
        sparse:
          cali_batchsize: 16
          reconstruction: {pattern: block, max_count: 20000, keep_gpu: False, weight_lr: 0.00001}
          mask_generator: {type: NormalMaskGenerator, kwargs: {sparsity: 0.5}}
          fake_sparse: {type: FakeSparse}
          scheduler: {type: BaseScheduler}
        """,
        model="mobilenet_v2",
        data="imagefolder:imagenet",
        weights="pretrained",
    ).recipe
    assert (ours.model, ours.data) == (theirs.model, theirs.data)
    assert ours.stages[1] == theirs.stages[1]


@pytest.mark.parametrize("arch", ["mobilenet_v1", "mobilenet_v2", "resnet50"])
def test_the_recipe_of_1xn_is_what_its_command_is_imported_as(arch):
    ours = load_recipe(EXAMPLES / "recipes" / f"1xn_{arch}.yaml")
    command = (
        f"python imagenet.py --gpus 0 --arch {arch} --job_dir x --pr_target 0.5 --N 4 --conv_type BlockL1Conv "
        "--train_batch_size 256 --eval_batch_size 256 --rearrange"
    )
    theirs = import_command(command, data="imagefolder:imagenet", weights="pretrained").recipe
    assert ours == theirs


@pytest.mark.parametrize("name", ["msbench_resnet18_levels", "1xn_mobilenet_v2", "lasso_channels", "network_slimming"])
def test_a_dry_run_plans_every_stage(name, tmp_path):
    path = EXAMPLES / "recipes" / f"{name}.yaml"
    # The levels of a network by energy are searched for seven times; a small one shows that they are planned.
    small = ["tiny_networks:network"] if "levels" in name else []
    given = ["--recipe", str(path), "--data", "tiny_networks:images", "--weights", "none", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["compress", *small, *given, "--dry-run"])
    assert result.exit_code == 0, result.output
    stages = load_recipe(path).stages
    assert f"[{len(stages)}/{len(stages)}] report" in result.output
    planned = sum(isinstance(stage, SparsifyStage | RemoveChannelsStage) for stage in stages)
    assert result.output.count("total") >= planned > 0
    assert not list(tmp_path.iterdir())


def test_slimming_trains_twice_with_one_penalty():
    recipe = load_recipe(EXAMPLES / "recipes" / "network_slimming.yaml")
    first, removal = (stage for stage in recipe.stages if isinstance(stage, TrainStage | RemoveChannelsStage))
    assert isinstance(first, TrainStage) and isinstance(removal, RemoveChannelsStage)
    assert first.regularize[0].kind == "norm_l1"
    assert first.training == removal.training


@pytest.mark.parametrize("short", [True, False])
def test_a_table_of_levels_is_printed_and_read_again(short):
    recipe = load_recipe(EXAMPLES / "recipes" / "msbench_resnet18_levels.yaml")
    assert parse_recipe(recipe_to_yaml(recipe, short)) == recipe
