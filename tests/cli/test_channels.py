"""`thin` and `prune-channels` on the command line, and the verbs behind them."""

import json
import sys

import numpy as np
import onnx
import pytest
import torch

import secateur
from channels import onnx_topologies
from channels.onnx_topologies import distance, outputs_of, picked, run, zeroed
from secateur.channels import RemovalPlan
from secateur.channels.onnx_trace import groups_of_onnx, trace_onnx
from secateur.cli import main


@pytest.fixture
def called(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["secateur", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return stop.code or 0, capsys.readouterr()
        return 0, capsys.readouterr()

    return run


@pytest.fixture
def masked(tmp_path):
    """A file half of whose channels are zero, in a folder that looks like that of a run."""
    file = onnx_topologies.residual()
    roles = ("producer", "parameter")
    path = tmp_path / "run" / "model.onnx"
    path.parent.mkdir()
    onnx.save(zeroed(file, groups_of_onnx(file), picked(trace_onnx(file), 0.5), roles), path)
    return path


@pytest.mark.parametrize("folder", [False, True])
def test_thin_writes_a_smaller_file_and_says_what_went(called, masked, tmp_path, folder):
    code, said = called("thin", masked.parent if folder else masked, "-o", tmp_path / "thin.onnx")
    assert code == 0, said.err
    assert "every channel that is zero" in said.out and str(tmp_path / "thin.onnx") in said.out
    assert distance(run(onnx.load(masked)), run(onnx.load(tmp_path / "thin.onnx"))) < 1e-5
    assert (tmp_path / "thin.onnx").stat().st_size < masked.stat().st_size


def test_prune_channels_saves_a_plan_that_replays(called, masked, tmp_path):
    saved = tmp_path / "plan.json"
    code, said = called("prune-channels", masked, "-o", tmp_path / "a.onnx", "--target", "0.4", "--base", "parameters",
                        "--scope", "global", "--criterion", "l1", "--save-plan", saved)  # fmt: skip
    assert code == 0, said.err
    plan = RemovalPlan.from_dict(json.loads(saved.read_text()))
    assert str(plan) in said.out and (plan.target, plan.base, plan.criterion) == (0.4, "parameters", "l1")
    code, said = called("prune-channels", masked, "-o", tmp_path / "b.onnx", "--plan", saved)
    assert code == 0, said.err
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_mistakes_are_one_sentence(called, masked, tmp_path):
    out = tmp_path / "out.onnx"
    for arguments, sentence in (
        (("thin", tmp_path / "none.onnx", "-o", out), "there is no such file"),
        (("prune-channels", masked, "-o", out, "--target", "0.999"), "cannot be removed"),
        (("prune-channels", masked, "-o", out, "--target", "1.5"), "must be from 0 to below 1"),
        (("prune-channels", masked, "-o", out, "--criterion", "ll2"), "Did you mean 'l2'"),
        (("prune-channels", masked, "-o", out, "--plan", tmp_path / "none.json"), "no such file"),
        (("prune-channels", masked, "-o", out, "--plan", masked, "--target", "0.9"), "leave --target out"),
        (("prune-channels", masked, "-o", out, "--weights", "pretrained"), "comes with its weights"),
        (("prune-channels", "resnet20_cifar10", "-o", out), "no weights are published for it"),
        (("prune-channels", masked, "-o", out, "--exclude", "nothing*"), "unknown layer or glob"),
    ):
        code, said = called(*arguments)
        assert code == 2 and sentence in said.err and said.err.count("\n") == 1, said.err
    assert not out.exists()


def test_torch_networks_are_thinned_and_pruned_too(tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 1), torch.nn.Sigmoid(), torch.nn.Conv2d(6, 8, 3), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 4),
    ).eval()  # fmt: skip
    with torch.no_grad():
        network[0].weight[[0, 3]] = 0
    plan = secateur.thin(network, tmp_path / "thin.onnx", input_size=(3, 8, 8))
    assert plan.removed == 2 and network[0].weight.shape[0] == 6
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = network(images).numpy()
    assert distance([expected], outputs_of(tmp_path / "thin.onnx", images.numpy())) < 1e-5
    plan = secateur.prune_channels(network, tmp_path / "half.onnx", 0.5, base="channels", input_size=(3, 8, 8))
    assert plan.removed == 7
    assert np.isfinite(outputs_of(tmp_path / "half.onnx", images.numpy())[0]).all()


def test_a_name_is_pruned_with_the_weights_that_are_given(called, tmp_path):
    code, said = called("prune-channels", "resnet20_cifar10", "-o", tmp_path / "n.onnx", "--weights", "none")
    assert code == 0 and "MACs" in said.out and (tmp_path / "n.onnx").is_file()
