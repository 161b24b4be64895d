"""`secateur translate`, and `secateur compress` with files of other tools."""

import io
import sys

import pytest

import secateur
from secateur.measure import runtimes
from secateur.pipeline.record import load_record
from secateur.recipe import load_recipe, parse_recipe
from secateur.recipe.importers import check_against, import_recipe

SCHEDULE = """\
# compress_classifier.py -a=mine --epochs=3 --lr=0.05 -b 16 DATA
# |  0 | module.stem.weight  | (8, 3, 3, 3)   |  216 |  216 |
# |  1 | module.body.weight  | (16, 8, 3, 3)  | 1152 |  576 |
# |  2 | module.point.weight | (18, 16, 1, 1) |  288 |  144 |
pruners:
  rise:
    class: AutomatedGradualPruner
    initial_sparsity: 0.1
    final_sparsity: 0.5
    weights: [module.body.weight]
  filters:
    class: L1RankedStructureParameterPruner
    group_type: 3D
    desired_sparsity: 0.5
    weights: module.point.weight
lr_schedulers:
  fall: {class: ExponentialLR, gamma: 0.5}
policies:
  - pruner: {instance_name: rise}
    starting_epoch: 0
    ending_epoch: 2
    frequency: 1
  - pruner: {instance_name: filters}
    epochs: [0]
  - lr_scheduler: {instance_name: fall}
    starting_epoch: 1
    ending_epoch: 3
    frequency: 1
"""
TINY = ("tiny_networks:network", "tiny_networks:images")
ONE_BY_N = "python imagenet.py --conv_type BlockL1Conv --N 4 --arch resnet56_cifar --evaluate"


@pytest.fixture
def schedule(tmp_path):
    file = tmp_path / "schedule.yaml"
    file.write_text(SCHEDULE, encoding="utf-8")
    return file


def test_a_file_becomes_yaml_on_standard_output_and_notes_on_standard_error(call, schedule):
    code, out, err = call("translate", schedule)
    assert code == 0
    assert parse_recipe(out) == import_recipe(schedule).recipe
    assert f"{schedule}:15: 'weights' is a text and no list" in err
    assert "'weights' is a text" not in out


def test_a_command_line_in_quotes(call):
    code, out, err = call("translate", ONE_BY_N)
    assert code == 0 and parse_recipe(out).model.name == "resnet56_cifar10"
    assert "command: --evaluate stands in the README" in err


def test_a_command_line_from_a_file_and_from_standard_input(call, tmp_path, monkeypatch):
    script = tmp_path / "run.sh"
    script.write_text(f"#!/bin/sh\n{ONE_BY_N}\n", encoding="utf-8")
    from_file = call("translate", script)[1]
    monkeypatch.setattr(sys, "stdin", io.StringIO(ONE_BY_N))
    assert call("translate", "-")[1] == from_file == call("translate", ONE_BY_N)[1]


def test_yaml_from_standard_input(call, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(SCHEDULE))
    assert parse_recipe(call("translate", "-", "--model", TINY[0])[1]).model.name == TINY[0]


def test_a_recipe_goes_into_a_file(call, schedule, tmp_path):
    code, out, _ = call("translate", schedule, "-o", tmp_path / "recipe.yaml", "--model", TINY[0], "--data", "digits")
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert (code, out, recipe.model.name, recipe.data.name) == (0, "", TINY[0], "digits")


