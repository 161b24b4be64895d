"""Channels that are read where they lie: every reader computes the same, and none of them gets a copy."""

import numpy as np
import pytest
from onnx import helper

from engine.networks import model, reference, value
from secateur.engine.plan import NativePart
from secateur.engine.program import Step
from secateur.engine.session import Session, compile_onnx

SIDE = 9
PICKS = {
    "shuffled": [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11],
    "some": [7, 0, 11, 4],
    "twice": [3, 3, 8, 1, 1, 1],
    "backwards": [11, 10, 9, 8, 7, 6, 5, 4],
}
# Reader of "s": operator, shape of its weights with s for the picked channels, attributes.
READERS = {
    "pointwise": ("Conv", (10, "s", 1, 1), {}),
    "3x3": ("Conv", (10, "s", 3, 3), {"pads": [1] * 4}),
    "strided": ("Conv", (10, "s", 3, 3), {"pads": [1] * 4, "strides": [2, 2]}),
    "strided pointwise": ("Conv", (10, "s", 1, 1), {"strides": [2, 2]}),
    "depthwise": ("Conv", ("s", 1, 3, 3), {"pads": [1] * 4, "group": "s"}),
    "depthwise, two outputs each": ("Conv", ("2s", 1, 3, 3), {"pads": [1] * 4, "group": "s"}),
    "strided depthwise": ("Conv", ("s", 1, 3, 3), {"pads": [1] * 4, "strides": [2, 2], "group": "s"}),
    "whole map": ("Conv", (10, "s", SIDE, SIDE), {}),
    "pooling": ("MaxPool", None, {"kernel_shape": [3, 3], "strides": [2, 2]}),
    "activation": ("LeakyRelu", None, {"alpha": 0.1}),
    "arithmetic": ("Add", (1, "s", 1, 1), {}),
}


def network(picks: list[int], reader: str, density: float = 1.0):
    """x -> 3x3 convolution -> Gather of channels -> reader -> 1x1 convolution, so that maps lie in planes."""
    random = np.random.default_rng(len(picks))
    operator, sides, attributes = READERS[reader]
    count = {"s": len(picks), "2s": 2 * len(picks)}
    attributes = {key: count.get(each, each) if isinstance(each, str) else each for key, each in attributes.items()}
    constants = {
        "w0": random.standard_normal((12, 3, 3, 3)).astype(np.float32),
        "i": np.array(picks, np.int64),
    }
    outputs = len(picks)
    if sides is not None:
        shape = tuple(count.get(side, side) if isinstance(side, str) else side for side in sides)
        kept = random.random(shape) < density
        constants["w1"] = (random.standard_normal(shape) * kept).astype(np.float32)
        outputs = shape[0] if operator == "Conv" else outputs
    constants["w2"] = random.standard_normal((5, outputs, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "first", pads=[1] * 4),
        helper.make_node("Gather", ["a", "i"], ["s"], "select", axis=1),
        helper.make_node(operator, ["s", *(["w1"] if sides else [])], ["b"], "reader", **attributes),
        helper.make_node("Conv", ["b", "w2"], ["y"], "last"),
    ]
    return model(nodes, [value("x", ["n", 3, SIDE, SIDE])], [value("y", [None] * 4)], constants)


def steps_of(session: Session, layer: str) -> list[Step]:
    plan = session._latest()  # pyright: ignore[reportPrivateUsage]
    programs = [part.program.program for part in plan.parts if isinstance(part, NativePart)]
    return [step for program in programs for step in program.steps if step.layer == layer]


def agree(proto, batch: int, **options) -> Session:
    session = compile_onnx(proto, batch=batch, **options)
    feeds = session.random_feeds(batch=batch)
    for found, wanted in zip(session.run(feeds).values(), reference(proto, feeds), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max() + 1e-6)
    return session


@pytest.mark.parametrize("picks", PICKS)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_gets_a_copy(reader: str, picks: str) -> None:
    for batch, threads in ((1, 1), (3, 2)):
        session = agree(network(PICKS[picks], reader), batch, threads=threads)
        assert steps_of(session, "select") == []


@pytest.mark.parametrize("primitive", ["direct", "gemm", "pack"])
@pytest.mark.parametrize("density", [1.0, 0.3, 0.1])
@pytest.mark.parametrize("reader", ["pointwise", "3x3", "strided", "strided pointwise"])
def test_every_primitive_and_sparse_weights(reader: str, density: float, primitive: str) -> None:
    for picks in ("shuffled", "some"):
        session = agree(network(PICKS[picks], reader, density), 2, threads=1, primitive=primitive)
        assert steps_of(session, "select") == []


