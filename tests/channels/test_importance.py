"""Scores of groups, against sums by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from channels.topologies import conv, network
from secateur.channels.importance import group_scores
from secateur.channels.planning import plan_channels
from secateur.channels.trace import channel_groups
from secateur.errors import RecipeError, SparsityError
from secateur.sparsity import attach_masks_, set_mask_
from secateur.sparsity.filter_scores import FilterScores
from secateur.sparsity.scoring import Scoring


def l1(weight):
    return weight.flatten(1).abs().sum(1)


@pytest.fixture(scope="module")
def residual():
    model = network("residual")
    return model, channel_groups(model, (3, 8, 8))


def filters(weight, axis=0):
    return weight.detach().movedim(axis, 0).flatten(1).abs().sum(1).numpy()


def test_a_group_is_the_sum_over_its_producers(residual):
    model, groups = residual
    found = group_scores(model, groups, l1, normalize="none")["stem.0"]
    wanted = filters(model.stem[0].weight) + filters(model.b.weight) + filters(model.d.weight)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize(("name", "size"), [("max", np.max), ("mean", np.mean), ("norm", np.linalg.norm)])
def test_each_tensor_is_normalised_alone(residual, name, size):
    model, groups = residual
    found = group_scores(model, groups, l1, normalize=name)["stem.0"]
    parts = [filters(weight) for weight in (model.stem[0].weight, model.b.weight, model.d.weight)]
    np.testing.assert_allclose(found, sum(part / size(part) for part in parts), rtol=1e-12)


def test_consumers_count_on_request(residual):
    model, groups = residual
    found = group_scores(model, groups, l1, normalize="none", consumers=True)["a.0"]
    np.testing.assert_allclose(found, filters(model.a[0].weight) + filters(model.b.weight, 1), rtol=1e-12)


def test_the_leader_decides_alone(residual):
    model, groups = residual
    found = group_scores(model, groups, l1, normalize="none", leader=True)["stem.0"]
    np.testing.assert_allclose(found, filters(model.stem[0].weight), rtol=1e-12)


def test_depthwise_filters_count_with_their_channel():
    model = network("depthwise")
    groups = channel_groups(model, (3, 8, 8))
    found = group_scores(model, groups, l1, normalize="none")["2.0"]
    twice = filters(model[3][0].weight).reshape(12, 2).sum(1)
    np.testing.assert_allclose(found, filters(model[2][0].weight) + twice, rtol=1e-12)


def test_inputs_of_a_grouped_layer_are_counted_group_by_group():
    model = network("grouped")
    groups = channel_groups(model, (3, 8, 8))
    found = group_scores(model, groups, l1, normalize="none", consumers=True)["0.0"]
    kernel = model[1][0].weight.detach().abs().sum((2, 3)).numpy()  # (8, 3), 4 groups of 2 filters
    read = np.concatenate([kernel[2 * part : 2 * part + 2].sum(0) for part in range(4)])
    np.testing.assert_allclose(found, filters(model[0][0].weight) + read, rtol=1e-12)


def test_a_transposed_layer_has_its_filters_along_its_second_axis():
    model = network("transposed")
    groups = channel_groups(model, (3, 8, 8))
    found = group_scores(model, groups, l1, normalize="none")["2"]
    np.testing.assert_allclose(found, filters(model[2].weight, 1), rtol=1e-12)


def test_masked_weights_count_as_zeros():
    model = network("chain")
    attach_masks_(model, ["1.0"])
    mask = torch.ones(6, 8, 3, 3, dtype=torch.bool)
    mask[4] = False
    set_mask_(model[1][0], mask)
    groups = channel_groups(model, (3, 8, 8))
    assert group_scores(model, groups, l1)["1.0"].argmin() == 4
    assert group_scores(model, groups, l1)["1.0"].min() == 0


def test_criteria_of_the_sparsity_room_go_by_name(residual):
    model, groups = residual
    found = group_scores(model, groups, "l1_norm", normalize="none")["c.0"]
    np.testing.assert_allclose(found, filters(model.c[0].weight), rtol=1e-12)
    assert not np.allclose(group_scores(model, groups, "fpgm")["c.0"], group_scores(model, groups, "l2")["c.0"])
    with pytest.raises(RecipeError, match="unknown criterion 'l3'"):
        group_scores(model, groups, "l3")


def test_scores_by_layer_are_taken_as_they_are(residual):
    model, groups = residual
    given = {"a.0": torch.arange(6.0), "c.0": torch.arange(4.0), "stem.0": torch.arange(8.0)}
    found = group_scores(model, groups, given, normalize="none")
    assert found["a.0"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["stem.0"].tolist() == list(range(8))  # of its three producers one has scores
    plan = plan_channels(model, 0.5, (3, 8, 8), base="channels", criterion=given)
    assert next(cut.kept for cut in plan.cuts if (cut.tensor, cut.axis) == ("a.0.weight", 0)) == (3, 4, 5)


def test_criteria_that_look_at_norms_come_as_scores_by_layer(residual):
    model, groups = residual
    given = FilterScores(model, Scoring("bn_scale"))
    found = group_scores(model, groups, given, normalize="none")["a.0"]
    np.testing.assert_allclose(found, model.a[1].weight.detach().abs().numpy(), rtol=1e-6)
    stem = model.stem[1].weight.detach().abs().numpy()  # no norm follows the two other layers of its group
    np.testing.assert_allclose(group_scores(model, groups, given, normalize="none")["stem.0"], stem, rtol=1e-6)
    with pytest.raises(SparsityError, match="norm"):
        group_scores(model, groups, "bn_scale")


def test_a_group_without_scores_stays_whole_and_is_told(residual):
    model, groups = residual
    assert set(group_scores(model, groups, {"a.0": torch.ones(6)})) == {"a.0"}
    plan = plan_channels(model, 0.5, (3, 8, 8), base="channels", criterion={"a.0": torch.ones(6)})
    assert {group.name for group in plan.groups if group.after < group.before} == {"a.0"}
    assert "the criterion has no scores for its layers" in str(plan)


@pytest.mark.parametrize("wrong", [torch.ones(5), torch.tensor([1.0, 2, 3, float("nan"), 5, 6])])
def test_scores_of_another_size_or_that_are_no_numbers_are_refused(residual, wrong):
    model, groups = residual
    with pytest.raises(SparsityError, match=r"a\.0: its 6 filters need one finite score each"):
        group_scores(model, groups, {"a.0": wrong})


def test_an_unknown_normalisation_is_refused(residual):
    with pytest.raises(SparsityError, match="Did you mean 'mean'"):
        group_scores(*residual, l1, normalize="meen")


def test_layers_of_one_shape_draw_different_numbers_and_every_plan_the_same():
    model = nn.Sequential(*(conv(3 if i == 0 else 8, 8) for i in range(4)), conv(8, 4))
    plans = [plan_channels(model, 0.5, (3, 8, 8), base="channels", criterion="random") for _ in range(2)]
    kept = [{cut.tensor: cut.kept for cut in plan.cuts if cut.role == "producer"} for plan in plans]
    assert kept[0] == kept[1] and len(kept[0]) == 4
    assert len(set(kept[0].values())) == 4
