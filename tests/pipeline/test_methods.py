"""Ways of training that choose the masks, in a recipe: exactly the asked zeros, said before, resumable, described."""

from pathlib import Path

import pytest
import torch

import tiny_networks
from secateur.errors import RecipeError, TrainingError
from secateur.pipeline import Context, stage_handlers
from secateur.pipeline.check import check_recipe
from secateur.pipeline.dry_run import describe
from secateur.recipe import build_recipe
from secateur.sparsity import masks

TRAINING = {"epochs": 4, "batch_size": 16, "learning_rate": 0.05, "checkpoint_seconds": 1e-9}
ASKED = {
    "probmask": {"method": {"kind": "probmask", "score_learning_rate": 0.02}},
    "str": {"method": {"kind": "str"}},
    "admm": {"method": {"kind": "admm", "rho": 0.01}},
    "rigl": {"schedule": {"kind": "rigl", "every": 2}},
    "acdc": {"schedule": {"kind": "acdc", "last": 1}},
}
PLAIN = {"pattern": "unstructured", "sparsity": 0.5, "base": "selected", "include_classifier": True}


def context(folder: Path, **stage):
    torch.set_num_threads(1)
    recipe = build_recipe(
        {
            "model": {"name": "tiny_networks:network"},
            "data": {"name": "tiny_networks:images"},
            "stages": [{"stage": "sparsify", "training": TRAINING, **PLAIN, **stage}],
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = tiny_networks.network()
    return Context(recipe, folder, tiny_networks.images(), network, stage_folder=folder)


def run(made):
    return stage_handlers["sparsify"](made, made.recipe.stages[0])


def zeros(network):
    return sum(int((~mask).sum()) for mask in masks(network).values())


@pytest.mark.parametrize("name", ASKED)
def test_a_recipe_with_a_method(tmp_path, name):
    made = context(
        tmp_path, **ASKED[name], training=TRAINING | {"epochs": 8, "learning_rate": 0.1, "checkpoint_seconds": 60}
    )
    assert f"the masks are chosen while training, by {name} (" in describe(made)
    result = run(made)
    (plan,) = result["plans"]
    asked = 0.5 * sum(layer["units"] for layer in plan["layers"] if layer["level"] is not None)
    assert zeros(made.network) == sum(layer["zeros"] for layer in plan["layers"]) == pytest.approx(asked, abs=3)
    assert len(result["history"]) == 8 and result["history"][-1]["top1"] > 40  # chance is 25


def test_a_method_without_training_is_a_schedule_of_one_step(tmp_path):
    made = context(tmp_path, training={"epochs": 0}, **ASKED["probmask"])
    assert run(made)["history"] == [] and zeros(made.network) > 0
    assert "chosen while training" not in describe(made)


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        ({"pattern": "2:4", "sparsity": None, **ASKED["str"]}, "str exchanges units of weights freely, and 2:4 fixes"),
        ({**ASKED["admm"], **ASKED["rigl"]}, "method admm and schedule rigl both choose the masks"),
        ({**ASKED["str"], "training": TRAINING | {"average_weights": 0.9}}, "leave average_weights out"),
        ({"regression": {}}, "regression fits layers whose masks stay as they are"),
        ({"regression": {}, **ASKED["admm"]}, "regression fits layers whose masks stay as they are"),
    ],
)
def test_what_cannot_be_is_said_before(tmp_path, stage, sentence):
    with pytest.raises((RecipeError, TrainingError), match=sentence):
        check_recipe(context(tmp_path, **stage))


def test_admm_can_have_any_pattern(tmp_path):
    made = context(
        tmp_path,
        **ASKED["admm"] | {"pattern": "2:4", "include_classifier": False, "training": TRAINING | {"epochs": 2}},
    )
    run(made)
    mask = masks(made.network)["point"].flatten(1)
    assert (mask.reshape(len(mask), -1, 4).sum(2) == 2).all()


def test_regularisers_of_a_stage(tmp_path):
    regularize = [
        {"kind": "group_lasso", "strength": 0.05, "group": "filter", "layers": ["body"]},
        {"kind": "drop_filter", "strength": 0.1},
    ]
    made = context(tmp_path / "with", regularize=regularize, training=TRAINING | {"epochs": 2})
    assert "regularised by group_lasso at 0.05" in describe(made)
    run(made)
    plain = context(tmp_path / "without", training=TRAINING | {"epochs": 2})
    run(plain)
    assert made.network.body.weight.norm() < 0.95 * plain.network.body.weight.norm()


def test_regression_before_the_training(tmp_path, capsys):
    stage = {"schedule": {"kind": "one_shot"}, "regression": {"iterations": 5}}
    at_once = context(tmp_path / "none", training={"epochs": 0}, **stage)
    plain = context(tmp_path / "plain", training={"epochs": 0}, schedule={"kind": "one_shot"})
    assert "layers are fitted to the dense ones first, 5 iterations" in describe(at_once)
    run(at_once)
    assert "layers are nearer to the dense ones after 5 iterations" in capsys.readouterr().err
    run(plain)
    for name, mask in masks(plain.network).items():
        assert torch.equal(masks(at_once.network)[name], mask)
    assert not torch.equal(at_once.network.body.weight, plain.network.body.weight)

    trained = context(tmp_path / "trained", training=TRAINING | {"epochs": 1}, **stage)
    run(trained)
    for name, mask in masks(plain.network).items():
        assert torch.equal(masks(trained.network)[name], mask)
    again = context(tmp_path / "trained", training=TRAINING | {"epochs": 1}, **stage)
    run(again)  # the finished training is read, nothing is fitted
    assert "nearer" not in capsys.readouterr().err.split("sparsify: ")[-1]
    assert torch.equal(again.network.body.weight, trained.network.body.weight)
