"""The stage sparsify: parts with plans and schedules of their own, groups of layers, thresholds; killed and resumed."""

from pathlib import Path

import pytest
import torch

import tiny_networks
from secateur.errors import RecipeError, SparsityError
from secateur.files import read_json
from secateur.pipeline import Context, plans_of, run_recipe, stage_handlers
from secateur.pipeline.check import check_recipe
from secateur.pipeline.dry_run import describe
from secateur.pipeline.stages import sparsify as stage_module
from secateur.recipe import build_recipe
from secateur.report.collect import collect
from secateur.sparsity import Mask, SparsityPlan, masks

TRAINING = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "checkpoint_seconds": 1e-9}
PARTS = [
    {"layers": ["body", "point"], "pattern": "unstructured", "sparsity": 0.5, "base": "selected",
     "schedule": {"kind": "agp", "end": 3}},
    {"layers": ["classifier"], "pattern": "unstructured", "sparsity": 0.25, "base": "selected",
     "schedule": {"kind": "fixed", "at": [1]}},
]  # fmt: skip


def context(folder: Path, **stage):
    torch.set_num_threads(1)
    recipe = build_recipe(
        {
            "model": {"name": "tiny_networks:network"},
            "data": {"name": "tiny_networks:images"},
            "stages": [{"stage": "sparsify", "training": TRAINING, **stage}],
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = tiny_networks.network()
    return Context(recipe, folder, tiny_networks.images(), network, stage_folder=folder)


def run(folder: Path, **stage):
    made = context(folder, **stage)
    return made.network, stage_handlers["sparsify"](made, made.recipe.stages[0])


def zeros(network):
    return {name: int((~mask).sum()) for name, mask in masks(network).items()}


def same(one, other):
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_every_part_has_its_plan_and_its_schedule(tmp_path):
    network, result = run(tmp_path, parts=PARTS)
    # body 8 * 16 * 9, point 16 * 18, classifier 18 * 4
    assert zeros(network) == {"body": 576, "point": 144, "classifier": 18}
    first, second = (SparsityPlan.from_dict(plan) for plan in result["plans"])
    assert list(first.levels) == ["body", "point"] and list(second.levels) == ["classifier"]
    assert first.skipped["classifier"] == second.skipped["body"] == "not in this part"
    # stem 216, body 1152, depthwise 144, point 288, classifier 72: 1872 weights
    sparsity = [row["sparsity"] * 1872 for row in result["history"]]
    assert sparsity == pytest.approx([71, 18 + 638, 18 + 720]), "5 %, 44.375 %, 50 % of 1152 and 288; 25 % of 72"


def test_a_layer_in_two_parts_is_an_error_before_anything_runs(tmp_path):
    again = [PARTS[0], PARTS[1] | {"layers": ["classifier", "point"]}]
    made = context(tmp_path, parts=again)
    with pytest.raises(SparsityError, match="point: belongs to part 1 and to part 2"):
        check_recipe(made)


def test_a_schedule_that_does_not_fit_is_found_in_every_part(tmp_path):
    late = [PARTS[0], PARTS[1] | {"schedule": {"kind": "fixed", "at": [3]}}]
    with pytest.raises(RecipeError, match="ends at epoch 4, but training has only 3"):
        check_recipe(context(tmp_path, parts=late))


def test_the_dry_run_tells_all_parts_and_their_total(tmp_path):
    text = describe(context(tmp_path, parts=PARTS, groups=2))
    assert "part 1: sparsity by epoch: 5.0 44.4 50.0 %" in text
    assert "part 2: sparsity by epoch: 0.0 25.0 25.0 %" in text
    assert "39.42" in text and "738" in text and "1,872" in text, "738 of 1872"
    assert "2 groups of up to 2 layers, 3 epochs for each" in text


def test_groups_are_pruned_one_after_the_other(tmp_path):
    network, result = run(tmp_path, parts=PARTS, groups=2)
    assert zeros(network) == {"body": 576, "point": 144, "classifier": 18}
    assert [row["epoch"] for row in result["history"]] == list(range(6)), "three epochs for each of two groups"
    sparsity = [row["sparsity"] * 1872 for row in result["history"]]
    assert sparsity == pytest.approx([71, 638, 720, 720, 738, 738])
    assert [plan["achieved"] for plan in result["plans"]] == [0.5, 0.25]
    assert sorted(path.name for path in tmp_path.glob("group-*")) == ["group-01", "group-02"]


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop", [4, 25])
def test_groups_go_on_where_they_were_killed(tmp_path, stop, monkeypatch):
    """The run has 36 steps, 18 for each group."""
    whole, result = run(tmp_path / "whole", parts=PARTS, groups=2)
    broken = context(tmp_path / "broken", parts=PARTS, groups=2)
    steps = 0

    def count(module, *_):
        nonlocal steps
        steps += module.training
        if steps > stop:
            raise StoppedError

    broken.network.register_forward_pre_hook(count)
    with pytest.raises(StoppedError):
        stage_handlers["sparsify"](broken, broken.recipe.stages[0])
    resumed, again = run(tmp_path / "broken", parts=PARTS, groups=2)
    same(resumed, whole)
    assert [row["loss"] for row in again["history"]] == [row["loss"] for row in result["history"]]


def test_thresholds_report_what_they_reached(tmp_path):
    network, result = run(
        tmp_path, pattern="unstructured", schedule={"kind": "threshold", "sensitivities": {"*": 0.5, "stem": 0.1}}
    )
    plan = SparsityPlan.from_dict(result["plans"][0])
    assert set(plan.levels) == {"stem", "body", "point"}, "named layers and all that `*` may mean"
    assert {layer.name: layer.zeros for layer in plan.layers if layer.level is not None} == zeros(network)
    # weights of a convolution are uniform on (-a, a), sigma = a / sqrt(3): half a sigma keeps 71 %
    assert plan.levels["body"] == pytest.approx(0.5 / 3**0.5, abs=0.06)
    assert plan.achieved == plan.sparsity == sum(zeros(network).values()) / 1872
    assert result["history"][-1]["sparsity"] == pytest.approx(plan.achieved)


def test_thresholds_without_training(tmp_path):
    network, result = run(
        tmp_path,
        pattern="unstructured",
        training={"epochs": 0},
        schedule={"kind": "threshold", "thresholds": {"body": 0.05}},
    )
    weight = network.body.parametrizations.weight.original
    assert list(zeros(network)) == ["body"]
    assert torch.equal(masks(network)["body"], weight.abs() > 0.05)
    assert result["history"] == []


def test_a_random_level_is_planned_at_its_highest(tmp_path):
    stage = {
        "pattern": "unstructured",
        "base": "selected",
        "schedule": {"kind": "random", "low": 0.2, "high": 0.6, "end": 3},
    }
    made = context(tmp_path, **stage)
    assert plans_of(made, made.recipe.stages[0])[0].sparsity == 0.6
    _, result = run(tmp_path, **stage)
    rows = [row["sparsity"] for row in result["history"]]
    assert len(set(rows)) == 3 and all(0.2 * 1440 / 1872 <= row <= 0.6 * 1440 / 1872 for row in rows)
    with pytest.raises(RecipeError, match="contradict each other; leave sparsity out"):
        check_recipe(context(tmp_path, **stage, sparsity=0.5))


def test_masks_may_be_lifted_in_the_end(tmp_path):
    network, _ = run(
        tmp_path, pattern="unstructured", base="selected", mask={"keep_at_end": False}, schedule={"kind": "one_shot"}
    )
    assert set(zeros(network).values()) == {0}


def test_a_part_may_take_its_levels_from_a_file(tmp_path):
    file = tmp_path / "levels.yaml"
    file.write_text("body: 0.25\npoint: 0.5\n")
    network, _ = run(
        tmp_path, pattern="unstructured", allocation="listed", levels_file=str(file), training={"epochs": 0},
        schedule={"kind": "one_shot"},
    )  # fmt: skip
    assert zeros(network) == {"body": 288, "point": 144}


def test_a_run_of_parts_is_exported_and_reported(tmp_path):
    recipe = build_recipe(
        {
            "model": {"name": "tiny_networks:network"},
            "data": {"name": "tiny_networks:images"},
            "stages": [
                {"stage": "sparsify", "parts": PARTS, "training": TRAINING | {"epochs": 0}},
                {"stage": "export", "check_images": 8},
            ],
        }
    )
    record = run_recipe(Context.of(recipe, tmp_path / "run"))
    content = collect(record)
    assert (content.technique.pattern, content.technique.base) == ("unstructured", "conv_linear")
    assert content.technique.planned == pytest.approx(738 / 1872)
    levels = {layer.name: (layer.level, layer.skipped) for layer in content.layers}
    assert levels["classifier"] == (0.25, None) and levels["stem"] == (None, "not in this part")
    assert len(record.results("sparsify")[0]["plans"]) == 2
    plans = read_json(tmp_path / "run" / "plan.json")["sparsify"]
    assert [SparsityPlan.from_dict(plan).zeros for plan in plans] == [720, 18]


def test_the_stage_keeps_nothing_of_its_rule_for_gradients(tmp_path):
    network, _ = run(
        tmp_path, pattern="unstructured", base="selected", mask={"gradients": "all"}, schedule={"kind": "one_shot"}
    )
    assert not any(module.straight_through for module in network.modules() if isinstance(module, Mask))
    assert stage_module.sparsify_stage is stage_handlers["sparsify"]
