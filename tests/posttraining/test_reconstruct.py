"""Reconstruction of a whole network: errors fall, zeros stay, the teacher stays, a killed run goes on."""

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.errors import PosttrainingError
from secateur.posttraining.descent import FitOptions
from secateur.posttraining.reconstruct import ReconstructOptions, reconstruct_
from secateur.sparsity import Sparsifier, masks, plan_sparsity
from unit_networks import BATCHES, NETWORKS, Residual, Straight, Untraceable, built, gap

FAST = FitOptions(30, 0.05, stop_below=0.0)


def pruned(make=Residual, level=0.5, pattern="unstructured"):
    dense = built(make)
    network = copy.deepcopy(dense)
    plan = plan_sparsity(network, level, pattern, include_first=True, include_classifier=True)
    Sparsifier(network, plan).update_(0)
    return network, dense, plan


@pytest.mark.parametrize("kind", ["independent", "layer", "block", "network"])
@pytest.mark.parametrize("make", NETWORKS)
def test_the_network_comes_closer_to_the_dense_one(make, kind):
    network, dense, _ = pruned(make)
    before, state = gap(network, dense), {name: value.clone() for name, value in dense.state_dict().items()}
    kept = {name: mask.clone() for name, mask in masks(network).items()}
    found = reconstruct_(network, dense, lambda: BATCHES, ReconstructOptions(kind, FAST))
    assert gap(network, dense) < before
    assert all(row.after <= row.before for row in found.units)
    assert all(torch.equal(mask, kept[name]) for name, mask in masks(network).items())
    for name, mask in kept.items():
        assert bool((network.get_submodule(name).weight[~mask] == 0).all())
    assert all(torch.equal(value, state[name]) for name, value in dense.state_dict().items())
    norms = [name for name in state if "running" in name or "norm" in name]
    assert all(torch.equal(network.state_dict()[name], state[name]) for name in norms)


def test_sparse_inputs_do_not_let_errors_pile_up():
    """Both inputs lower the error of the network; each unit is fitted to what it will see only with sparse ones."""
    gaps = {}
    for inputs in ("sparse", "dense"):
        network, dense, _ = pruned(Straight, 0.6)
        before = gap(network, dense)
        reconstruct_(network, dense, lambda: BATCHES, ReconstructOptions("layer", FitOptions(80, 0.05), inputs))
        gaps[inputs] = gap(network, dense) / before
    assert gaps["sparse"] < gaps["dense"] < 1


def test_dense_inputs_are_those_of_the_dense_network():
    network, dense, _ = pruned()
    found = reconstruct_(network, dense, lambda: BATCHES, ReconstructOptions("layer", FitOptions(0), "dense"))
    with torch.no_grad():
        x = [dense.stem(batch) for batch in BATCHES]
        y = [network.stem(batch) for batch in BATCHES]
        act = nn.functional.silu
        wanted = sum(float((act(a) - act(b)).square().sum(1).mean()) for a, b in zip(x, y, strict=True)) / len(x)
    assert found.units[0].before == pytest.approx(wanted, rel=1e-5)
    assert [row.stop for row in found.units] == ["nothing to fit"] * 6


def test_masks_of_every_step_keep_pattern_and_level():
    for pattern in ("unstructured", "1x2"):
        network, dense, plan = pruned(pattern=pattern)
        before = {name: mask.clone() for name, mask in masks(network).items()}
        options = ReconstructOptions("layer", FitOptions(30, 0.3), mask="every_step")
        reconstruct_(network, dense, lambda: BATCHES, options, plans=[plan])
        after = masks(network)
        assert any(not torch.equal(mask, before[name]) for name, mask in after.items())
        for layer in plan.layers:
            assert int((~after[layer.name]).sum()) == int((~before[layer.name]).sum())
    with pytest.raises(PosttrainingError, match="need the plan"):
        reconstruct_(network, dense, lambda: BATCHES, options)


def test_same_seed_same_result():
    first, other = (pruned()[0] for _ in range(2))
    dense = built(Residual)
    for network in (first, other):
        reconstruct_(network, dense, lambda: BATCHES, ReconstructOptions("block", FAST, seed=3))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True))


