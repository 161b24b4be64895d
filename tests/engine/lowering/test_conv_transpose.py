"""Transposed convolutions against float64 and ONNX Runtime."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import secateur.engine.lowering.families  # noqa: F401  (registers lowerings)
from engine.harness import ISAS, TARGETS, Memory, empty_context, run
from engine.networks import model, reference, value, zeroed
from engine.peers import filled, onnx_runtime
from secateur.engine.choice import Choice
from secateur.engine.choose import ByPrediction
from secateur.engine.facts import LayerFacts
from secateur.engine.lowering.context import Decision, lowerings
from secateur.engine.lowering.phases import axis_of
from secateur.engine.session import compile_onnx
from secateur.graph.ir import Activation, Graph, Node, TensorType


def exact(x, weight, bias, strides, pads, dilations, groups, output_padding):
    """Float64 result, scattered tap by tap as the operator is defined; and the sum of absolute terms."""
    n, c, h, w = x.shape
    _, per_group, kh, kw = weight.shape
    sizes = [
        s * (side - 1) + more + (k - 1) * d + 1
        for s, side, more, k, d in zip(strides, (h, w), output_padding, (kh, kw), dilations, strict=True)
    ]
    total, size = np.zeros((2, n, per_group * groups, *sizes))
    taken = x.reshape(n, groups, c // groups, h, w).astype(np.float64)
    grouped = weight.reshape(groups, c // groups, per_group, kh, kw).astype(np.float64)
    for ky in range(kh):
        for kx in range(kw):
            tap = grouped[..., ky, kx]
            y, z = ky * dilations[0], kx * dilations[1]
            at = np.s_[
                :, :, y : y + strides[0] * (h - 1) + 1 : strides[0], z : z + strides[1] * (w - 1) + 1 : strides[1]
            ]
            total[at] += np.einsum("ngchw,gco->ngohw", taken, tap).reshape(n, -1, h, w)
            size[at] += np.einsum("ngchw,gco->ngohw", abs(taken), abs(tap)).reshape(n, -1, h, w)
    inside = np.s_[:, :, pads[0] : sizes[0] - pads[2], pads[1] : sizes[1] - pads[3]]
    total, size = total[inside], size[inside]
    if bias is not None:
        total, size = total + bias[:, None, None], size + abs(bias)[:, None, None]
    return total, size


def lower(
    isa, x, weight, bias, out, attributes, *, choice=None, pad=0, activation=None
) -> tuple[np.ndarray, LayerFacts]:
    """What the steps of one node compute, and its facts."""
    constants = {"w": weight} | ({} if bias is None else {"b": bias})
    names = ("x", "w") if bias is None else ("x", "w", "b")
    arrays = {"x": x, **constants}
    types = {name: TensorType(array.shape, "float32") for name, array in arrays.items()} | {
        "y": TensorType(out, "float32")
    }
    act = Activation(activation) if activation else None
    node = Node("node", "ConvTranspose", names, ("y",), {**attributes, "activation": act}, "secateur")
    graph = Graph((node,), ("x",), ("y",), types, constants, 20)
    assert lowerings["ConvTranspose"].refuses(node, graph) is None
    context, memory = empty_context(isa, graph, {x.shape[2:]: pad, out[2:]: pad}), Memory()
    predicted = ByPrediction(TARGETS[isa])
    context.choose = (lambda *about: Decision(choice)) if choice else predicted
    context.places["x"] = filled(context, memory, "x", x)
    context.layer = "node"
    lowerings["ConvTranspose"].lower(node, context)
    run(context.steps, memory, isa, 2)
    (facts,) = context.layers
    return memory.get(context.tensor("y")), facts


def check(isa, shape, outputs, kernel, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), groups=1, more=(0, 0),
          density=1.0, seed=0, **options) -> LayerFacts:  # fmt: skip
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(np.float32)
    weight = rng.standard_normal((shape[1], outputs // groups, *kernel)).astype(np.float32)
    weight *= rng.random(weight.shape) < density
    bias = rng.standard_normal(outputs).astype(np.float32) if seed % 2 else None
    want, size = exact(x, weight, bias, strides, pads, dilations, groups, more)
    attributes = {
        "strides": strides, "pads": pads, "dilations": dilations, "group": groups, "output_padding": more,
    }  # fmt: skip
    if options.get("activation") == "relu":
        want = np.maximum(want, 0)
    got, facts = lower(isa, x, weight, bias, want.shape, attributes, **options)
    terms = shape[1] // groups * kernel[0] * kernel[1]
    bound = 1.01 * (terms + 4) * 2.0**-24 * size + 1e-30
    assert (abs(got - want) <= bound).all(), abs(got - want).max()
    assert facts.density == np.count_nonzero(weight) / weight.size
    assert facts.macs == shape[0] * shape[2] * shape[3] * weight.size
    return facts


def case(shape, outputs, kernel, **rest):
    return {"shape": shape, "outputs": outputs, "kernel": kernel, **rest}


CASES = {
    "upsample_2": case((1, 6, 7, 9), 5, (2, 2), strides=(2, 2)),
    "unet_3": case((2, 5, 8, 8), 6, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), more=(1, 1)),
    "dcgan_4": case((1, 8, 9, 7), 4, (4, 4), strides=(2, 2), pads=(1, 1, 1, 1)),
    "from_one_pixel": case((2, 9, 1, 1), 4, (4, 4)),
    "flipped": case((1, 4, 11, 13), 6, (3, 3), pads=(1, 1, 1, 1)),
    "stride_3": case((3, 4, 5, 6), 3, (5, 3), strides=(3, 2), pads=(2, 1, 1, 0)),
    "fewer_taps_than_phases": case((1, 4, 5, 6), 3, (1, 2), strides=(3, 4), more=(2, 1)),
    "wide_strides": case((1, 3, 3, 4), 2, (8, 16), strides=(4, 8), pads=(2, 4, 2, 4)),
    "dilated": case((1, 4, 7, 8), 5, (3, 3), dilations=(2, 3), pads=(2, 3, 2, 3)),
    "dilated_strided": case((2, 4, 7, 8), 5, (3, 2), strides=(2, 3), dilations=(3, 2)),
    "dilation_meets_stride": case((1, 4, 7, 8), 5, (3, 3), strides=(2, 2), dilations=(2, 4)),
    "grouped": case((2, 6, 7, 7), 9, (3, 3), strides=(2, 2), groups=3),
    "depthwise": case((2, 6, 7, 7), 6, (4, 4), strides=(2, 2), groups=6, pads=(1, 1, 1, 1)),
    "more_cropped_than_reached": case((1, 3, 6, 6), 4, (2, 2), strides=(2, 2), pads=(3, 2, 4, 5)),
    "to_one_pixel": case((1, 3, 2, 2), 4, (3, 3), strides=(2, 2), pads=(2, 2, 2, 2)),
    "asymmetric": case((1, 3, 9, 8), 4, (5, 4), strides=(2, 2), pads=(0, 3, 2, 1), more=(0, 1)),
    "row": case((1, 3, 1, 35), 4, (1, 4), strides=(1, 2), pads=(0, 1, 0, 1)),
}  # fmt: skip
CHOICES = [
    None,
    Choice("dense", "direct", 4, 3),
    Choice("block", "pack", 4, 2),
    Choice("panel", "direct", 2, 3),
    Choice("panel", "gemm", 3, 2),
    Choice("block", "pack", 2, 2, block=5),
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", CASES)
def test_against_float64(name: str, isa: str) -> None:
    for density, pad in ((1.0, 0), (0.3, 1), (0.0, 3)):
        check(isa, **CASES[name], density=density, pad=pad, seed=len(name))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("name", ["unet_3", "stride_3", "dilated_strided", "grouped", "asymmetric"])
def test_every_primitive_and_format(name: str, choice: Choice | None) -> None:
    check(ISAS[0], **CASES[name], density=0.3, choice=choice, pad=1, seed=1, activation="relu")


@pytest.mark.parametrize("name", CASES)
def test_against_onnx_runtime(name: str) -> None:
    case = CASES[name]
    groups = case.get("groups", 1)
    x = np.random.default_rng(5).standard_normal(case["shape"]).astype(np.float32)
    weight = zeroed((case["shape"][1], case["outputs"] // groups, *case["kernel"]), 0.5)
    attributes = {
        "strides": case.get("strides", (1, 1)),
        "pads": case.get("pads", (0, 0, 0, 0)),
        "dilations": case.get("dilations", (1, 1)),
        "output_padding": case.get("more", (0, 0)),
        "group": groups,
    }
    (want,) = onnx_runtime("ConvTranspose", [x, weight], attributes)
    for isa in ISAS:
        got, _ = lower(isa, x, weight, None, want.shape, attributes)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@given(
    batch=st.integers(1, 3), channels=st.integers(1, 4), outputs=st.integers(1, 5), groups=st.integers(1, 3),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 20)), kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 5)), dilations=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    cropped=st.tuples(*[st.floats(0, 1)] * 4), density=st.sampled_from([0.0, 0.1, 0.5, 1.0]), pad=st.integers(0, 3),
    seed=st.integers(0, 99), data=st.data(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_any_numbers(
    batch, channels, outputs, groups, sides, kernel, strides, dilations, cropped, density, pad, seed, data
) -> None:
    more = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True))
    full = [
        s * (side - 1) + extra + (k - 1) * d + 1
        for s, side, extra, k, d in zip(strides, sides, more, kernel, dilations, strict=True)
    ]
    before = [int((size - 1) * share) for size, share in zip(full, cropped[:2], strict=True)]
    after = [int((size - 1 - b) * share) for size, b, share in zip(full, before, cropped[2:], strict=True)]
    shape = (batch, channels * groups, *sides)
    check(ISAS[0], shape, outputs * groups, kernel, strides, (*before, *after), dilations, groups, more,
          density=density, pad=pad, seed=seed)  # fmt: skip


def test_stride_1_is_the_flipped_kernel() -> None:
    axis = axis_of(3, 1, 2, 1)
    assert axis.taps == ((0, 0, 2), (0, 1, 1), (0, 2, 0))
    assert (axis.before, axis.spacing, axis.size) == (0, 1, 3)


def test_dilation_of_stride_1_stays_a_dilation() -> None:
    axis = axis_of(3, 1, 4, 4)
    assert (axis.spacing, axis.size) == (4, 3)


def test_zeros_of_phases_without_a_tap_are_not_multiplied() -> None:
    """A kernel of 3 at stride 2 has 9 taps in 16 places; blocks of outputs skip the rest."""
    shape = {"shape": (1, 32, 28, 28), "outputs": 32, "kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    facts = check(ISAS[0], **shape, more=(1, 1))
    assert facts.choice is not None and facts.choice.format == "block"
    assert facts.pattern == "dense" and facts.reason == ""
    assert facts.weight_bytes < 1.5 * 4 * 32 * 32 * 9


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_in_a_network(batch: int, threads: int) -> None:
    """Behind a convolution, before a concatenation and an activation."""
    proto = _network()
    x = np.random.default_rng(1).standard_normal((batch, 3, 12, 10)).astype(np.float32)
    (want,) = reference(proto, {"x": x})
    session = compile_onnx(proto, threads=threads)
    np.testing.assert_allclose(session.run({"x": x})["y"], want, rtol=1e-4, atol=1e-5)


def _network() -> onnx.ModelProto:
    constants = {
        "a": zeroed((8, 3, 3, 3), 0.0),
        "b": zeroed((8, 8, 3, 3), 0.6, 1, 1),
        "up": zeroed((8, 6, 4, 4), 0.7, 1, 2),
        "up.bias": np.arange(6, dtype=np.float32),
        "end": zeroed((4, 14, 1, 1), 0.5, 1, 3),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "b"], ["d"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["d", "up", "up.bias"], ["e"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Sigmoid", ["e"], ["f"]),
        helper.make_node("Concat", ["c", "f"], ["g"], axis=1),
        helper.make_node("Conv", ["g", "end"], ["y"]),
    ]
    return model(nodes, [value("x", ["n", 3, 12, 10])], [value("y", ["n", 4, 12, 10])], constants)
