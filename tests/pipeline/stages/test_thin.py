"""Thinning in a run: filters that a stage before made zero are taken out, and the function stays."""

import pytest
import torch

import tiny_networks
from secateur.export import folded_copy
from secateur.pipeline import Context, load_artifact_network, run_recipe
from secateur.recipe import build_recipe

FILTERS = {"stage": "sparsify", "pattern": "filter", "layers": ["body", "point"], "sparsity": 0.5, "base": "selected",
           "training": {"epochs": 0}}  # fmt: skip


def start(folder, *stages):
    named = {"model": {"name": "tiny_networks:network"}, "data": {"name": "tiny_networks:images"}}
    context = Context.of(build_recipe(named | {"stages": list(stages)}), folder)
    return context, run_recipe(context)


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    context, _ = start(tmp_path_factory.mktemp("masked"), FILTERS)
    return folded_copy(context.network)


def test_zero_filters_are_gone_and_the_function_is_that_of_the_masked_network(masked, tmp_path):
    context, record = start(tmp_path, FILTERS, {"stage": "thin"}, {"stage": "export", "check_images": 8})
    plan = record.results("thin")[0]["removals"][0]
    assert plan["macs_after"] < plan["macs_before"]
    assert context.network.point.out_channels == 9
    image = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.allclose(context.network(image), masked(image), atol=1e-5)
        assert torch.equal(load_artifact_network(tmp_path / "weights.safetensors")(image), context.network(image))


def test_constants_that_cannot_be_folded_stay_or_go_with_a_remark(masked, tmp_path):
    """The bias of a zero filter of `body` reaches a padded depthwise layer."""
    kept, _ = start(tmp_path / "kept", FILTERS, {"stage": "thin"})
    dropped, record = start(tmp_path / "dropped", FILTERS, {"stage": "thin", "shift": "zero"})
    assert dropped.network.body.out_channels < kept.network.body.out_channels
    remarks = [group["reason"] for group in record.results("thin")[0]["removals"][0]["groups"]]
    assert any(remark and "function changes" in remark for remark in remarks)


def test_a_network_without_zero_channels_stays_as_it_is(tmp_path):
    context, record = start(tmp_path, {"stage": "thin"})
    assert context.network.body.out_channels == tiny_networks.network().body.out_channels
    assert record.results("thin")[0]["removals"][0]["cuts"] == []


def test_residual_branches_that_add_nothing_are_gone_as_a_whole(tmp_path):
    """What a penalty on whole layers (4D groups) ends in."""
    named = {"model": {"name": "tiny_networks:residual"}, "data": {"name": "tiny_networks:images"}}
    context = Context.of(build_recipe(named | {"stages": [{"stage": "thin"}]}), tmp_path)
    with torch.no_grad():
        context.network.blocks[1].conv2.weight.zero_()
        context.network.blocks[1].conv2.bias.zero_()
    image = torch.randn(2, 3, 16, 16)
    wanted = context.network.eval()(image)
    branches, channels = run_recipe(context).results("thin")[0]["removals"]
    assert [branch["name"] for branch in branches["branches"]] == ["blocks.1"]
    assert channels["macs_before"] == branches["macs"][1]
    assert not list(context.network.blocks[1].parameters())
    with torch.inference_mode():
        assert torch.allclose(context.network(image), wanted, atol=1e-6)
