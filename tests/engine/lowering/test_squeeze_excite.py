"""Squeeze-and-excitation: against float64 and ONNX Runtime, alone and in whole sessions."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from engine.harness import ISAS
from engine.networks import model, reference, value, zeroed
from engine.peers import lowered
from secateur.engine.session import compile_onnx
from secateur.graph.activations import apply_activation
from secateur.graph.ir import Activation

GATES = {
    "Sigmoid": (Activation("sigmoid"), {}),
    "HardSigmoid": (Activation("hard_sigmoid", 1 / 6, 0.5), {"alpha": 1 / 6, "beta": 0.5}),
}


def computed(x, w1, b1, w2, b2, residual, hidden, gate, activation) -> np.ndarray:
    """The definition, in float64."""
    rows = apply_activation(hidden, x.astype(np.float64).mean((2, 3)) @ w1.T.astype(np.float64) + b1)
    gates = apply_activation(gate, rows @ w2.T.astype(np.float64) + b2)
    return apply_activation(activation, x * gates[:, :, None, None] + residual)


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    """ENGINE.md 5, for a layer against another engine."""
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 2e-5 * np.abs(wanted).max() + 1e-6


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(1, 5, 7, 7), (3, 33, 3, 5), (2, 16, 1, 1), (2, 8, 12, 9), (1, 4, 1, 9)])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("pad", [0, 2])
def test_alone(isa: str, shape: tuple[int, ...], residual: bool, pad: int) -> None:
    rng = np.random.default_rng(0)
    c = shape[1]
    x, r = rng.standard_normal((2, *shape)).astype(np.float32)
    w1, w2 = (rng.standard_normal(sides).astype(np.float32) for sides in ((3, c), (c, 3)))
    b1, b2 = (rng.standard_normal(sides).astype(np.float32) for sides in (3, c))
    for activation in (None, Activation("relu"), Activation("sigmoid")):
        kinds = {"hidden": Activation("silu"), "gate": Activation("sigmoid"), "activation": activation}
        inputs = [x, w1, b1, w2, b2, *([r] if residual else [])]
        attributes = {**kinds, "layers": ("fc1", "fc2")}
        (y,) = lowered("SqueezeExcite", inputs, [shape], attributes, isa, constants=(1, 2, 3, 4), pad=pad)
        close(y, computed(x, w1, b1, w2, b2, r if residual else 0, **kinds))


@dataclass(frozen=True)
class Block:
    """Pointwise convolution, squeeze-and-excitation, perhaps a sum with its input and an activation, convolution."""

    batch: int
    channels: int
    hidden: int
    size: tuple[int, int]
    gate: str
    sparsity: float
    block: int
    bias: bool
    residual: str
    activation: bool
    seed: int

    def constants(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        c, h = self.channels, self.hidden
        made = {
            "w0": zeroed((c, 5, 1, 1), 0.0, 1, self.seed),
            "w1": zeroed((h, c, 1, 1), self.sparsity, self.block, self.seed + 1),
            "w2": zeroed((c, h, 1, 1), self.sparsity, self.block, self.seed + 2),
            "w3": zeroed((4, c, 3, 3), 0.5, 4, self.seed + 3),
        }
        if self.bias:
            made |= {"b1": rng.standard_normal(h).astype(np.float32), "b2": rng.standard_normal(c).astype(np.float32)}
        return made

    def model(self) -> onnx.ModelProto:
        bias = ["b1"], ["b2"]
        nodes = [
            helper.make_node("Conv", ["x", "w0"], ["a"], "expand"),
            helper.make_node("GlobalAveragePool", ["a"], ["m"], "mean"),
            helper.make_node("Conv", ["m", "w1", *(bias[0] if self.bias else ())], ["s"], "fc1"),
            helper.make_node("Relu", ["s"], ["h"], "relu"),
            helper.make_node("Conv", ["h", "w2", *(bias[1] if self.bias else ())], ["e"], "fc2"),
            helper.make_node(self.gate, ["e"], ["g"], "gate", **GATES[self.gate][1]),
            helper.make_node("Mul", ["a", "g"], ["p"], "scale"),
        ]
        last = "p"
        if self.residual:
            nodes.append(helper.make_node("Add", ["p", self.residual], ["q"], "sum"))
            last = "q"
        if self.activation:
            nodes.append(helper.make_node("Relu", [last], ["z"], "late"))
            last = "z"
        nodes.append(helper.make_node("Conv", [last, "w3"], ["y"], "project", pads=[1] * 4))
        h, w = self.size
        inputs = [value("x", ["n", 5, h, w])]
        if self.residual == "r":
            inputs.append(value("r", ["n", self.channels, h, w]))
        return model(nodes, inputs, [value("y", ["n", 4, h, w])], self.constants())

    def feeds(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed + 9)
        sides = {"x": (self.batch, 5, *self.size), "r": (self.batch, self.channels, *self.size)}
        names = ["x", "r"] if self.residual == "r" else ["x"]
        return {name: rng.standard_normal(sides[name]).astype(np.float32) for name in names}

    def wanted(self) -> np.ndarray:
        """The network in float64."""
        feeds, constants = self.feeds(), {name: array.astype(np.float64) for name, array in self.constants().items()}
        a = np.einsum("oc,nchw->nohw", constants["w0"][:, :, 0, 0], feeds["x"])
        residual = {"": 0, "a": a, "r": feeds.get("r", 0)}[self.residual]
        relu = Activation("relu")
        p = computed(
            *(a, constants["w1"][:, :, 0, 0], constants.get("b1", 0), constants["w2"][:, :, 0, 0]),
            *(constants.get("b2", 0), residual, relu, GATES[self.gate][0], relu if self.activation else None),
        )
        padded = np.pad(p, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        return np.einsum("ocyx,nchwyx->nohw", constants["w3"], windows)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    n = draw(st.sampled_from([1, 1, 4]))
    return Block(
        *(draw(st.integers(1, 3)), n * draw(st.sampled_from([1, 4, 9, 24])), n * draw(st.sampled_from([1, 2, 8, 13]))),
        draw(st.sampled_from([(1, 1), (2, 3), (7, 7), (9, 16), (20, 17)])),
        draw(st.sampled_from(sorted(GATES))), draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])), n, draw(st.booleans()),
        draw(st.sampled_from(["", "a", "r"])), draw(st.booleans()), draw(st.integers(0, 2**16)),
    )  # fmt: skip


@settings(max_examples=30, deadline=None, derandomize=True)
@given(block=blocks(), threads=st.integers(1, 2))
def test_whole_sessions(block: Block, threads: int) -> None:
    proto, feeds = block.model(), block.feeds()
    session = compile_onnx(proto, threads=threads, batch=block.batch)
    assert session.report().refused == {}
    for _ in range(2):  # a second run finds what the first one left in memory
        (y,) = session.run(feeds).values()
        close(y, block.wanted())
        close(y, reference(proto, feeds)[0])


PLAIN = Block(2, 24, 8, (9, 9), "Sigmoid", 0.0, 1, True, "", False, 3)
SPARSE = Block(2, 64, 32, (9, 9), "Sigmoid", 0.9, 4, True, "", False, 3)


def test_the_report_shows_both_products_and_the_rest_as_one() -> None:
    report = compile_onnx(PLAIN.model(), threads=1, batch=2).report()
    rows = {fact.layer: fact for fact in report.layers}
    assert list(rows) == ["expand", "fc1", "fc2", "project"]
    assert [rows[name].operator for name in ("fc1", "fc2")] == ["squeeze", "excite"]
    assert [rows[name].macs for name in ("fc1", "fc2")] == [2 * 24 * 8] * 2
    assert report.others == {"SqueezeExcite": 1}
    assert "excite" in str(report)


def test_the_profile_has_a_time_for_every_part() -> None:
    profile = compile_onnx(PLAIN.model(), threads=1, batch=2).profile(rounds=2)
    assert set(profile.others) >= {"SqueezeExcite"} and all(row.seconds > 0 for row in profile.layers)


def test_zeros_are_skipped() -> None:
    report = compile_onnx(SPARSE.model(), threads=1, batch=2).report()
    rows = {fact.layer: fact for fact in report.layers}
    for name in ("fc1", "fc2"):
        assert "sparse" in rows[name].kernel and rows[name].weight_bytes < 64 * 32 * 4


def test_it_is_computed_in_place() -> None:
    """Means, squeeze, excite, scaling: no other step, and the scaling writes what it reads."""
    session = compile_onnx(PLAIN.model(), threads=1, batch=2)
    steps = [step for step in session._latest().parts[0].program.program.steps if step.layer in ("scale", "fc1", "fc2")]
    assert [step.layer for step in steps] == ["scale", "fc1", "fc2", "scale"]
    assert steps[-1].writes[0] in steps[-1].reads


def test_nan_and_infinity_stay_in_their_image() -> None:
    proto, feeds = PLAIN.model(), PLAIN.feeds()
    session = compile_onnx(proto, threads=2, batch=2)
    clean = session.run(feeds)["y"]
    spoilt = {"x": feeds["x"].copy()}
    spoilt["x"][0, :, 4, 4] = np.nan
    y = session.run(spoilt)["y"]
    assert np.isnan(y[0]).any()
    np.testing.assert_array_equal(y[1], clean[1])
    np.testing.assert_array_equal(session.run(feeds)["y"], clean)  # no NaN stays in the padding


def test_between_foreign_operators_it_still_runs_natively() -> None:
    nodes = [helper.make_node("CumSum", ["x", "axis"], ["a"], "before"), *PLAIN.model().graph.node[1:7]]
    nodes.append(helper.make_node("CumSum", ["p", "axis"], ["y"], "after"))
    sides = [1, PLAIN.channels, 9, 9]
    constants = {**PLAIN.constants(), "axis": np.array(3, np.int64)}
    proto = model(nodes, [value("x", sides)], [value("y", sides)], constants)
    session = compile_onnx(proto, threads=1)
    assert set(session.report().refused) == {"before", "after"}
    feeds = session.random_feeds(1)
    close(session.run(feeds)["y"], reference(proto, feeds)[0])