def test_the_tool_may_be_said(call):
    words = "train.py --arch resnet56_cifar --num_epochs 3"
    assert call("translate", words)[0] == 2
    code, out, _ = call("translate", words, "--from", "1xn")
    assert code == 0 and parse_recipe(out).stages[1].training.epochs == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing.yaml",), "missing.yaml: the recipe cannot be read"),
        (("missing.sh",), "missing.sh: the recipe cannot be read"),
        (("",), "the source is empty"),
        (("python imagenet.py --conv_type BlockL1Conv --N 64 --data_path D",), "from 1 to 32"),
        (("python train.py --lr 1",), "say which with --from"),
        ((ONE_BY_N, "--from", "1xm"), "Did you mean '1xn'?"),
        (("python imagenet.py --conv_type BlockL1Conv",), "does not say which images; give --data"),
        (("python nets/resnet_at_cifar10_run.py --learner unifrom",), "Did you mean 'uniform'?"),
    ],
)
def test_what_cannot_be_translated_is_one_sentence_and_exit_code_2(call, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("translate", *arguments)
    assert (code, out) == (2, "") and words in err and "Traceback" not in err


def test_compress_takes_a_schedule_as_it_is(call, schedule, tmp_path):
    code, out, err = call("compress", TINY[0], "--recipe", schedule, "--data", TINY[1], "--dry-run", "--out", tmp_path)
    assert code == 0, err
    assert "'weights' is a text" in err and "no weights are named" in err
    assert "body" in out and "point" in out and "DATA" not in out


def test_compress_says_that_a_network_is_needed(call, schedule, tmp_path):
    text = SCHEDULE.split("\n", 1)[1]
    schedule.write_text(text, encoding="utf-8")
    code, _, err = call("compress", "--recipe", schedule, "--data", TINY[1], "--dry-run", "--out", tmp_path)
    assert code == 2 and "does not say which network it is for; give MODEL" in err


def test_a_fault_in_a_schedule_has_its_line(call, schedule, tmp_path):
    schedule.write_text(SCHEDULE.replace("final_sparsity", "finl_sparsity"), encoding="utf-8")
    code, _, err = call("compress", TINY[0], "--recipe", schedule, "--data", TINY[1], "--out", tmp_path / "run")
    assert code == 2 and f"{schedule}:6: pruner 'rise' needs the key 'final_sparsity'" in err


def test_a_schedule_runs_and_reaches_the_nonzeros_of_its_table(schedule, tmp_path, call):
    imported = import_recipe(schedule, *TINY)
    kept = tuple(stage for stage in imported.recipe.stages if stage.stage not in ("benchmark", "report"))
    recipe = imported.recipe.model_copy(update={"stages": kept})
    result = secateur.compress(recipe=recipe, out=tmp_path / "run")
    check = check_against(imported.provenance, secateur.census(result.network))
    assert check.agrees and check.compared == 3, str(check)
    history = [row for stage in result.record.stages for row in stage.result.get("history", [])]
    assert len(history) == 3
    dense = check_against(imported.provenance, secateur.census(secateur.model(TINY[0])))
    assert [difference.name for difference in dense.differences] == ["body", "point"]
    code, out, _ = call("translate", schedule, "--check", tmp_path / "run")
    assert code == 0 and "all 3 published layers have the published nonzeros" in out


MSBENCH = """\
model: {type: resnet18, kwargs: {num_classes: 1000}, path: resnet18.pth}
data: {path: IMAGENET, batch_size: 16}
sparse:
  cali_batchsize: 2
  reconstruction: {pattern: layer, max_count: 4, weight_lr: 1e-5, bias_lr: 1e-4, bias_correction: True}
  mask_generator: {type: NormalMaskGenerator}
  fake_sparse: {type: DefaultFakeSparse, kwargs: {mask_is_static: True, weight_correction: True}}
  scheduler: {type: BaseScheduler}
  fuse_bn: True
  set_sparsity: ERK
  progressive: {sparsity_tables: [0.2, 0.4]}
"""


def test_compress_repeats_msbenchs_protocol_of_a_file_as_it_is(call, tmp_path, monkeypatch):
    # What is translated is timed in every runtime; one is enough here.
    for name in set(runtimes) - {"onnxruntime"}:
        monkeypatch.delitem(runtimes, name)
    file, out = tmp_path / "pst.yaml", tmp_path / "run"
    file.write_text(MSBENCH, encoding="utf-8")
    code, text, err = call("translate", file, "--data", "imagefolder:DIR")
    assert code == 0 and "method: magnitude" in text and "table: [0.2, 0.4]" in text, err
    code, _, err = call("compress", TINY[0], "--recipe", file, "--data", TINY[1], "--out", out)
    assert code == 0, err
    assert "2 of 16, 32 images" in err and "level 20 %" in err and "level 40 %" in err
    (result,) = load_record(out).results("posttraining")
    assert [row["sparsity"] for row in result["table"]] == [0.2, 0.4]
    assert abs(secateur.census(str(out)).base("conv_linear").sparsity - 0.4) < 0.01
    assert (out / "levels" / "20" / "weights.safetensors").is_file()


def test_a_path_with_a_space_is_a_file(call, schedule, tmp_path):
    folder = tmp_path / "my dir"
    folder.mkdir()
    (folder / "s.yaml").write_text(SCHEDULE)
    assert call("translate", folder / "s.yaml", "--model", TINY[0], "--data", TINY[1])[0] == 0
    (folder / "run.sh").write_text(ONE_BY_N + " --data_path DIR")
    assert call("translate", folder / "run.sh")[0] == 0


def test_a_schedule_is_read_as_yaml_whatever_tool_is_said(call, schedule):
    code, out, _ = call("translate", schedule, "--from", "distiller", "--model", TINY[0], "--data", TINY[1])
    assert code == 0 and "sparsify" in out
    for tool, words in (("1xn", "is YAML, but 1xn is told"), ("msbench", "is a file of distiller, not of msbench")):
        code, _, err = call("translate", schedule, "--from", tool, "--model", TINY[0], "--data", TINY[1])
        assert code == 2 and words in err


def test_check_says_by_its_exit_code_whether_a_network_agrees(call, schedule, tmp_path):
    code, out, _ = call("translate", schedule, "--model", TINY[0], "--data", TINY[1], "--check", TINY[0])
    assert code == 1 and "differences" in out
    code, _, err = call(
        "translate", schedule, "--model", TINY[0], "--data", TINY[1], "--check", TINY[0], "--out", tmp_path / "r.yaml"
    )
    assert code == 2 and "writes no recipe" in err
