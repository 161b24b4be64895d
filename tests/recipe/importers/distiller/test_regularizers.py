"""Regularizers of Distiller as ours."""

import pytest

from secateur.errors import RecipeError

A, B = "module.layer1.0.conv1.weight", "module.layer1.0.conv2.weight"


def schedule(body, args=""):
    return (
        f"regularizers:\n  r: {{{body}}}\npolicies:\n  - regularizer: {{instance_name: r{args}}}\n"
        "    starting_epoch: 0\n    ending_epoch: 4\n    frequency: 1\n"
    )


def penalties(tools, body, args=""):
    (stage,) = tools.stages(tools.read(schedule(body, args)), "finetune")
    return stage.regularize


def test_l1_of_layers_with_one_strength_is_one_penalty(tools):
    first, second = penalties(tools, f"class: L1Regularizer, reg_regims: {{{A}: 1e-4, {B}: 0.0001, fc.weight: 0.01}}")
    assert (first.kind, first.strength, first.layers) == ("l1", 1e-4, ("layer1.0.conv1", "layer1.0.conv2"))
    assert (second.strength, second.layers) == (0.01, ("fc",))


@pytest.mark.parametrize(("name", "kind"), [("GroupLasso", "group_lasso"), ("GroupVariance", "group_variance")])
@pytest.mark.parametrize(
    ("group", "ours"),
    [
        ("3D", "filter"),
        ("2D", "kernel"),
        ("4D", "layer"),
        ("Rows+Cols", "row+column"),
        ("Channels+4D", "channel+layer"),
    ],
)
def test_groups(tools, name, kind, group, ours):
    (found,) = penalties(tools, f"class: {name}Regularizer, reg_regims: {{{A}: [0.001, {group}]}}")
    assert (found.kind, found.group, found.strength) == (kind, ours, 0.001)


def test_threshold_and_kept_mask(tools):
    (found,) = penalties(
        tools,
        f"class: GroupLassoRegularizer, threshold_criteria: Max, reg_regims: {{{A}: [0.001, 3D]}}",
        ", args: {keep_mask: True}",
    )
    assert (found.threshold, found.keep_mask) == ("max", True)


def test_dropped_filters(tools):
    (found,) = penalties(tools, f"class: DropFilterRegularizer, reg_regims: {{{A}: 0.1}}")
    assert (found.kind, found.strength) == ("drop_filter", 0.1)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"class: L2Regularizer, reg_regims: {{{A}: 1}}", "Did you mean 'L1Regularizer'?"),
        ("class: L1Regularizer", "has 'reg_regims', one parameter or more"),
        (f"class: L1Regularizer, reg_regims: {{{A}: [1, 3D]}}", "is a number"),
        (f"class: GroupLassoRegularizer, reg_regims: {{{A}: 1}}", "is [strength, group]"),
        (f"class: GroupLassoRegularizer, reg_regims: {{{A}: [1, 5D]}}", "unknown group '5D'"),
        (f"class: GroupLassoRegularizer, reg_regims: {{{A}: [0, 3D]}}", "is above 0"),
        (f"class: L1Regularizer, threshold_criteria: Mean, reg_regims: {{{A}: 1}}", "Did you mean 'Mean_Abs'?"),
    ],
)
def test_a_faulty_regularizer_is_a_sentence(tools, body, words):
    with pytest.raises(RecipeError) as caught:
        penalties(tools, body)
    assert words in str(caught.value) and str(caught.value).startswith("f.yaml:2")
