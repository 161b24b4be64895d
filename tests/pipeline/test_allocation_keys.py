"""Every key of a recipe that concerns the allocation reaches the plan."""

import json
from pathlib import Path

import pytest

from secateur.errors import ArtifactError, SparsityError
from secateur.pipeline import Context, build_images
from secateur.pipeline.parts import plan_of
from secateur.recipe import build_recipe
from secateur.sparsity import LayerSeconds, SensitivityRow, SensitivityTable, SparsityPlan


def plan(**keys) -> SparsityPlan:
    stage = {"stage": "sparsify", "pattern": "unstructured", "training": {"epochs": 0}, **keys}
    recipe = build_recipe(
        {"model": {"name": "tiny_networks:network"}, "data": {"name": "tiny_networks:images"}, "stages": [stage]}
    )
    context = Context.of(recipe, Path("run"), build_images(recipe.data))
    return plan_of(context, recipe.stages[0])


@pytest.mark.parametrize(
    ("less", "more", "layer"),
    [
        ({"allocation": "erk", "power": 0.2}, {"allocation": "erk", "power": 1.0}, "body"),
        ({"allocation": "energy", "tuning": 0.9}, {"allocation": "energy", "tuning": 0.0}, "body"),
        ({"allocation": "erk", "cap": 0.62}, {"allocation": "erk"}, "body"),
        ({"allocation": "erk", "floor": 0.38}, {"allocation": "erk"}, "body"),
        ({"allocation": "erk", "level_max_factor": 1.02}, {"allocation": "erk"}, "body"),
        ({"allocation": "erk", "density_min_factor": 0.98}, {"allocation": "erk"}, "body"),
    ],
)
def test_keys_change_the_levels(less, more, layer):
    few, many = (plan(sparsity=0.6, base="selected", **keys) for keys in (less, more))
    assert few.levels[layer] < many.levels[layer] - 0.005
    assert few.achieved == pytest.approx(0.6, abs=0.01) and many.achieved == pytest.approx(0.6, abs=0.01)


def test_a_sensitivity_table_and_a_bound_decide_without_a_target(tmp_path):
    dense = SensitivityRow("", 0.0, 0.0, 70.0, 90.0, 1.0, 0.0)
    rows = tuple(
        SensitivityRow(name, level, level, 70 - cost, 90.0, 1.0, 0.0)
        for name, costs in {"body": (0, 0.2, 3.0), "point": (0, 1.0, 2.0)}.items()
        for level, cost in zip((0.0, 0.5, 0.9), costs, strict=True)
    )
    path = tmp_path / "sensitivity.json"
    path.write_text(json.dumps(SensitivityTable("top1", "unstructured", "magnitude", 9, dense, rows, {}).to_dict()))
    found = plan(allocation="sensitivity", sensitivity=str(path), bound=0.5)
    assert found.levels == {"body": 0.5, "point": 0.0}
    assert plan(allocation="sensitivity", sensitivity=str(path), sparsity=0.4).achieved == pytest.approx(0.4, abs=0.01)
    with pytest.raises(SparsityError, match=r"its sensitivity\.json"):
        plan(allocation="sensitivity", sparsity=0.4)
    with pytest.raises(ArtifactError, match="no such file"):
        plan(allocation="sensitivity", sensitivity=str(tmp_path / "nothing.json"), sparsity=0.4)


def test_measured_times_hold_layers_back(tmp_path):
    path = tmp_path / "seconds.json"
    LayerSeconds("here", "unstructured", {"body": {0.0: 1.0, 0.5: 1.0}, "point": {0.0: 1.0, 0.5: 0.5}}).write(path)
    found = plan(hardware=str(path), sparsity=0.4, base="selected")
    assert found.levels == {"point": 0.4} and "no level makes it faster here" in found.skipped["body"]


def test_levels_from_a_file(tmp_path):
    path = tmp_path / "levels.yaml"
    path.write_text("body: 0.5\nstem: 0.25\n")
    found = plan(levels_file=str(path), allocation="listed")
    assert found.levels == {"stem": 0.25, "body": 0.5} and found.sparsity == pytest.approx(
        (0.25 * 216 + 0.5 * 1152) / found.total
    )
    assert plan(levels_file=str(path), sparsity=0.3, base="selected").levels == {
        "stem": 0.25,
        "body": 0.5,
        "point": pytest.approx(0.3),
    }
