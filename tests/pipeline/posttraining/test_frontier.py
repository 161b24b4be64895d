"""Points of one network: measured once, kept, and the network stays as it was."""

import copy
import dataclasses

import pytest
import torch

import tiny_networks
from secateur.errors import RecipeError
from secateur.pipeline import Context
from secateur.pipeline.posttraining import frontier as room
from secateur.pipeline.posttraining.frontier import FRONTIER_FILE, FrontierSettings, draw_frontier
from secateur.pipeline.posttraining.frontier_networks import TorchNetwork
from secateur.recipe import PosttrainingStage, parse_recipe

STAGE = PosttrainingStage(images=24, held_out=8, batch_size=12, second_pass=False)


def context(folder, labelled=True):
    torch.manual_seed(0)
    images = tiny_networks.images()
    if not labelled:
        images = dataclasses.replace(images, labelled=False)
    return Context(parse_recipe(tiny_networks.RECIPE), folder, images, tiny_networks.Tiny())


def test_points_are_measured_once_and_more_can_be_added(tmp_path, monkeypatch):
    own, calls = context(tmp_path), []
    state = copy.deepcopy(own.network.state_dict())
    write = room.write_zeros_
    monkeypatch.setattr(room, "write_zeros_", lambda *given, **named: (calls.append(1), write(*given, **named)))
    first = draw_frontier(TorchNetwork(own), tmp_path, STAGE, FrontierSettings(("sparsity", "macs"), (0.2, 0.4)))
    assert len(calls) == len(first.points) == 4 and not first.missing
    assert all({"divergence", "same_class", "top1", "top5"} == set(point.figures) for point in first.points)
    assert first.dense_figures["same_class"] == 100.0 and first.dense_figures["divergence"] == 0.0
    assert all(torch.equal(value, state[name]) for name, value in own.network.state_dict().items())
    again = draw_frontier(
        TorchNetwork(context(tmp_path)), tmp_path, STAGE, FrontierSettings(("sparsity", "macs"), (0.2, 0.3, 0.4))
    )
    assert len(calls) == 6
    assert [point for point in again.points if point.target in [p.target for p in first.points]] == list(first.points)
    assert (tmp_path / FRONTIER_FILE).exists()
    zeros = [point.costs["sparsity"] for point in again.points[:3]]
    assert all(found >= asked for found, asked in zip(zeros, (0.2, 0.3, 0.4), strict=True))


def test_without_labels_there_is_no_accuracy(tmp_path):
    found = draw_frontier(
        TorchNetwork(context(tmp_path, labelled=False)), tmp_path, STAGE, FrontierSettings(("bytes",), (0.3, 0.99))
    )
    assert set(found.points[0].figures) == {"divergence", "same_class"}
    (reason,) = found.missing.values()
    assert "ask for less" in reason


@pytest.mark.parametrize("wrong", [{"against": ("watts",)}, {"against": ()}, {"zeros": ()}, {"zeros": (1.0,)}])
def test_settings_are_checked(wrong):
    with pytest.raises(RecipeError):
        FrontierSettings(**wrong)


def test_a_rule_of_levels_has_no_frontier(tmp_path):
    with pytest.raises(RecipeError, match="database"):
        draw_frontier(
            TorchNetwork(context(tmp_path)),
            tmp_path,
            STAGE.model_copy(update={"allocation": "erk"}),
            FrontierSettings(),
        )
