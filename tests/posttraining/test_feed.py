"""Values of units: those of the network, each step once, nothing kept longer than needed."""

from collections import Counter

import torch

from secateur.posttraining.feed import Feed, kept_batches
from secateur.posttraining.units import find_units
from unit_networks import Inside, Residual, Twice, Untraceable, built, images


def feed_of(make, kind, batches):
    network = built(make)
    units = find_units(network, kind, images(1)[0])
    return network, units, Feed(network, units, batches, {u.source for u in units.units}, "host")


def test_every_step_runs_once_for_every_batch():
    batches = images(3)
    network, units, feed = feed_of(Residual, "layer", batches)
    runs = Counter()
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: runs.update([name]))
    for unit in units.units:
        feed.sources(unit)
    assert runs["stem"] == runs["two"] == runs["down"] == 3
    assert runs["classifier"] == 0  # nobody asked for what follows


def test_released_values_are_dropped():
    _, units, feed = feed_of(Residual, "block", images(1))
    for unit in units.units:
        feed.sources(unit)
        feed.release(unit.source)
    # What the classifier, which nobody ran, will read; nothing else.
    assert [set(values) for values in feed._values] == [{units.units[-1].source}]


def test_layer_that_runs_twice_gives_both_inputs():
    network, units, feed = feed_of(Twice, "layer", images(2))
    unit = next(unit for unit in units.units if unit.name == "again")
    seen = []
    with torch.no_grad():
        handle = network.again.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
        for x in images(2):
            network(x)
        handle.remove()
    assert len(feed.sources(unit)) == 4
    assert all(map(torch.equal, feed.sources(unit), seen))


def test_hooks_are_taken_off():
    for make in (Inside, Untraceable):
        network, units, feed = feed_of(make, "independent", images(1))
        for unit in units.units:
            feed.sources(unit)
        assert not any(module._forward_hooks for module in network.modules())


def test_only_batches_that_fit_are_kept():
    network = built(Residual)
    units = find_units(network, "block", images(1)[0])
    one = 4 * (2 * units.peak + 3 * 8 * 8 * 4)
    for memory, count in ((0, 1), (one, 1), (2 * one, 2), (2 * one + 1, 2), (10 * one, 5)):
        kept, there = kept_batches(images(5), units, memory)
        assert (len(kept), there) == (count, 5)