def test_picked_channels_cost_nothing() -> None:
    """A pointwise layer has the steps, weights and facts of one whose channels lie side by side."""
    picked = agree(network(PICKS["shuffled"], "pointwise"), 1, threads=1)
    side_by_side = agree(network(list(range(12)), "pointwise"), 1, threads=1)
    (one,), (other,) = steps_of(picked, "reader"), steps_of(side_by_side, "reader")
    assert (one.kernel, one.units) == (other.kernel, other.units)
    facts = [{fact.layer: fact for fact in session.report().layers}["reader"] for session in (picked, side_by_side)]
    assert facts[0] == facts[1]


@pytest.mark.parametrize("group", [2, 3])
def test_groups_that_pick_alike(group: int) -> None:
    """A shuffle in front of as many groups: every group picks like the first one, so many channels further on."""
    random = np.random.default_rng(group)
    channels = 36
    order = np.arange(channels).reshape(group, -1).T.reshape(-1)
    constants = {
        "w0": random.standard_normal((channels, 3, 1, 1)).astype(np.float32),
        "w1": random.standard_normal((2 * channels, channels // group, 3, 3)).astype(np.float32),
        "i": order,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "first"),
        helper.make_node("Gather", ["a", "i"], ["s"], "select", axis=1),
        helper.make_node("Conv", ["s", "w1"], ["y"], "reader", pads=[1] * 4, group=group),
    ]
    proto = model(nodes, [value("x", ["n", 3, SIDE, SIDE])], [value("y", [None] * 4)], constants)
    for batch in (1, 2):
        assert steps_of(agree(proto, batch, threads=2), "select") == []
    constants["i"] = random.permutation(channels)
    proto = model(nodes, [value("x", ["n", 3, SIDE, SIDE])], [value("y", [None] * 4)], constants)
    assert len(steps_of(agree(proto, 1, threads=2), "select")) == 1


@pytest.mark.parametrize("reader", ["Softmax", "Transpose", "GlobalAveragePool", "Reshape"])
def test_other_readers_get_one_copy(reader: str) -> None:
    attributes = {"Softmax": {"axis": 3}, "Transpose": {"perm": [0, 2, 1, 3]}}.get(reader, {})
    constants = {
        "w0": np.random.default_rng(1).standard_normal((12, 3, 3, 3)).astype(np.float32),
        "i": np.array(PICKS["shuffled"]),
        "shape": np.array([0, 4, 27, SIDE]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "first", pads=[1] * 4),
        helper.make_node("Gather", ["a", "i"], ["s"], "select", axis=1),
        helper.make_node(reader, ["s", *(["shape"] if reader == "Reshape" else [])], ["y"], "reader", **attributes),
        helper.make_node("LeakyRelu", ["s"], ["z"], "other"),
    ]
    outputs = [value("y", [None] * 4), value("z", [None] * 4)]
    session = agree(model(nodes, [value("x", ["n", 3, SIDE, SIDE])], outputs, constants), 2, threads=1)
    assert len(steps_of(session, "select")) == 1


def test_an_output_and_a_selection_of_a_selection() -> None:
    constants = {
        "w0": np.random.default_rng(1).standard_normal((12, 3, 3, 3)).astype(np.float32),
        "w1": np.random.default_rng(2).standard_normal((4, 3, 1, 1)).astype(np.float32),
        "i": np.array(PICKS["shuffled"]),
        "j": np.array([11, 2, 4]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "first", pads=[1] * 4),
        helper.make_node("Gather", ["a", "i"], ["s"], "select", axis=1),
        helper.make_node("Gather", ["s", "j"], ["t"], "again", axis=1),
        helper.make_node("Conv", ["t", "w1"], ["y"], "last"),
    ]
    outputs = [value("y", [None] * 4), value("s", [None] * 4)]
    agree(model(nodes, [value("x", ["n", 3, SIDE, SIDE])], outputs, constants), 2, threads=1)


def test_sums_are_not_written_over_channels_that_are_read_later() -> None:
    """a + b may take the place of a only where no selection of a is read afterwards."""
    constants = {
        "w0": np.random.default_rng(1).standard_normal((12, 3, 3, 3)).astype(np.float32),
        "w2": np.random.default_rng(3).standard_normal((4, 12, 1, 1)).astype(np.float32),
        "i": np.array(PICKS["shuffled"]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "first", pads=[1] * 4),
        helper.make_node("Gather", ["a", "i"], ["s"], "select", axis=1),
        helper.make_node("Sub", ["a", "s"], ["c"], "sum"),
        helper.make_node("Conv", ["s", "w2"], ["y"], "last"),
        helper.make_node("Conv", ["c", "w2"], ["z"], "more"),
    ]
    outputs = [value("y", [None] * 4), value("z", [None] * 4)]
    for batch in (1, 2):
        agree(model(nodes, [value("x", ["n", 3, SIDE, SIDE])], outputs, constants), batch, threads=1)
