"""The rules of docs/engine.md and ENGINE.md 5 for numbers, through whole sessions.

Errors of single layers are held to a theorem, not to a tolerance: for any order of summation, with or without fused
multiply-add,

    |y - y64| <= 1.01 (n + 4) u A + n 2^-149        n nonzero terms,  A = sum |w||x| + |bias|,  u = 2^-24
"""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from engine.networks import classifier, images, model, reference, value, zeroed
from secateur.engine.plan import NativePart
from secateur.engine.session import Session, compile_onnx

U = 2.0**-24
PRIMITIVES = ("auto", "direct", "gemm", "pack")


@dataclass(frozen=True)
class Layer:
    """One convolution with all that it may have."""

    batch: int
    c: int
    o: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    group: int
    sparsity: float
    block: int
    bias: bool
    seed: int

    @property
    def out_size(self) -> tuple[int, int]:
        low, high = self.pads[:2], self.pads[2:]
        return tuple(  # type: ignore[return-value]
            (self.size[i] + low[i] + high[i] - self.dilations[i] * (self.kernel[i] - 1) - 1) // self.strides[i] + 1
            for i in range(2)
        )

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input, weights, bias."""
        rng = np.random.default_rng(self.seed)
        shape = (self.o, self.c // self.group, *self.kernel)
        weight = zeroed(shape, self.sparsity, self.block if self.o % self.block == 0 else 1, self.seed)
        x = rng.standard_normal((self.batch, self.c, *self.size)).astype(np.float32)
        bias = rng.standard_normal(self.o).astype(np.float32) if self.bias else np.zeros(self.o, np.float32)
        return x, weight, bias

    def model(self, weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
        node = helper.make_node(
            "Conv", ["x", "w", "b"], ["y"], "conv", kernel_shape=self.kernel, strides=self.strides, pads=self.pads,
            dilations=self.dilations, group=self.group,
        )  # fmt: skip
        ports = [value("x", ["n", self.c, *self.size])], [value("y", ["n", self.o, *self.out_size])]
        return model([node], *ports, {"w": weight, "b": bias})

    def convolve(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """The convolution in float64, without bias."""
        (top, left), (bottom, right) = self.pads[:2], self.pads[2:]
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
        (out_h, out_w), group = self.out_size, self.group
        padded = padded.reshape(len(x), group, self.c // group, *padded.shape[2:])
        weights = weight.astype(np.float64).reshape(group, self.o // group, self.c // group, *self.kernel)
        y = np.zeros((len(x), group, self.o // group, out_h, out_w))
        for ky in range(self.kernel[0]):
            for kx in range(self.kernel[1]):
                rows = slice(ky * self.dilations[0], ky * self.dilations[0] + (out_h - 1) * self.strides[0] + 1)
                columns = slice(kx * self.dilations[1], kx * self.dilations[1] + (out_w - 1) * self.strides[1] + 1)
                window = padded[:, :, :, rows, columns][..., :: self.strides[0], :: self.strides[1]]
                y += np.einsum("goc,ngchw->ngohw", weights[..., ky, kx], window)
        return y.reshape(len(x), self.o, out_h, out_w)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    group = draw(st.sampled_from([1, 1, 1, 2, 3]))
    depthwise = draw(st.integers(0, 5)) == 0
    c = group * draw(st.sampled_from([1, 3, 4, 5, 8, 16, 17, 33]))
    o = c * draw(st.integers(1, 2)) if depthwise else group * draw(st.sampled_from([1, 3, 4, 8, 16, 19, 32]))
    kernel = draw(st.sampled_from([(1, 1), (1, 1), (3, 3), (3, 3), (5, 5), (1, 3), (3, 1), (2, 2), (4, 2)]))
    dilations = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 3)]))
    strides = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (3, 3)]))
    pads = draw(st.one_of(st.just((kernel[0] // 2, kernel[1] // 2) * 2), st.tuples(*[st.integers(0, 3)] * 4)))
    reach = tuple(dilations[i] * (kernel[i] - 1) + 1 - pads[i] - pads[i + 2] for i in range(2))
    size = tuple(draw(st.integers(max(1, least), max(1, least) + 17)) for least in reach)
    return Layer(
        draw(st.integers(1, 5)), c, o, size, kernel, strides, pads, dilations, c if depthwise else group,  # type: ignore[arg-type]
        draw(st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0])), draw(st.sampled_from([1, 2, 4, 8])), draw(st.booleans()),
        draw(st.integers(0, 2**16)),
    )  # fmt: skip


SPARSE = Layer(2, 24, 32, (13, 15), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 0.8, 4, True, 7)
UNSTRUCTURED = Layer(2, 24, 32, (13, 15), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 0.9, 1, True, 8)
STRIDED = Layer(2, 24, 32, (13, 15), (3, 3), (2, 2), (0, 1, 2, 1), (1, 1), 1, 0.8, 1, True, 9)
DENSE = Layer(2, 16, 16, (9, 11), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 0.0, 1, True, 10)
LAYERS = {"1x4": SPARSE, "unstructured": UNSTRUCTURED, "strided": STRIDED, "dense": DENSE}


def native(session: Session) -> Session:
    assert session.report().refused == {}
    return session


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(layer=layers(), primitive=st.sampled_from(PRIMITIVES), threads=st.integers(1, 2))
def test_convolutions_are_within_the_bound(layer: Layer, primitive: str, threads: int) -> None:
    x, weight, bias = layer.arrays()
    session = native(compile_onnx(layer.model(weight, bias), threads=threads, batch=layer.batch, primitive=primitive))
    y = session.run(x)["y"]
    column = bias.reshape(1, -1, 1, 1)
    exact = layer.convolve(x, weight) + column
    size = layer.convolve(np.abs(x), np.abs(weight)) + np.abs(column)
    terms = layer.convolve(np.ones_like(x), weight != 0)
    bound = 1.01 * (terms + 4) * U * size + terms * 2.0**-149
    assert y.shape == exact.shape
    excess = (np.abs(y - exact) / np.maximum(bound, 1e-300)).max()
    assert excess <= 1, f"{excess:.2f} times the bound\n{session.report()}"


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 5), inner=st.sampled_from([1, 7, 64, 130]), columns=st.sampled_from([1, 5, 32, 67]),
    sparsity=st.sampled_from([0.0, 0.6, 0.95]), block=st.sampled_from([1, 4]), seed=st.integers(0, 99),
)  # fmt: skip
def test_linear_layers_are_within_the_bound(
    rows: int, inner: int, columns: int, sparsity: float, block: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = zeroed((columns, inner), sparsity, block if columns % block == 0 else 1, seed)
    x, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, inner), (columns,)))
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "fc", transB=1)
    proto = model([node], [value("x", ["n", inner])], [value("y", ["n", columns])], {"w": weight, "b": bias})
    y = native(compile_onnx(proto, threads=2, batch=rows)).run(x)["y"]
    exact = x.astype(np.float64) @ weight.astype(np.float64).T + bias
    size = np.abs(x).astype(np.float64) @ np.abs(weight).astype(np.float64).T + np.abs(bias)
    terms = np.count_nonzero(weight, axis=1)
    assert (np.abs(y - exact) <= 1.01 * (terms + 4) * U * size + terms * 2.0**-149).all()


# NaN and infinity


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("primitive", PRIMITIVES)
@pytest.mark.parametrize("name", LAYERS)
def test_what_is_not_finite_reaches_what_reads_it_and_nothing_else(name: str, primitive: str, special: float) -> None:
    layer = LAYERS[name]
    x, weight, bias = layer.arrays()
    session = native(compile_onnx(layer.model(weight, bias), threads=2, batch=layer.batch, primitive=primitive))
    clean = session.run(x)["y"]
    h, w = layer.size
    for position in ((0, 0, 0, 0), (0, layer.c - 1, h - 1, w - 1), (1, 3, h // 2, w - 1), (1, 5, 0, w // 2)):
        spoilt, where = x.copy(), np.zeros_like(x)
        spoilt[position], where[position] = special, 1
        found = session.run(spoilt)["y"]
        reads = layer.convolve(where, weight != 0) > 0
        near = layer.convolve(where, np.ones_like(weight)) > 0
        signs = np.sign(layer.convolve(where, weight))
        # A pruned weight is no multiplication, or one by zero where its block is kept: both are allowed.
        np.testing.assert_array_equal(found[~near], clean[~near])
        assert not np.isfinite(found[reads]).any()
        # Rows in lockstep fill short rows up with zero weights at positions that they read anyway: infinity times zero.
        if _format(session) != "rows":
            np.testing.assert_array_equal(found[reads], (special * signs[reads]).astype(np.float32))
    np.testing.assert_array_equal(session.run(x)["y"], clean)


def _format(session: Session) -> str:
    choice = session.report().layers[0].choice
    return choice.format if choice else ""


SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 3.4e38, -3.4e38, 1, -1, 3, -3, 6, 88, -88, 104, -104],
    np.float32,
)
ACTIVATIONS = {
    "Relu": {}, "LeakyRelu": {"alpha": 0.1}, "Sigmoid": {}, "HardSigmoid": {}, "HardSwish": {}, "Tanh": {}, "Elu": {},
    "Softplus": {}, "Exp": {}, "Sqrt": {}, "Abs": {}, "Neg": {}, "Erf": {}, "Gelu": {}, "Mish": {}, "Clip": {},
}  # fmt: skip


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("operator", ACTIVATIONS)
def test_activations_of_special_values_are_those_of_onnx_runtime(operator: str, fused: bool) -> None:
    constants = {"w": np.ones((1, 1, 1, 1), np.float32), "low": np.float32(0), "high": np.float32(6)}
    inputs = ["c", "low", "high"] if operator == "Clip" else ["c"]
    nodes = [helper.make_node("Conv" if fused else "Neg", ["x", "w"] if fused else ["x"], ["c"], "before")]
    nodes.append(helper.make_node(operator, inputs, ["y"], "act", **ACTIVATIONS[operator]))
    sides = [1, 1, 6, 6]
    proto = model(nodes, [value("x", sides)], [value("y", sides)], constants)
    proto.opset_import[0].version = 20
    x = np.concatenate([SPECIAL, SPECIAL[::-1]]).reshape(sides)
    found = native(compile_onnx(proto, threads=1)).run(x)["y"]
    (wanted,) = reference(proto, {"x": x})
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    # Values of which the exact result is denormal may become zero in either; Gelu(-6) is -6e-9, ORT says zero.
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-8 if operator == "Gelu" else 1e-37)


# Memory


@pytest.mark.parametrize("primitive", PRIMITIVES)
@pytest.mark.parametrize("block", [1, 4])
def test_no_run_sees_what_an_earlier_one_left(primitive: str, block: int) -> None:
    session = native(compile_onnx(classifier(n=block, sparsity=0.9), threads=2, batch=3, primitive=primitive))
    (part,) = session._plan_for((("input", (3, 3, 16, 16)),)).parts
    assert isinstance(part, NativePart)
    first = session.run(images(3))["logits"]
    for other in (np.full((3, 3, 16, 16), np.nan, np.float32), images(3, seed=1) * 1e30, images(3, seed=2)):
        session.run(other)
        np.testing.assert_array_equal(session.run(images(3))["logits"], first)
        part.program.poison()
        np.testing.assert_array_equal(session.run(images(3))["logits"], first)
    assert part.program.damaged_guards() == []


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_what_lies_around_an_input_does_not_matter(name: str, primitive: str) -> None:
    layer = LAYERS[name]
    x, weight, bias = layer.arrays()
    session = native(compile_onnx(layer.model(weight, bias), threads=1, batch=layer.batch, primitive=primitive))
    around = np.full(x.size + 8192, np.nan, np.float32)
    inside = around[4099 : 4099 + x.size].reshape(x.shape)
    inside[...] = x
    np.testing.assert_array_equal(session.run(inside)["y"], session.run(x)["y"])


# Bits


@pytest.mark.parametrize("block", [1, 4])
def test_threads_and_repetition_do_not_change_the_bits(block: int) -> None:
    proto, x = classifier(n=block, sparsity=0.85), images(5)
    first = compile_onnx(proto, threads=1).run(x)["logits"]
    for threads in (1, 2, 3, 4):
        session = compile_onnx(proto, threads=threads)
        for _ in range(5):
            np.testing.assert_array_equal(session.run(x)["logits"], first)


def test_images_of_a_batch_are_computed_like_single_ones() -> None:
    session, x = compile_onnx(classifier(), threads=2), images(5)
    together = session.run(x)["logits"]
    alone = np.concatenate([session.run(image[None])["logits"] for image in x])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


# Denormals


@pytest.mark.parametrize("threads", [1, 2])
def test_denormal_weights_count_unless_they_are_to_be_flushed(threads: int) -> None:
    weight = np.zeros((8, 16, 1, 1), np.float32)
    weight[:, ::4] = 1e-40
    proto = SPARSE_POINT.model(weight, np.zeros(8, np.float32))
    x = np.ones((1, 16, 5, 5), np.float32)
    kept = native(compile_onnx(proto, threads=threads))
    assert kept.report().layers[0].density == pytest.approx(0.25)
    np.testing.assert_allclose(kept.run(x)["y"], 4e-40, rtol=1e-4)
    assert (compile_onnx(proto, threads=threads, denormals="flush").run(x)["y"] == 0).all()
    assert np.float32(1e-40) * np.float32(1) > 0, "the caller's mode is as before"


SPARSE_POINT = Layer(1, 16, 8, (5, 5), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, 0.75, 8, False, 0)
