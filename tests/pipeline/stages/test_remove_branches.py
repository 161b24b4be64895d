"""Residual branches taken out in a run: the cheapest first, resumed, rebuilt from the artifact, timed."""

import pytest
import torch

import tiny_networks
from secateur.errors import DataError, SparsityError
from secateur.files import read_json
from secateur.pipeline import Context, branch_choice, load_artifact_network, run_recipe
from secateur.pipeline.dry_run import describe
from secateur.recipe import build_recipe

TRAINING = {"epochs": 1, "batch_size": 32, "learning_rate": 0.05}


def recipe(*after, data="tiny_networks:images", **stage):
    chosen = {"stage": "remove_branches", "target": 0.6, "images": 32, "training": TRAINING} | stage
    stages = [{"stage": "evaluate"}, chosen, *after]
    return build_recipe({"model": {"name": "tiny_networks:residual"}, "data": {"name": data}, "stages": stages})


EXPORT = ({"stage": "evaluate"}, {"stage": "export", "check_images": 8})


def start(folder, chosen, prepare=lambda network: None):
    context = Context.of(chosen, folder)
    prepare(context.network)
    return context, run_recipe(context)


def weaken_(network):
    """The last block hardly adds anything, the first one much."""
    with torch.no_grad():
        for block, factor in zip(network.blocks, (3.0, 0.3, 0.001), strict=True):
            block.conv2.weight *= factor
            block.conv2.bias *= factor


def test_the_branches_that_cost_least_go_and_the_artifact_is_the_smaller_network(tmp_path):
    context, record = start(tmp_path, recipe(*EXPORT), weaken_)
    result = record.results("remove_branches")[0]
    plan = result["removals"][0]
    assert [branch["name"] for branch in plan["branches"]] == ["blocks.2", "blocks.1"]
    assert 0 <= plan["losses"][0] < plan["losses"][1]
    assert len(result["history"]) == 1
    assert [name for name, _ in context.network.named_children()] == ["stem", "blocks", "classifier"]
    assert not list(context.network.blocks[1].parameters())
    image = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(load_artifact_network(tmp_path / "weights.safetensors")(image), context.network(image))
    counts = record.results("export")[0]["census"]
    # Relative to the dense network, in which the removed layers count.
    assert counts["compressed"]["totals"]["compute_reduction"] == pytest.approx(plan["macs"][0] / plan["macs"][1])


def test_a_killed_choice_goes_on_with_the_same_plan(tmp_path, monkeypatch):
    chosen = recipe(training={"epochs": 0})
    _, record = start(tmp_path / "whole", chosen)
    whole = record.results("remove_branches")[0]["removals"][0]

    class Killed(BaseException):
        pass

    def write_then_die(path, value):
        real(path, value)
        raise Killed

    real = branch_choice.write_json
    monkeypatch.setattr(branch_choice, "write_json", write_then_die)
    with pytest.raises(Killed):
        start(tmp_path / "killed", chosen)
    monkeypatch.undo()
    path = tmp_path / "killed" / "stages" / "02-remove_branches" / "branches.json"
    assert len(read_json(path)["branches"]) == 1
    _, record = start(tmp_path / "killed", chosen)
    assert record.results("remove_branches")[0]["removals"][0] == whole


def test_a_finished_stage_is_replayed(tmp_path):
    chosen = recipe(training={"epochs": 0})
    context, _ = start(tmp_path, chosen)
    longer = recipe(*EXPORT, training={"epochs": 0})
    again, record = start(tmp_path, longer)
    assert again.network.state_dict().keys() == context.network.state_dict().keys()
    assert len(record.results("evaluate")) == 2


def test_excluded_blocks_stay(tmp_path):
    chosen = recipe(target=0.3, exclude=["blocks.2", "blocks.[1]"], training={"epochs": 0})
    _, record = start(tmp_path, chosen, weaken_)
    assert [branch["name"] for branch in record.results("remove_branches")[0]["removals"][0]["branches"]] == [
        "blocks.0"
    ]


@pytest.mark.parametrize(
    ("stage", "said"),
    [({"target": 0.99}, r"99 % of the macs cannot be removed: 3 residual branches may go, with 9\d\.\d %"),
     ({"exclude": ["blocks.*"]}, "0 residual branches may go"),
     ({"exclude": ["stem"]}, "residual block or glob 'stem'")],
)  # fmt: skip
def test_what_cannot_be_is_said_before_anything_runs(tmp_path, stage, said):
    with pytest.raises(SparsityError, match=said):
        start(tmp_path, recipe(**stage))
    assert not (tmp_path / "stages").exists()


def test_images_without_a_training_split_are_refused(tmp_path, monkeypatch):
    images = tiny_networks.images()
    bare = type(images)(images.name, None, images.test, images.classes)
    monkeypatch.setattr(tiny_networks, "images", lambda: bare)
    with pytest.raises(DataError, match="no train"):
        start(tmp_path, recipe(training={"epochs": 0}))


def test_a_dry_run_lists_the_branches(tmp_path):
    text = describe(Context.of(recipe(), tmp_path))
    assert "60 % of the macs in residual branches" in text
    assert "blocks.1 (73,728 MACs)" in text
