"""Costs of options: what is counted, against the census, the storage formats, and tables of seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import small_database as small
from secateur.errors import PosttrainingError
from secateur.posttraining.costs import CostFacts, costs_of, seconds_at
from secateur.posttraining.stitch import apply_, solve
from secateur.posttraining.target import Target
from secateur.sparsity import LayerSeconds, census
from secateur.sparsity.compact import stored_bytes


@pytest.fixture(scope="module")
def dense():
    return small.subject()


@pytest.fixture(scope="module")
def database(tmp_path_factory, dense):
    return small.database(tmp_path_factory.mktemp("db"), dense)


@pytest.fixture(scope="module")
def facts(dense):
    return CostFacts(census(dense.model))


def table(pattern="unstructured", where="here", rest=2.0, **layers):
    return LayerSeconds(where, pattern, layers or {"point": {0.0: 4.0, 0.5: 3.0, 0.8: 1.5}}, rest)


def test_costs_of_dense_options_are_the_census(database, facts):
    counts = facts.census
    assert costs_of("sparsity", database).dense == counts.weights
    assert costs_of("parameters", database, facts).dense == counts.parameters
    assert costs_of("macs", database, facts).dense == counts.macs
    assert costs_of("bytes", database, facts).dense == 4 * counts.parameters


def test_a_choice_costs_what_the_network_then_holds(database, facts):
    changed = small.subject()
    stitched = solve(database, Target("sparsity", 0.6))
    apply_(changed, database, stitched)
    now = census(changed.model)
    assert costs_of("sparsity", database).of(stitched.choice) == now.nonzeros
    assert costs_of("parameters", database, facts).of(stitched.choice) == now.nonzeros + now.parameters - now.weights
    assert costs_of("macs", database, facts).of(stitched.choice) == now.sparse_macs
    stored = sum(min(stored_bytes(changed.weight(layer.name)).values()) for layer in changed.layers)
    assert costs_of("bytes", database, facts).of(stitched.choice) == stored + 4 * (now.parameters - now.weights)


def test_seconds_are_linear_between_levels_and_end_with_the_last(database):
    costs = costs_of("seconds", database, CostFacts(seconds=[table()]))
    assert costs.fixed == 2.0 and costs.dense == 6.0
    assert costs.layers["point"] == pytest.approx((4.0, 3.5, 3.0, 1.75, 1.5), abs=0.02)
    assert all(cost == 0.0 for name, own in costs.layers.items() if name != "point" for cost in own)


def test_every_pattern_has_its_own_table(tmp_path, dense):
    database = small.database(tmp_path, dense, ("unstructured", "1x4"), (0.5,))
    blocks = table("1x4", rest=9.0, body={0.0: 5.0, 0.5: 1.0})
    costs = costs_of("seconds", database, CostFacts(seconds=[table(body={0.0: 5.5, 0.5: 4.0}), blocks]))
    assert costs.layers["body"] == (5.0, 4.0, 1.0)
    assert costs.fixed == 2.0
    with pytest.raises(PosttrainingError, match="body: its options of pattern unstructured have no measured times"):
        costs_of("seconds", database, CostFacts(seconds=[blocks]))


@given(st.floats(0, 1))
def test_interpolation_stays_between_its_neighbours(level):
    times = {0.0: 3.0, 0.4: 5.0, 0.9: 1.0}
    assert 1.0 <= seconds_at(times, level) <= 5.0
    assert seconds_at(times, 0.2) == pytest.approx(4.0) and seconds_at(times, 0.65) == pytest.approx(3.0)
    assert seconds_at(times, 1.0) == 1.0 and seconds_at({0.0: 7.0}, level) == 7.0


def test_what_is_missing_is_said(database):
    for kind in ("macs", "parameters", "bytes"):
        with pytest.raises(PosttrainingError, match=f"a target in {kind} needs the census"):
            costs_of(kind, database)
    with pytest.raises(PosttrainingError, match=r"secateur\.pipeline\.layer_seconds measures them"):
        costs_of("seconds", database)
    with pytest.raises(PosttrainingError, match="unknown kind of cost 'mac'"):
        costs_of("mac", database)
    with pytest.raises(PosttrainingError, match="different machines or settings: "):
        costs_of("seconds", database, CostFacts(seconds=[table(), table("1x4", where="there")]))
