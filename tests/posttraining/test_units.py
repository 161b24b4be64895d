"""Units: where networks are cut, and that a unit alone computes what the network computes there."""

import pytest
import torch
from torch import nn

from secateur import zoo
from secateur.posttraining.feed import Feed
from secateur.posttraining.units import find_units
from secateur.sparsity import layers_of
from unit_networks import NETWORKS, Gated, Inside, Residual, Straight, Twice, Untraceable, built, images


def parts(network, kind):
    return [unit.layers for unit in find_units(network, kind, images(1)[0]).units]


def test_layer_ends_before_next_layer_fork_and_sum():
    network = built(Residual)
    found = {unit.name: unit for unit in find_units(network, "layer", images(1)[0]).units}
    assert list(found) == ["stem", "one", "two", "down", "wide", "classifier"]
    # The stem's activation works in place, so that the sum reads what it gave: a chain, then the fork.
    assert {name: len(found[name].steps) for name in found} == {
        "stem": 2, "one": 3, "two": 1, "down": 1, "wide": 1, "classifier": 1
    }  # fmt: skip
    assert found["two"].result == "two"
    assert found["down"].source == found["wide"].source


def test_independent_is_the_layer_alone():
    for unit in find_units(built(Straight), "independent", images(1)[0]).units:
        assert len(unit.layers) == len(unit.steps) == 1


def test_straight_line_joins_at_most_three_layers():
    names = [f"body.{3 * i}" for i in range(5)]
    assert parts(built(Straight), "block") == [tuple(names[:3]), (*names[3:], "classifier")]


def test_block_ends_where_all_branches_have_joined():
    assert parts(built(Residual), "block") == [("stem",), ("one", "two"), ("down", "wide"), ("classifier",)]
    assert parts(built(Gated), "block") == [("stem",), ("fold", "unfold"), ("classifier",)]


def test_layer_used_twice():
    network = built(Twice)
    assert parts(network, "layer") == [("stem",), ("again",), ("between",), ("classifier",)]
    assert next(u for u in find_units(network, "layer", images(1)[0]).units if u.name == "again").steps == ()
    # Blocks that share a weight become one.
    assert parts(network, "block") == [("stem", "again", "between", "classifier")]


def test_part_that_cannot_be_traced_is_one_step():
    assert parts(built(Inside), "layer") == [("stem",), ("part.first",), ("part.second",), ("classifier",)]
    assert parts(built(Inside), "block") == [("stem",), ("part.first", "part.second"), ("classifier",)]


def test_network_that_cannot_be_traced_falls_back_and_says_so():
    units = find_units(built(Untraceable), "block", images(1)[0])
    assert units.kind == "independent"
    assert [unit.layers for unit in units.units] == [("stem",), ("part.first",), ("part.second",), ("classifier",)]
    assert "torch.fx cannot trace Untraceable" in units.note
    assert "independently, not by block." in str(units)


def test_network_is_one_unit():
    assert parts(built(Gated), "network") == [("stem", "fold", "unfold", "classifier")]


def test_layer_that_never_runs_is_named():
    network = built(Gated)
    network.spare = nn.Linear(4, 4)
    note = find_units(network, "layer", images(1)[0]).note
    assert note == "1 layers are in no unit, because the network does not call them: spare."


def test_modes_are_as_before():
    network = built(Straight).train()
    find_units(network, "block", images(1)[0])
    assert all(module.training for module in network.modules())
    assert network.body[2].inplace


@pytest.mark.parametrize("kind", ["independent", "layer", "block", "network"])
@pytest.mark.parametrize("make", NETWORKS)
def test_every_layer_is_in_one_unit(make, kind):
    network = built(make)
    units = find_units(network, kind, images(1)[0])
    found = [name for unit in units.units for name in unit.layers]
    assert sorted(found) == sorted(layer.name for layer in layers_of(network))


@pytest.mark.parametrize("kind", ["independent", "layer", "block", "network"])
@pytest.mark.parametrize("make", NETWORKS)
def test_unit_alone_computes_what_the_network_computes(make, kind):
    """Units in a row: what the last one gives from the first one's input is the output, for other images too."""
    network = built(make)
    units = find_units(network, kind, images(1)[0])
    batches = images(2, 3, seed=5)
    wanted = {name for unit in units.units for name in (unit.source, unit.result)}
    feed = Feed(network, units, batches, wanted, "host")
    with torch.no_grad():
        for unit in units.units:
            for source, result in zip(feed.sources(unit), feed.results(unit), strict=True):
                kept = source.clone()
                torch.testing.assert_close(units.run(unit, network, source), result, rtol=1e-6, atol=1e-6)
                assert torch.equal(kept, source)
        last = feed.results(units.units[-1])
        assert all(torch.allclose(network(x), y, atol=1e-6) for x, y in zip(batches, last, strict=True))


@pytest.mark.parametrize(("name", "blocks"), [("resnet20_cifar10", 11), ("shufflenetv2_x0_5_cifar10", 18)])
def test_our_networks(name, blocks):
    network = zoo.model(name)
    x = torch.randn(2, 3, 32, 32)
    units = find_units(network, "block", x)
    assert (units.kind, len(units.units), units.note) == ("block", blocks, None)
    assert len(find_units(network, "layer", x).units) == len(layers_of(network))


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "vit_tiny_patch16_224", "ghostnet_100"])
def test_libraries_networks_are_traced(name):
    network = zoo.model(name, input_size=224)
    units = find_units(network, "block", torch.randn(1, 3, 224, 224))
    assert units.kind == "block"
    assert units.note is None
