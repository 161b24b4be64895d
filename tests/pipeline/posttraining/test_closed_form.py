"""The stage in closed form: what a layer's weights are chosen for."""

import pytest
import torch
from torch import nn

import tiny_networks
from secateur.pipeline import Context
from secateur.pipeline.posttraining import closed_form, judge
from secateur.pipeline.posttraining.choices import Choice
from secateur.pipeline.stages.posttraining import posttraining_stage
from secateur.posttraining import TorchSubject
from secateur.posttraining.gathering import gather_grams
from secateur.recipe import PosttrainingStage, parse_recipe
from secateur.sparsity import masks, parse_pattern
from secateur.zoo import Preprocessing

NONE = Preprocessing((3, 8, 8), (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("corrected", [True, False])
def test_the_mean_is_left_out_only_where_the_bias_takes_it(corrected):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 16, 3, padding=1)
    subject = TorchSubject(nn.Sequential(layer, nn.Flatten()), NONE)
    images = torch.rand(32, 3, 8, 8) + 0.5  # their mean is what outputs are made of
    gram = gather_grams(subject, lambda: [images], ["0"])["0"]

    def error(for_bias):
        stage = PosttrainingStage(correct_bias=for_bias)
        choice = Choice(parse_pattern("unstructured"), 0.7)
        weight, bias, _ = closed_form._compressed(subject, "0", choice, gram, gram, stage)
        assert (bias is None) == (not for_bias)
        # The bias as the caller has it: of both weights, corrected or not.
        bias = closed_form._bias(subject, "0", weight, gram, gram) if corrected else layer.bias
        outputs = torch.conv2d(images, weight, bias, padding=1)
        return float((outputs - layer(images)).detach().square().mean())

    assert error(corrected) < error(not corrected)


@pytest.mark.parametrize("allocation", ["uniform", "database"])
def test_a_second_pass_that_leads_away_is_undone(tmp_path, monkeypatch, allocation):
    def weights(name: str, fall: float | None, **keys: object) -> dict[str, torch.Tensor]:
        if fall is not None:
            monkeypatch.setattr(judge, "fall_of", lambda _before, _after: (fall, 0.1))
        torch.manual_seed(0)
        network = tiny_networks.Tiny()
        context = Context(
            parse_recipe(tiny_networks.RECIPE), tmp_path, tiny_networks.images(), network, stage_folder=tmp_path / name
        )
        keys |= {"images": 24, "held_out": 8, "batch_size": 12, "allocation": allocation, "sparsity": 0.6}
        posttraining_stage(context, PosttrainingStage.model_validate(keys | {"estimate_norms": False}))
        return network.state_dict()

    def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(value, other[name]) for name, value in one.items())

    undone, kept = weights("undone", 0.05), weights("kept", 0.2)
    assert not same(undone, kept)
    # What was done is not done again, and ends as it did.
    assert same(undone, weights("undone", 0.05))
    if allocation == "uniform":
        assert same(undone, weights("without", None, second_pass=False))


@pytest.mark.parametrize("allocation", ["uniform", "database"])
def test_what_outputs_matter_is_told_apart_in_a_shared_cache(tmp_path, allocation):
    def zeros(cache: str, weighed: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        network = tiny_networks.Tiny()
        context = Context(
            parse_recipe(tiny_networks.RECIPE), tmp_path, tiny_networks.images(), network, stage_folder=tmp_path / "own"
        )
        keys = {"images": 24, "held_out": 8, "batch_size": 12, "allocation": allocation, "sparsity": 0.6}
        stage = keys | {"weigh_outputs": weighed, "cache": str(tmp_path / cache), "estimate_norms": False}
        posttraining_stage(context, PosttrainingStage.model_validate(stage))
        return masks(network)

    weighed, alike = zeros("one", True), zeros("one", False)
    assert any(not torch.equal(weighed[name], alike[name]) for name in weighed)
    # As where nothing was there before.
    for found, again in ((weighed, zeros("two", True)), (alike, zeros("three", False))):
        assert all(torch.equal(found[name], again[name]) for name in found)
