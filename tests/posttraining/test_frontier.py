"""Points along targets, as data."""

import json

import pytest

import small_database as small
from secateur.errors import ArtifactError
from secateur.posttraining.costs import CostFacts
from secateur.posttraining.frontier import Frontier, frontier
from secateur.posttraining.losses import Divergence
from secateur.posttraining.stitch import StitchSettings, apply_
from secateur.posttraining.target import Target
from secateur.sparsity import LayerSeconds, census

TIMES = {0.0: 1.0, 0.9: 0.3}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return small.database(tmp_path_factory.mktemp("db"))


@pytest.fixture(scope="module")
def facts(database):
    seconds = [LayerSeconds("here", "unstructured", dict.fromkeys(database.layers, TIMES))]
    return CostFacts(census(small.subject().model), seconds)


def test_points_have_all_costs_and_what_was_measured(database, facts):
    subject = small.subject()
    divergence = Divergence(subject, small.batches)

    def evaluate(stitched):
        apply_(subject, database, stitched, masks=False)
        return {"divergence": divergence()}

    targets = [Target("sparsity", 0.3), Target("macs", 0.5, relative=True), Target("seconds", 0.6, relative=True)]
    found = frontier(database, targets, evaluate, StitchSettings(facts=facts))
    assert [point.target for point in found.points] == targets and not found.missing
    for point in found.points:
        assert point.costs.keys() == found.dense.keys() == {"sparsity", "parameters", "macs", "bytes", "seconds"}
        assert point.figures["divergence"] > 0
    assert found.points[0].costs["sparsity"] >= 0.3 and found.dense["sparsity"] == 0.0
    assert found.points[1].costs["macs"] <= 0.5 * found.dense["macs"] == 0.5 * facts.census.macs
    assert found.points[2].costs["seconds"] <= 0.6 * found.dense["seconds"]
    assert "divergence" in str(found).splitlines()[0]
    assert Frontier.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_harder_targets_cost_more_error(database):
    found = frontier(database, [Target("sparsity", value) for value in (0.1, 0.3, 0.5, 0.7, 0.85)])
    errors = [point.error for point in found.points]
    assert errors == sorted(errors)
    assert found.dense.keys() == {"sparsity"}, "the other costs need facts that were not given"


def test_targets_out_of_reach_are_kept_with_their_sentence(database):
    found = frontier(database, [Target("sparsity", 0.5), Target("sparsity", 0.97)])
    assert len(found.points) == 1
    assert "out of reach" not in found.missing and "the cheapest options come to" in str(found)
    assert list(found.missing) == ["sparsity 0.97 (base conv_linear)"]


@pytest.mark.parametrize("damage", [{"format": 9}, {"points": 3}, {"points": [{}]}, {"dense": 1}])
def test_a_damaged_frontier_is_a_sentence(database, damage):
    value = frontier(database, [Target("sparsity", 0.5)]).to_dict()
    with pytest.raises(ArtifactError, match="this is not a frontier"):
        Frontier.from_dict(value | damage)
