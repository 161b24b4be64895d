"""Whole networks of 8-bit integers, quantized by ONNX Runtime: everything runs natively, and results are its own.

Convolutions, products, maxima and moves are equal to the bit. Sums, averages of windows and functions between are
ordered differently here and there (graph.quantized.arithmetic), so that networks which have some may be a step off.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from engine.networks import model, reference, value
from secateur.engine.plan import NativePart
from secateur.engine.session import compile_onnx
from secateur.engine.target import host_target
from secateur.errors import EngineError

SIDE = 20


@dataclass
class Net:
    """A float network under construction; x is the value that the next layer reads."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=lambda: {"input": 3})
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, operator: str, *inputs: str, channels: int = 0, **attributes) -> str:
        name = f"{operator}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        self.channels[name] = channels or self.channels[inputs[0]]
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def conv(self, x: str, out: int, kernel: int = 1, stride: int = 1, group: int = 1) -> str:
        fan = self.channels[x] // group
        weight = self.random.standard_normal((out, fan, kernel, kernel)) * np.sqrt(2 / (fan * kernel * kernel))
        bias = self.random.standard_normal(out) * 0.1
        operands = (self.constant(weight.astype(np.float32)), self.constant(bias.astype(np.float32)))
        pads = [kernel // 2] * 4
        return self.add("Conv", x, *operands, channels=out, pads=pads, strides=[stride] * 2, group=group)

    def relu(self, x: str) -> str:
        return self.add("Relu", x)

    def depthwise(self, x: str, kernel: int = 3, stride: int = 1) -> str:
        return self.conv(x, self.channels[x], kernel, stride, self.channels[x])

    def hard_swish(self, x: str) -> str:
        return self.add("HardSwish", x)

    def silu(self, x: str) -> str:
        return self.add("Mul", x, self.add("Sigmoid", x))

    def gates(self, x: str, few: int, gate: str = "HardSigmoid") -> str:
        """Squeeze and excitation."""
        hidden = self.relu(self.conv(self.add("GlobalAveragePool", x), few))
        return self.add("Mul", x, self.add(gate, self.conv(hidden, self.channels[x])))

    def classified(self, x: str) -> onnx.ModelProto:
        flat = self.add("Flatten", self.add("GlobalAveragePool", x))
        weight = self.random.standard_normal((10, self.channels[x])).astype(np.float32)
        out = self.add("Gemm", flat, self.constant(weight), channels=10, transB=1)
        self.nodes.append(helper.make_node("Identity", [out], ["logits"], "last"))
        inputs = [value("input", [1, 3, SIDE, SIDE])]
        return model(self.nodes, inputs, [value("logits", [1, 10])], self.constants)


def resnet(net: Net) -> str:
    x = net.add("MaxPool", net.relu(net.conv("input", 12, 3)), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = net.relu(net.add("Add", net.conv(net.relu(net.conv(x, 12, 3)), 12, 3), x))
    shortcut = net.conv(x, 20, 1, 2)
    return net.relu(net.add("Add", net.conv(net.relu(net.conv(x, 20, 3, 2)), 20, 3), shortcut))


def mobilenet_v1(net: Net) -> str:
    x = net.relu(net.conv("input", 8, 3, 2))
    for out, stride in ((14, 1), (16, 2), (16, 1)):
        x = net.relu(net.conv(net.relu(net.depthwise(x, 3, stride)), out))
    return x


def mobilenet_v2(net: Net) -> str:
    def clip(x: str) -> str:
        return net.add("Clip", x, net.constant(np.float32(0)), net.constant(np.float32(6)))

    x = clip(net.conv("input", 8, 3, 2))
    for out, stride in ((12, 1), (12, 1), (20, 2), (20, 1)):
        y = net.conv(clip(net.depthwise(clip(net.conv(x, 4 * net.channels[x])), 3, stride)), out)
        x = net.add("Add", y, x) if stride == 1 and net.channels[x] == out else y
    return x


def mobilenet_v3(net: Net) -> str:
    x = net.hard_swish(net.conv("input", 8, 3, 2))
    for kernel, stride in ((3, 1), (5, 2), (5, 1)):
        y = net.hard_swish(net.depthwise(net.hard_swish(net.conv(x, 24)), kernel, stride))
        y = net.conv(net.gates(y, 8), 16)
        x = net.add("Add", y, x) if stride == 1 and net.channels[x] == 16 else y
    return net.hard_swish(net.conv(x, 32))


def efficientnet(net: Net) -> str:
    x = net.silu(net.conv("input", 8, 3, 2))
    for kernel, stride in ((3, 1), (5, 2)):
        y = net.silu(net.depthwise(net.silu(net.conv(x, 24)), kernel, stride))
        x = net.conv(net.gates(y, 6, "Sigmoid"), 12)
    return net.silu(net.conv(x, 20))


def shufflenet(net: Net) -> str:
    x = net.relu(net.conv("input", 20, 3, 2))
    for _ in range(2):
        half = net.channels[x] // 2
        ends = [net.constant(np.array([end])) for end in (0, half, 2 * half)]
        axis = net.constant(np.array([1]))
        left, right = (net.add("Slice", x, *ends[i : i + 2], axis, channels=half) for i in (0, 1))
        right = net.relu(net.conv(net.depthwise(net.relu(net.conv(right, half))), half))
        both = net.add("Concat", left, right, channels=2 * half, axis=1)
        side = SIDE // 2
        wide = net.add("Reshape", both, net.constant(np.array([-1, 2, half, side, side])))
        turned = net.add("Transpose", wide, perm=[0, 2, 1, 3, 4])
        x = net.add("Reshape", turned, net.constant(np.array([-1, 2 * half, side, side])), channels=2 * half)
    return x


def squeezenet(net: Net) -> str:
    x = net.add("MaxPool", net.relu(net.conv("input", 16, 3)), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    for few, out in ((4, 8), (6, 10)):
        small = net.relu(net.conv(x, few))
        parts = [net.relu(net.conv(small, out, kernel)) for kernel in (1, 3)]
        x = net.add("Concat", *parts, channels=2 * out, axis=1)
    return x


def densenet(net: Net) -> str:
    x = net.relu(net.conv("input", 8, 3))
    for _ in range(3):
        x = net.add("Concat", x, net.relu(net.conv(x, 6, 3)), channels=net.channels[x] + 6, axis=1)
    x = net.add("AveragePool", net.conv(x, 12), kernel_shape=[2, 2], strides=[2, 2])
    return net.add("AveragePool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)


def detector(net: Net) -> str:
    """Pools of stride 1, maps of two sizes put together, blocks of pixels as channels and back."""
    x = net.relu(net.conv(net.add("SpaceToDepth", "input", blocksize=2, channels=12), 16, 3))
    pools = [net.add("MaxPool", x, kernel_shape=[k, k], strides=[1, 1], pads=[k // 2] * 4) for k in (3, 5)]
    x = net.add("Concat", x, *pools, channels=48, axis=1)
    small = net.relu(net.conv(x, 20, 3, 2))
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    wide = net.add("Resize", small, "", scales, channels=20, **how)
    x = net.relu(net.conv(net.add("Concat", wide, x, channels=68, axis=1), 24, 3))
    return net.conv(net.add("DepthToSpace", x, blocksize=2, channels=6), 9, 3)


# Network -> steps that its results may be off.
NETWORKS: dict[Callable[[Net], str], int] = {
    resnet: 1, mobilenet_v1: 0, mobilenet_v2: 1, mobilenet_v3: 1, efficientnet: 1, shufflenet: 0, squeezenet: 0,
    densenet: 1, detector: 0,
}  # fmt: skip


class Batches(CalibrationDataReader):
    def __init__(self, random: np.random.Generator) -> None:
        self.left = [random.standard_normal((1, 3, SIDE, SIDE)).astype(np.float32) for _ in range(4)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"input": self.left.pop()} if self.left else None


def quantized(proto: onnx.ModelProto, folder: Path, form: QuantFormat, activations: QuantType) -> onnx.ModelProto:
    source, target = folder / "float.onnx", folder / "integers.onnx"
    onnx.save(proto, source)
    quantize_static(
        source, target, Batches(np.random.default_rng(1)), quant_format=form, activation_type=activations,
        weight_type=QuantType.QInt8, per_channel=True, extra_options={"ActivationSymmetric": False},
    )  # fmt: skip
    return onnx.load(target)


def step_of(proto: onnx.ModelProto) -> float:
    """The scale of the logits."""
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    scales = [found[node.input[1]] for node in proto.graph.node if node.op_type == "DequantizeLinear"]
    by_output = {node.output[0]: node for node in proto.graph.node}
    last = by_output["logits"]
    while last.op_type != "DequantizeLinear":
        last = by_output[last.input[0]]
    assert scales
    return float(found[last.input[1]])


def images(batch: int = 1) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((batch, 3, SIDE, SIDE)).astype(np.float32)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
@pytest.mark.parametrize(
    ("form", "activations"),
    [
        (QuantFormat.QDQ, QuantType.QUInt8),
        (QuantFormat.QDQ, QuantType.QInt8),
        (QuantFormat.QOperator, QuantType.QUInt8),
    ],
    ids=["qdq_uint8", "qdq_int8", "operators_uint8"],
)
def test_results_are_those_of_onnx_runtime(
    network: Callable[[Net], str], form: QuantFormat, activations: QuantType, tmp_path: Path
) -> None:
    net = Net()
    proto = quantized(net.classified(network(net)), tmp_path, form, activations)
    with compile_onnx(proto, threads=1) as session:
        report = session.report()
        (ours,) = session.run({"input": images()}).values()
    (theirs,) = reference(proto, {"input": images()})
    step = step_of(proto)
    assert np.abs(theirs).max() > 50 * step
    off = np.abs(ours - theirs).max() / step
    assert off <= NETWORKS[network] + 1e-3, f"{off:.2f} steps"
    if form == QuantFormat.QDQ:
        assert not report.refused, str(report)
        assert {fact.bits for fact in report.layers} == {8}
        assert set(report.others) & {"Quantize", "Dequantize"} and report.others["Quantize"] == 1


@pytest.mark.parametrize("network", [mobilenet_v3, shufflenet, densenet], ids=lambda network: network.__name__)
def test_the_same_bits_everywhere(
    network: Callable[[Net], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On several threads, in batches, and with narrower instructions."""
    net = Net()
    proto = quantized(net.classified(network(net)), tmp_path, QuantFormat.QDQ, QuantType.QUInt8)
    for side in (proto.graph.input[0], proto.graph.output[0]):
        side.type.tensor_type.shape.dim[0].dim_param = "batch"
    x = images(3)
    with compile_onnx(proto, threads=1) as session:
        expected = np.concatenate([session.run({"input": x[i : i + 1]})["logits"] for i in range(3)])
    isas = [name for name in ("avx512", "avx2") if usable(name)]
    for isa in isas:
        monkeypatch.setenv("SECATEUR_ISA", isa)
        with compile_onnx(proto, threads=2, batch=3) as session:
            np.testing.assert_array_equal(session.run({"input": x})["logits"], expected)


@pytest.mark.parametrize("network", [mobilenet_v3, densenet], ids=lambda network: network.__name__)
def test_a_batch_in_parts(network: Callable[[Net], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the caches hold one image only, layers run for one after the other."""
    net = Net()
    proto = quantized(net.classified(network(net)), tmp_path, QuantFormat.QDQ, QuantType.QInt8)
    for side in (proto.graph.input[0], proto.graph.output[0]):
        side.type.tensor_type.shape.dim[0].dim_param = "batch"
    x = images(4)
    with compile_onnx(proto, threads=1, batch=4) as session:
        expected = session.run({"input": x})["logits"]
    monkeypatch.setattr("secateur.engine.session.host_target", lambda: replace(host_target(), l2=1 << 9))
    with compile_onnx(proto, threads=1, batch=4) as session:
        (plan,) = session._plans.values()
        assert [part.repeats for part in plan.parts if isinstance(part, NativePart)] == [4, 1]
        np.testing.assert_array_equal(session.run({"input": x})["logits"], expected)


def usable(isa: str) -> bool:
    try:
        host_target(isa)
    except EngineError:
        return False
    return True


NUMBERS = {
    "scale": np.float32(0.02), "zero": np.uint8(120), "signed": np.int8(-8),
    "w": np.random.default_rng(4).integers(-127, 128, (8, 3, 3, 3)).astype(np.int8),
    "w scale": np.float32(0.01), "w zero": np.int8(0), "y scale": np.float32(0.3), "y zero": np.uint8(100),
}  # fmt: skip
CONVOLVED = [
    helper.make_node("DequantizeLinear", ["w", "w scale", "w zero"], ["wd"]),
    helper.make_node("Conv", ["xd", "wd"], ["y float"], pads=[1] * 4),
    helper.make_node("QuantizeLinear", ["y float", "y scale", "y zero"], ["y"]),
]


def ports(dtype: str, last: bool) -> onnx.ModelProto:
    """Integers go in and come out, channels first or last."""
    kind, zero = (TensorProto.INT8, "signed") if dtype == "int8" else (TensorProto.UINT8, "zero")
    nodes = [helper.make_node("DequantizeLinear", ["x first", "scale", zero], ["xd"]), *CONVOLVED]
    if last:
        nodes = [helper.make_node("Transpose", ["x"], ["x first"], perm=[0, 3, 1, 2]), *nodes]
        nodes += [helper.make_node("Transpose", ["y"], ["out"], perm=[0, 2, 3, 1])]
    else:
        nodes = [helper.make_node("Identity", ["x"], ["x first"]), *nodes, helper.make_node("Identity", ["y"], ["out"])]
    sides = [2, 9, 13, 3] if last else [2, 3, 9, 13]
    out = [2, 9, 13, 8] if last else [2, 8, 9, 13]
    return model(nodes, [value("x", sides, kind)], [value("out", out, TensorProto.UINT8)], NUMBERS)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_integers_go_in_and_come_out(dtype: str, last: bool) -> None:
    proto = ports(dtype, last)
    sides = (2, 9, 13, 3) if last else (2, 3, 9, 13)
    x = np.random.default_rng(5).integers(0, 256, sides, np.uint8).view(dtype)
    with compile_onnx(proto, threads=2) as session:
        assert not session.report().refused
        (ours,) = session.run({"x": x}).values()
    (theirs,) = reference(proto, {"x": x})
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    # ONNX Runtime computes floats between integers of different types, where ties fall otherwise.
    off = np.abs(ours.astype(int) - theirs.astype(int))
    assert off.max() <= (1 if dtype == "int8" else 0) and (off > 0).mean() < 0.01


@pytest.mark.parametrize("operator", ["Add", "Mul"])
@pytest.mark.parametrize("shape", [(1, 8, 6, 7), (2, 64, 20, 20)])
def test_a_number_per_channel_meets_values_that_no_convolution_reads(operator: str, shape: tuple[int, ...]) -> None:
    """The value is then dense otherwise, and a dense row has no channels."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("QuantizeLinear", ["g", "scale", "zero"], ["gq"]),
        helper.make_node("DequantizeLinear", ["gq", "scale", "zero"], ["gd"]),
        helper.make_node(operator, ["xd", "gd"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "scale", "zero"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "scale", "zero"], ["y"]),
    ]
    given = {"x": shape, "g": (*shape[:2], 1, 1)}
    constants = {"scale": np.float32(0.02), "zero": np.uint8(128)}
    proto = model(nodes, [value(name, size) for name, size in given.items()], [value("y", shape)], constants)
    random = np.random.default_rng(7)
    inputs = {name: random.uniform(-1, 1, size).astype(np.float32) for name, size in given.items()}
    with compile_onnx(proto, threads=2) as session:
        assert not session.report().refused
        (ours,) = session.run(inputs).values()
    (theirs,) = reference(proto, inputs)
    assert np.abs(ours - theirs).max() <= 0.0201 and (ours != theirs).mean() < 0.01
