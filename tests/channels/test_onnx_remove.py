"""Channels removed from ONNX files: the same function as with these channels zero, on every topology."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import onnx_topologies as topologies
from channels.onnx_topologies import TOPOLOGIES, distance, picked, plan_of, run, zeroed
from secateur.channels.onnx_remove import remove_channels_onnx, without_channels
from secateur.channels.onnx_trace import groups_of_onnx, trace_onnx
from secateur.channels.plan import RemovalPlan
from secateur.errors import SparsityError
from secateur.graph.onnx_census import census_of_onnx

TOLERANCE = 1e-5


def removed(model, plan, folder):
    return onnx.load(remove_channels_onnx(model, folder / "thin.onnx", plan))


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_removed_is_masked(name, share, tmp_path):
    model = TOPOLOGIES[name]()
    groups = groups_of_onnx(model)
    units = picked(trace_onnx(model), share)
    assert units
    thin = removed(model, plan_of(groups, units), tmp_path)
    assert distance(run(zeroed(model, groups, units, ("consumer",))), run(thin)) < TOLERANCE
    assert groups_of_onnx(thin).parameters < groups.parameters


@given(st.sampled_from(["shuffle", "computed_numbers", "moves", "residual_padded", "grouped"]), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_any_choice_of_channels_moves_rightly(name, seed):
    model = TOPOLOGIES[name]()
    groups = groups_of_onnx(model)
    units = picked(trace_onnx(model), np.random.default_rng(seed).random(), seed)
    thin = without_channels(trace_onnx(model), plan_of(groups, units))
    assert distance(run(zeroed(model, groups, units, ("consumer",))), run(thin)) < TOLERANCE


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_plan_counts_what_the_census_counts(name, tmp_path):
    model = TOPOLOGIES[name]()
    groups = groups_of_onnx(model)
    plan = plan_of(groups, picked(trace_onnx(model), 0.5))
    thin = removed(model, plan, tmp_path)
    assert (plan.macs_before, plan.macs_after) == (census_of_onnx(model).macs, census_of_onnx(thin).macs)
    assert groups_of_onnx(thin).parameters == plan.parameters_after


def test_plan_replays_from_json(tmp_path):
    model = topologies.residual()
    groups = groups_of_onnx(model)
    plan = plan_of(groups, picked(trace_onnx(model), 0.5))
    again = RemovalPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert removed(model, again, tmp_path) == removed(model, plan, tmp_path)


def test_outputs_need_not_say_their_shape(tmp_path):
    model = topologies.residual()
    plan = plan_of(groups_of_onnx(model), picked(trace_onnx(model), 0.5))
    expected = run(removed(model, plan, tmp_path))
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    assert distance(expected, run(removed(model, plan, tmp_path))) == 0


def test_empty_plan_changes_nothing(tmp_path):
    model = topologies.shuffle()
    thin = removed(model, plan_of(groups_of_onnx(model), {}), tmp_path)
    assert distance(run(model), run(thin)) == 0
    assert len(thin.graph.node) == len(model.graph.node)


def test_source_stays_as_it_is(tmp_path):
    model = topologies.chain()
    before = model.SerializeToString()
    groups = groups_of_onnx(model)
    removed(model, plan_of(groups, picked(trace_onnx(model), 0.5)), tmp_path)
    assert model.SerializeToString() == before


def test_even_shuffle_stays_a_shuffle_and_an_uneven_one_becomes_a_gather(tmp_path):
    model = topologies.shuffle()
    groups = groups_of_onnx(model)
    ops = {}
    for what, units in {
        "even": {"s": [0], "s:2": [0], "a": [0], "a:2": [0], "j": [0, 1]},
        "uneven": {"j": [1]},
    }.items():
        units = {name: np.array(entries) for name, entries in units.items()}
        thin = removed(model, plan_of(groups, units), tmp_path)
        assert distance(run(zeroed(model, groups, units, ("consumer",))), run(thin)) < TOLERANCE
        ops[what] = [node.op_type for node in thin.graph.node]
    assert ops["uneven"].count("Gather") == 1 and ops["uneven"].count("Transpose") == 1


def test_numbers_computed_from_the_batch_go_on_being_computed(tmp_path):
    model = topologies.computed_numbers()
    groups = groups_of_onnx(model)
    units = picked(trace_onnx(model), 0.5)
    thin = removed(model, plan_of(groups, units), tmp_path)
    masked = zeroed(model, groups, units, ("consumer",))
    for batch in (1, 3):
        assert distance(run(masked, batch), run(thin, batch)) < TOLERANCE


def test_depthwise_loses_groups_and_grouped_keeps_them(tmp_path):
    def group_attributes(model):
        return [a.i for node in model.graph.node for a in node.attribute if a.name == "group"]

    for name, expected in (("depthwise", [4, 3]), ("grouped", [4])):
        model = TOPOLOGIES[name]()
        groups = groups_of_onnx(model)
        assert group_attributes(removed(model, plan_of(groups, picked(trace_onnx(model), 0.5)), tmp_path)) == expected


# --------------------------------------------------------------------------------------------- plans that do not fit


def changed(plan, **changes):
    value = plan.to_dict()
    for key, change in changes.items():
        for cut in value["cuts"]:
            if cut["tensor"] == change[0]:
                cut[key] = change[1]
        if key == "tensor":
            value["shapes"][change[1]] = value["shapes"].pop(change[0])
    return RemovalPlan.from_dict(value)


@pytest.fixture
def residual_plan():
    groups = groups_of_onnx(topologies.residual())
    return plan_of(groups, {"a": np.array([1, 3])})


def test_plan_with_a_name_that_is_missing(residual_plan, tmp_path):
    wrong = changed(residual_plan, tensor=("b.weight", "bb.weight"))
    with pytest.raises(SparsityError, match=r"unknown tensor of this file 'bb.weight'\. Did you mean 'b.weight'"):
        remove_channels_onnx(topologies.residual(), tmp_path / "thin.onnx", wrong)
    assert not list(tmp_path.iterdir())


def test_plan_of_another_network(residual_plan, tmp_path):
    with pytest.raises(SparsityError, match="was made for 6 channels along axis 0, the file has a tensor of shape 8x3"):
        remove_channels_onnx(topologies.chain(), tmp_path / "thin.onnx", changed_to_chain(residual_plan))


def changed_to_chain(plan):
    value = plan.to_dict()
    value["cuts"] = [cut for cut in value["cuts"] if cut["tensor"] == "a.weight"]
    value["shapes"] = {"a.weight": value["shapes"]["a.weight"]}
    return RemovalPlan.from_dict(value)


def test_plan_that_says_nothing_of_a_reader(residual_plan, tmp_path):
    with pytest.raises(
        SparsityError, match=r"b\.weight: it has channels that the plan removes, and the plan says noth"
    ):
        remove_channels_onnx(topologies.residual(), tmp_path / "thin.onnx", changed_to_chain(residual_plan))


def test_plan_that_keeps_here_what_it_removes_there(residual_plan, tmp_path):
    with pytest.raises(SparsityError, match="keeps channels here that it removes elsewhere"):
        wrong = changed(residual_plan, kept=("b.weight", [0, 1, 2, 3]))
        remove_channels_onnx(topologies.residual(), tmp_path / "thin.onnx", wrong)


def test_plan_that_removes_outputs(tmp_path):
    groups = groups_of_onnx(topologies.chain())
    outputs = next(group for group in groups.groups if "fc" in group.producers)
    plan = plan_of(groups, {outputs.name: np.array([0])})
    with pytest.raises(SparsityError, match="must stay in this file: output of the network"):
        remove_channels_onnx(topologies.chain(), tmp_path / "thin.onnx", plan)


def test_unequal_numbers_in_groups(tmp_path):
    model = topologies.grouped()
    groups = groups_of_onnx(model)
    plan = plan_of(groups, {"a": np.array([0, 3, 6, 9])})
    value = plan.to_dict()
    for cut in value["cuts"]:
        cut["kept"] = [i for i in range(12) if i not in (0, 1, 6, 9)]
        cut["groups"] = 1 if cut["tensor"] != "b.weight" else cut["groups"]
    with pytest.raises(Exception, match=r"equal numbers|as many channels as each other"):
        remove_channels_onnx(model, tmp_path / "thin.onnx", RemovalPlan.from_dict(value))
