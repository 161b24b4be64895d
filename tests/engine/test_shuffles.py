"""Networks that shuffle channels: nothing is copied for that, and the results are ONNX Runtime's."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from engine.networks import model, reference, value
from secateur.engine.plan import NativePart
from secateur.engine.program import Step
from secateur.engine.session import Session, compile_onnx
from secateur.graph import passes

# Of the largest output (ENGINE.md 5).
TOLERANCE = 1e-4

Sides = tuple[int, int, int]


@dataclass
class Network:
    """Nodes on maps whose batch is open; every value is known by name, with (channels, height, width)."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    sides: dict[str, Sides] = field(default_factory=dict)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def constant(self, array: Sequence[int] | np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def add(
        self, operator: str, inputs: Sequence[str], sides: Sequence[tuple[int, int, int]], **attributes
    ) -> list[str]:
        names = [f"v{len(self.nodes)}_{i}" for i in range(len(sides))]
        self.nodes.append(helper.make_node(operator, inputs, names, f"{operator}{len(self.nodes)}", **attributes))
        self.sides |= dict(zip(names, sides, strict=True))
        return names

    def conv(self, x: str, outputs: int, kernel: int = 1, stride: int = 1, group: int = 1) -> str:
        c, h, w = self.sides[x]
        weight = self.random.standard_normal((outputs, c // group, kernel, kernel)) * np.sqrt(group / (c * kernel**2))
        operands = [x, self.constant(weight.astype(np.float32))]
        operands.append(self.constant(self.random.standard_normal(outputs).astype(np.float32)))
        pads, sides = [kernel // 2] * 4, (outputs, -(-h // stride), -(-w // stride))
        return self.add("Conv", operands, [sides], pads=pads, strides=[stride] * 2, group=group)[0]

    def depthwise(self, x: str, stride: int = 1) -> str:
        channels = self.sides[x][0]
        return self.conv(x, channels, 3, stride, channels)

    def alike(self, operator: str, *inputs: str, **attributes) -> str:
        return self.add(operator, inputs, [self.sides[inputs[0]]], **attributes)[0]

    def relu(self, x: str) -> str:
        return self.alike("Relu", x)

    def pool(self, x: str, operator: str = "MaxPool") -> str:
        c, h, w = self.sides[x]
        options = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
        return self.add(operator, [x], [(c, -(-h // 2), -(-w // 2))], **options)[0]

    def shuffle(self, x: str, groups: int) -> str:
        c, h, w = self.sides[x]
        split = self.add("Reshape", [x, self.constant([0, groups, c // groups, h, w])], [(c, h, w)])[0]
        turned = self.alike("Transpose", split, perm=[0, 2, 1, 3, 4])
        return self.add("Reshape", [turned, self.constant([0, c, h, w])], [(c, h, w)])[0]

    def split(self, x: str, sizes: Sequence[int]) -> list[str]:
        _, h, w = self.sides[x]
        return self.add("Split", [x, self.constant(sizes)], [(size, h, w) for size in sizes], axis=1)

    def concat(self, *parts: str) -> str:
        _, h, w = self.sides[parts[0]]
        return self.add("Concat", parts, [(sum(self.sides[part][0] for part in parts), h, w)], axis=1)[0]

    def finish(self, *outputs: str) -> onnx.ModelProto:
        inputs = [value("x", ["n", *self.sides["x"]])]
        return model(self.nodes, inputs, [value(name, [None] * 4) for name in outputs], self.constants)


def network(channels: int = 3, side: int = 17, seed: int = 0) -> Network:
    return Network(sides={"x": (channels, side, side)}, random=np.random.default_rng(seed))


def shufflenet_v2(units: Sequence[int] = (4, 3), width: int = 12) -> onnx.ModelProto:
    """The stem, stages whose first unit halves the map, and the last convolution of ShuffleNetV2."""
    net = network()
    x = net.pool(net.relu(net.conv("x", width, 3, 2)))
    for count in units:
        half = net.sides[x][0]
        left = net.relu(net.conv(net.depthwise(x, 2), half))
        right = net.relu(net.conv(net.depthwise(net.relu(net.conv(x, half)), 2), half))
        x = net.shuffle(net.concat(left, right), 2)
        for _ in range(count - 1):
            left, right = net.split(x, [half, half])
            right = net.relu(net.conv(net.depthwise(net.relu(net.conv(right, half))), half))
            x = net.shuffle(net.concat(left, right), 2)
    return net.finish(net.relu(net.conv(x, 40)))


def shufflenet_v1(groups: int = 3, units: int = 3) -> onnx.ModelProto:
    """Grouped convolutions with shuffles between them, residual sums, and pooling beside the first unit of a stage."""
    net = network()
    x = net.relu(net.conv("x", 12, 3))
    for stage in range(2):
        shortcut, c = net.pool(x, "AveragePool"), net.sides[x][0]
        inner = net.shuffle(net.relu(net.conv(x, 4 * groups, group=1 if stage == 0 else groups)), groups)
        x = net.relu(net.concat(shortcut, net.conv(net.depthwise(inner, 2), 24 - c % 2, group=groups)))
        for _ in range(units - 1):
            inner = net.shuffle(net.relu(net.conv(x, 4 * groups, group=groups)), groups)
            grown = net.conv(net.depthwise(inner), net.sides[x][0], group=groups)
            x = net.relu(net.alike("Add", x, grown))
    return net.finish(net.conv(x, 10))


def steps_of(session: Session) -> list[Step]:
    plan = session._latest()  # pyright: ignore[reportPrivateUsage]
    return [step for part in plan.parts if isinstance(part, NativePart) for step in part.program.program.steps]


def moved(session: Session) -> int:
    """Elements that steps copy and do nothing else with."""
    total = 0
    for step in steps_of(session):
        given = step.arguments
        if "copy_planes" in step.kernel.name:
            total += len(given["targets"]) * given["tap_count"] * given["h"] * given["w"]
        elif "identity" in step.kernel.name:
            total += len(given["targets"]) * given["length"]
        elif "to_float32" in step.kernel.name:
            total += given["size"]
    return total


def agree(proto: onnx.ModelProto, batch: int, threads: int) -> Session:
    session = compile_onnx(proto, batch=batch, threads=threads)
    feeds = session.random_feeds(batch=batch, seed=batch)
    for found, wanted in zip(session.run(feeds).values(), reference(proto, feeds), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max() + 1e-6)
    return session


NETWORKS = {
    "shufflenet v2": (shufflenet_v2(), {"Conv", "MaxPool"}),
    "shufflenet v1, 2 groups": (shufflenet_v1(2), {"Conv", "AveragePool", "Relu"}),
    "shufflenet v1, 3 groups": (shufflenet_v1(3), {"Conv", "AveragePool", "Relu"}),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_copied_for_shuffles(name: str, threads: int) -> None:
    """Only layers have steps. Copies are the input, the output, and the phases of strided convolutions."""
    proto, layers = NETWORKS[name]
    strided = {
        node.name
        for node in proto.graph.node
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "strides" and attribute.ints[0] > 1
    }
    for batch in (1, 2, 3):
        session = agree(proto, batch, threads)
        assert not session.report().refused
        steps = steps_of(session)
        operators = {node.name: node.op_type for node in proto.graph.node}
        own = {step.layer for step in steps} - {"x", proto.graph.output[0].name}
        assert {operators[layer] for layer in own} == layers
        copies = [step.layer for step in steps if "copy" in step.kernel.name or "Identity" in step.kernel.name]
        assert set(copies) <= strided | {"x", proto.graph.output[0].name}
        assert len(copies) == len(set(copies))


def test_facts_are_those_of_the_file() -> None:
    """Shapes, densities and work are those of the weights in the file, wherever their inputs lie."""
    proto, _ = NETWORKS["shufflenet v2"]
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    shapes = {node.name: weights[node.input[1]].shape for node in proto.graph.node if node.op_type == "Conv"}
    facts = agree(proto, 1, 1).report().layers
    assert {fact.layer: fact.shape for fact in facts} == shapes
    for fact in facts:
        assert (fact.density, fact.pattern, fact.reason) == (1.0, "dense", "")
        assert fact.work == fact.macs == np.prod(shapes[fact.layer]) * np.prod(fact.output[2:])


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Random chains of everything that moves channels, keeps them apart, or mixes them."""
    net = network(side=draw(st.sampled_from([5, 9, 16])), seed=draw(st.integers(0, 99)))
    values = [net.relu(net.conv("x", draw(st.sampled_from([4, 6, 12])), draw(st.sampled_from([1, 3]))))]
    for _ in range(draw(st.integers(3, 12))):
        x = draw(st.sampled_from(values[-3:]))
        c = net.sides[x][0]
        groups = [g for g in (2, 3, 4, 6) if c % g == 0]
        kind = draw(st.sampled_from(["shuffle"] * 3 + ["split"] * 2 + ["concat"] * 4 + list(KINDS)))
        if kind == "shuffle" and groups:
            values.append(net.shuffle(x, draw(st.sampled_from(groups))))
        elif kind == "split" and c > 1:
            first = draw(st.integers(1, c - 1))
            values += net.split(x, [first, c - first])
        elif kind == "gather":
            picks = draw(st.lists(st.integers(-c, c - 1), min_size=1, max_size=16))
            _, h, w = net.sides[x]
            values += net.add("Gather", [x, net.constant(picks)], [(len(picks), h, w)], axis=1)
        elif kind == "concat":
            alike = [name for name in values if net.sides[name][1:] == net.sides[x][1:]]
            parts = [x, *draw(st.lists(st.sampled_from(alike), min_size=1, max_size=3))]
            if sum(net.sides[part][0] for part in parts) <= 64:
                values.append(net.concat(*parts))
        elif kind == "sum":
            alike = [name for name in values if net.sides[name] == net.sides[x]]
            values.append(net.alike(draw(st.sampled_from(["Add", "Sub", "Max"])), x, draw(st.sampled_from(alike))))
        elif kind in KINDS:
            values.append(KINDS[kind](net, x, draw))
    last = draw(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True))
    return net.finish(*last)


KINDS = {
    "gather": None,
    "sum": None,
    "pointwise": lambda net, x, draw: net.conv(x, draw(st.sampled_from([4, 6, 8]))),
    "3x3": lambda net, x, draw: net.conv(x, draw(st.sampled_from([4, 6])), 3, draw(st.sampled_from([1, 2]))),
    "grouped": lambda net, x, draw: net.conv(x, net.sides[x][0], 3, 1, 2 if net.sides[x][0] % 2 == 0 else 1),
    "depthwise": lambda net, x, draw: net.depthwise(x, draw(st.sampled_from([1, 2]))),
    "relu": lambda net, x, draw: net.relu(x),
    "pool": lambda net, x, draw: net.pool(x),
    "scale": lambda net, x, draw: net.alike(
        "Mul", x, net.constant(net.random.standard_normal((1, net.sides[x][0], 1, 1)).astype(np.float32))
    ),
    "softmax": lambda net, x, draw: net.alike("Softmax", x, axis=3),
}


@given(networks(), st.integers(1, 3), st.integers(1, 2))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_chains(proto: onnx.ModelProto, batch: int, threads: int) -> None:
    agree(proto, batch, threads)


@given(networks(), st.integers(1, 2))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_moving_selections_never_copies_more(proto: onnx.ModelProto, batch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "LAST_PASSES", ())
        before = agree(proto, batch, 1)
    assert moved(agree(proto, batch, 1)) <= moved(before)
