"""Levels that rise: nested masks, one teacher, one plan for each level."""

import copy
from itertools import pairwise

import pytest
import torch

from secateur.errors import PosttrainingError
from secateur.posttraining import progressive
from secateur.posttraining.descent import FitOptions
from secateur.posttraining.progressive import progressive_, uniform
from secateur.posttraining.reconstruct import ReconstructOptions
from secateur.sparsity import masks
from unit_networks import BATCHES, Residual, built, gap

OPTIONS = ReconstructOptions("block", FitOptions(10, 0.05, stop_below=0.0))


def test_levels_are_reached_one_after_the_other(monkeypatch):
    dense = built(Residual)
    network, state = copy.deepcopy(dense), copy.deepcopy(dense.state_dict())
    teachers, seen = [], []
    reconstruct = progressive.reconstruct_

    def watched(model, teacher, *given, **more):
        teachers.append(copy.deepcopy(teacher.state_dict()))
        return reconstruct(model, teacher, *given, **more)

    monkeypatch.setattr(progressive, "reconstruct_", watched)

    def after(level):
        found = {name: mask.clone() for name, mask in masks(network).items()}
        seen.append((level, found, gap(network, dense)))
        with torch.no_grad():  # what is done with the networks does not reach the teacher
            dense.classifier.bias.zero_()

    levels = progressive_(network, dense, lambda: BATCHES, (0.25, 0.5, 0.75), OPTIONS, after=after)
    assert [level.sparsity for level in levels] == [0.25, 0.5, 0.75]
    for (level, mask, _), (_, later, _) in pairwise(seen):
        assert all(not bool((later[name] & ~mask[name]).any()) for name in mask)
        # Without an allocation rule, the same level everywhere.
        assert set(level.plan.levels.values()) == {level.sparsity}
        assert len(level.plan.levels) == 6
    for layer in levels[-1].plan.layers:
        assert int((~seen[-1][1][layer.name]).sum()) == layer.zeros
    for teacher in teachers:
        assert all(torch.equal(value, state[name]) for name, value in teacher.items())


def test_goes_on_where_it_was(tmp_path, monkeypatch):
    dense = built(Residual)
    whole = copy.deepcopy(dense)
    progressive_(whole, dense, lambda: BATCHES, (0.3, 0.6), OPTIONS, folder=tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 8
    files[0].unlink()
    network = copy.deepcopy(dense)
    progressive_(network, dense, lambda: BATCHES, (0.3, 0.6), OPTIONS, folder=tmp_path)
    assert sorted(tmp_path.iterdir()) == files
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in network.state_dict().items())


def test_time_box_still_reaches_the_last_level():
    dense = built(Residual)
    network = copy.deepcopy(dense)
    levels = progressive_(network, dense, lambda: BATCHES, (0.3, 0.6), OPTIONS, seconds=1e-9)
    assert {row.stop for level in levels for row in level.reconstruction.units} == {"time"}
    wanted = {layer.name: layer.zeros for layer in uniform(network, 0.6).layers}
    assert {name: int((~mask).sum()) for name, mask in masks(network).items()} == wanted


@pytest.mark.parametrize("table", [(), (0.5, 0.4), (0.5, 0.5), (0.5, 1.0), (-0.1,)])
def test_impossible_tables(table):
    dense = built(Residual)
    with pytest.raises(PosttrainingError, match="table"):
        progressive_(copy.deepcopy(dense), dense, lambda: BATCHES, table)