def test_time_box_ends_with_a_consistent_network():
    network, dense, _ = pruned(Straight)
    before = gap(network, dense)
    started = time.monotonic()
    found = reconstruct_(
        network,
        dense,
        lambda: BATCHES,
        ReconstructOptions("layer", FitOptions(10**9, 0.05, stop_below=0.0)),
        seconds=3.0,
    )
    assert time.monotonic() - started < 15
    assert {row.stop for row in found.units} <= {"time", "no gain"}
    assert all(row.steps for row in found.units)  # every unit has its share
    assert gap(network, dense) < before

    network, dense, _ = pruned(Straight)
    found = reconstruct_(network, dense, lambda: BATCHES, seconds=1e-9)
    assert all(row.before is None and row.stop == "time" for row in found.units)
    assert gap(network, dense) == before
    assert "time" in str(found)


def test_fewer_images_where_memory_ends():
    network, dense, _ = pruned()
    found = reconstruct_(network, dense, lambda: BATCHES, ReconstructOptions("block", FitOptions(1), memory=1))
    assert found.images == 8
    assert "Only 1 of 4 batches fit into 0.0 GiB" in found.note


def test_fall_back_is_said():
    network, dense, _ = pruned(Untraceable)
    found = reconstruct_(network, dense, lambda: BATCHES, ReconstructOptions("block", FitOptions(1)))
    assert "fitted independently, not by block" in str(found)


def test_refused():
    network, dense, _ = pruned()
    with pytest.raises(PosttrainingError, match="has masks"):
        reconstruct_(network, network, lambda: BATCHES)
    with pytest.raises(PosttrainingError, match="there are none"):
        reconstruct_(network, dense, list)
    with pytest.raises(PosttrainingError, match="must be the same network"):
        reconstruct_(network, built(Straight), lambda: BATCHES)


def test_modes_are_as_before():
    network, dense, _ = pruned(Straight)
    network.train()
    reconstruct_(network, dense, lambda: BATCHES, ReconstructOptions("block", FitOptions(2)))
    assert network.training and network.body[1].training and network.body[2].inplace


SCRIPT = """
import os, signal, sys
import test_reconstruct as t
from secateur.cache import Cache
from secateur.posttraining.reconstruct import ReconstructOptions, reconstruct_

put, left = Cache.put, int(sys.argv[2])
def put_and_die(self, *given):
    global left
    found = put(self, *given)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
Cache.put = put_and_die
network, dense, _ = t.pruned()
reconstruct_(network, dense, lambda: t.BATCHES, ReconstructOptions("layer", t.FAST), folder=sys.argv[1])
"""


def test_killed_run_goes_on_where_it_was(tmp_path, monkeypatch):
    from secateur.posttraining import reconstruct

    whole, dense, _ = pruned()
    reconstruct_(whole, dense, lambda: BATCHES, ReconstructOptions("layer", FAST))
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), "3"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(tmp_path.iterdir())) == 3

    fitted = []
    fit = reconstruct.fit_unit_

    def fit_and_tell(units, unit, *given, **options):
        fitted.append(unit.name)
        return fit(units, unit, *given, **options)

    monkeypatch.setattr(reconstruct, "fit_unit_", fit_and_tell)
    network, dense, _ = pruned()
    found = reconstruct_(network, dense, lambda: BATCHES, ReconstructOptions("layer", FAST), folder=tmp_path)
    assert fitted == ["down", "wide", "classifier"]
    assert [row.unit for row in found.units] == ["stem", "one", "two", *fitted]
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in network.state_dict().items())
    # Other settings share nothing with it.
    reconstruct_(pruned()[0], dense, lambda: BATCHES, ReconstructOptions("layer", FitOptions(1)), folder=tmp_path)
    assert len(fitted) == 9


def test_networks_of_bfloat16_are_kept_too(tmp_path):
    network, dense, _ = pruned(Straight)
    network, dense = network.to(torch.bfloat16), dense.to(torch.bfloat16)
    images = [batch.to(torch.bfloat16) for batch in BATCHES]
    found = reconstruct_(network, dense, lambda: images, ReconstructOptions("layer", FitOptions(3)), folder=tmp_path)
    assert all(row.after <= row.before for row in found.units)
    again, _, _ = pruned(Straight)
    again = again.to(torch.bfloat16)
    reconstruct_(again, dense, lambda: images, ReconstructOptions("layer", FitOptions(3)), folder=tmp_path)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in again.state_dict().items())
