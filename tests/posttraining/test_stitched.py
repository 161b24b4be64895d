"""Networks that were put together, as data: JSON, the table, the measurement beside the prediction."""

import json

import pytest

import small_database as small
from secateur.errors import ArtifactError, PosttrainingError
from secateur.posttraining.stitch import StitchSettings, solve
from secateur.posttraining.stitched import Stitched
from secateur.posttraining.target import Target


@pytest.fixture(scope="module")
def dense():
    return small.subject()


@pytest.fixture(scope="module")
def database(tmp_path_factory, dense):
    return small.database(tmp_path_factory.mktemp("db"), dense, small.PATTERNS)


@pytest.fixture(scope="module")
def facts(dense, database):
    return small.facts(dense, database)


def test_it_comes_back_from_json(database, facts):
    found = solve(database, Target("seconds", 0.8, relative=True), settings=StitchSettings(facts=facts)).against(4.0)
    assert Stitched.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    for damage in ({"format": 9}, {"layers": 3}, {"target": {"kind": "sparsity"}}, {"errors": "x"}, {"more": 1}):
        with pytest.raises(ArtifactError, match="this is not a stitched network"):
            Stitched.from_dict(found.to_dict() | damage)


def test_prediction_stands_beside_the_measurement(database, facts):
    found = solve(database, Target("seconds", 5.0), settings=StitchSettings(facts=facts))
    assert found.fixed == 0.5 and found.dense == 0.5 + len(found.layers)
    text = str(found.against(1.1 * found.cost))
    assert f"measured {1.1e3 * found.cost:.4g} ms (+10.0 %) against predicted {1e3 * found.cost:.4g} ms" in text
    assert "with 500 ms that nothing changes" in text
    with pytest.raises(PosttrainingError, match="a measured cost"):
        found.against(-1.0)


def test_the_table_says_what_every_layer_becomes(database):
    found = solve(database, Target("sparsity", 0.5))
    lines = str(found).splitlines()
    assert all(any(line.startswith(name) for line in lines) for name in database.layers)
    assert lines[-1].startswith("target sparsity 0.5 (base conv_linear): predicted")
