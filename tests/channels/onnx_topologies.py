"""Small ONNX files, one for every way in which channels depend on one another, and what tests do with them."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from secateur.channels.groups import ChannelGroup, ChannelGroups
from secateur.channels.onnx_remains import with_remains
from secateur.channels.onnx_table import OnnxTrace
from secateur.channels.plan import RemovalPlan, make_plan

Array = NDArray[np.float32]
PADDED = "<pads = [1, 1, 1, 1]>"


def model(
    nodes: str,
    weights: Mapping[str, Sequence[int] | np.ndarray],
    *,
    x: str = "N,3,8,8",
    y: str = "N,4",
    opset: int = 17,
) -> onnx.ModelProto:
    """A checked model; weights are random where only their shape is given."""
    outputs = ", ".join(f"float[{shape}] {name}" for name, shape in zip(("y", "z"), y.split(";"), strict=False))
    # The parser's names have no dots.
    plain = re.sub(r"([a-z]\w*)\.([a-z])", r"\1__\2", nodes)
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[{x}] x) => ({outputs}) {{ {plain} }}'
    built = parser.parse_model(text)
    for node in built.graph.node:
        node.input[:] = [name.replace("__", ".") for name in node.input]
    rng = np.random.default_rng(sum(map(ord, nodes)))
    for name, given in weights.items():
        array = given if isinstance(given, np.ndarray) else rng.standard_normal(given).astype(np.float32)
        if not isinstance(given, np.ndarray) and name.endswith("var"):
            array = np.abs(array) + 0.5
        built.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(built, full_check=True)
    return built


def conv(name: str, outputs: int, inputs: int, kernel: int = 3) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), f"{name}.bias": (outputs,)}


HEAD = "p = GlobalAveragePool(h) f = Flatten(p) y = Gemm<transB = 1>(f, fc.weight, fc.bias)"


def fc(inputs: int, name: str = "fc") -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (4, inputs), f"{name}.bias": (4,)}


def chain() -> onnx.ModelProto:
    nodes = f"""
        a = Conv{PADDED}(x, a.weight) n = BatchNormalization(a, bn.scale, bn.shift, bn.mean, bn.var) r = Relu(n)
        b = Conv{PADDED}(r, b.weight, b.bias) q = PRelu(b, slope)
        m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(q) h = Mul(m, scale) {HEAD}
    """
    norm = dict.fromkeys(("bn.scale", "bn.shift", "bn.mean", "bn.var"), (8,))
    weights = {"a.weight": (8, 3, 3, 3), **norm, **conv("b", 6, 8), "slope": (6, 1, 1), "scale": (1, 6, 1, 1), **fc(6)}
    return model(nodes, weights)


def residual() -> onnx.ModelProto:
    nodes = f"""
        s = Conv{PADDED}(x, s.weight, s.bias) r = Relu(s) a = Conv{PADDED}(r, a.weight, a.bias) t = Relu(a)
        b = Conv{PADDED}(t, b.weight, b.bias) u = Add(r, b) h = Relu(u) {HEAD}
    """
    return model(nodes, {**conv("s", 8, 3), **conv("a", 6, 8), **conv("b", 8, 6), **fc(8)})


def residual_padded() -> onnx.ModelProto:
    """The parameter-free shortcut of CIFAR's residual networks: pixels skipped, channels padded with zeros."""
    nodes = f"""
        s = Conv{PADDED}(x, s.weight, s.bias) r = Relu(s)
        a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(r, a.weight, a.bias)
        k = Slice(r, starts, ends, axes, steps) w = Pad(k, pads) u = Add(a, w) h = Relu(u) {HEAD}
    """
    numbers = {
        "starts": np.array([0, 0]), "ends": np.array([2**31, 2**31]), "axes": np.array([2, 3]),
        "steps": np.array([2, 2]), "pads": np.array([0, 3, 0, 0, 0, 3, 0, 0]),
    }  # fmt: skip
    return model(nodes, {**conv("s", 6, 3), **conv("a", 12, 6), **numbers, **fc(12)})


def concat() -> onnx.ModelProto:
    nodes = f"""
        s = Conv{PADDED}(x, s.weight, s.bias) a = Conv{PADDED}(s, a.weight, a.bias) r = Relu(a)
        b = Conv{PADDED}(s, b.weight, b.bias) c = Concat<axis = 1>(r, s, b, x)
        d = Conv(c, d.weight, d.bias) h = Relu(d) {HEAD}
    """
    return model(nodes, {**conv("s", 6, 3), **conv("a", 4, 6), **conv("b", 5, 6), **conv("d", 7, 18, 1), **fc(7)})


def depthwise() -> onnx.ModelProto:
    nodes = f"""
        a = Conv{PADDED}(x, a.weight, a.bias) r = Clip(a, low, high)
        b = Conv<pads = [1, 1, 1, 1], group = 8>(r, b.weight, b.bias) c = Conv(b, c.weight, c.bias)
        d = Conv<group = 6>(c, d.weight, d.bias) h = HardSwish(d) {HEAD}
    """
    scalars = {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    weights = {**conv("a", 8, 3), **conv("b", 8, 1), **conv("c", 6, 8, 1), **conv("d", 12, 1), **fc(12)}
    return model(nodes, {**weights, **scalars})


def grouped() -> onnx.ModelProto:
    nodes = f"""
        a = Conv{PADDED}(x, a.weight, a.bias) r = Relu(a) b = Conv<pads = [1, 1, 1, 1], group = 4>(r, b.weight, b.bias)
        h = Relu(b) {HEAD}
    """
    return model(nodes, {**conv("a", 12, 3), **conv("b", 8, 3), **fc(8)})


def squeeze_excite() -> onnx.ModelProto:
    nodes = f"""
        a = Conv{PADDED}(x, a.weight, a.bias) e = Relu(a) g = ReduceMean<axes = [2, 3]>(e)
        d = Conv(g, d.weight, d.bias) o = Relu(d) u = Conv(o, u.weight, u.bias) s = HardSigmoid(u)
        t = Mul(e, s) h = Conv(t, h.weight, h.bias) {HEAD}
    """
    weights = {**conv("a", 8, 3), **conv("d", 4, 8, 1), **conv("u", 8, 4, 1), **conv("h", 6, 8, 1), **fc(6)}
    return model(nodes, weights)


def gates() -> onnx.ModelProto:
    """One number for each pixel, and one channel picked out of others, that all channels are multiplied with."""
    nodes = f"""
        a = Conv{PADDED}(x, a.weight, a.bias) q = Conv(a, q.weight, q.bias) s = Sigmoid(q) t = Mul(s, a)
        b = Conv(t, b.weight, b.bias) o = Slice(b, first, second, axis) h = Mul(b, o) {HEAD}
    """
    weights = {**conv("a", 8, 3), **conv("q", 1, 8, 1), **conv("b", 6, 8, 1), **fc(6)}
    return model(nodes, {**weights, "first": np.array([1]), "second": np.array([2]), "axis": np.array([1])})


def channels_last() -> onnx.ModelProto:
    """The image comes with its channels last, is scaled by channel, and read twice."""
    nodes = f"""
        i = Sub(x, means) t = Transpose<perm = [0, 3, 1, 2]>(i) a = Conv{PADDED}(t, a.weight, a.bias) r = Relu(a)
        b = Conv{PADDED}(r, b.weight, b.bias) c = Concat<axis = 1>(b, t) h = Relu(c) {HEAD}
    """
    weights = {"means": (3,), **conv("a", 6, 3), **conv("b", 5, 6), **fc(8)}
    return model(nodes, weights, x="N,8,8,3")


def flatten() -> onnx.ModelProto:
    nodes = f"""
        a = Conv{PADDED}(x, a.weight, a.bias) r = Relu(a) m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
        f = Reshape(m, flat) g = MatMul(f, g.weight) i = Add(g, g.bias) k = Relu(i)
        y = Gemm<transB = 1>(k, fc.weight, fc.bias)
    """
    return model(
        nodes, {**conv("a", 6, 3), "flat": np.array([-1, 96]), "g.weight": (96, 10), "g.bias": (10,), **fc(10)}
    )


def shared_weights() -> onnx.ModelProto:
    nodes = f"""
        s = Conv{PADDED}(x, s.weight, s.bias) a = Conv{PADDED}(s, t.weight, t.bias) b = Relu(a) c = Add(b, s)
        d = Conv{PADDED}(c, t.weight, t.bias) e = Conv(d, e.weight, e.bias) h = Relu(e) {HEAD}
    """
    return model(nodes, {**conv("s", 6, 3), **conv("t", 6, 6), **conv("e", 5, 6, 1), **fc(5)})


def two_outputs() -> onnx.ModelProto:
    nodes = f"""
        a = Conv{PADDED}(x, a.weight, a.bias) r = Relu(a) b = Conv{PADDED}(r, b.weight, b.bias) z = Sigmoid(b)
        c = Conv{PADDED}(r, c.weight, c.bias) h = Relu(c) {HEAD}
    """
    weights = {**conv("a", 8, 3), **conv("b", 4, 8), **conv("c", 6, 8), **fc(6)}
    return model(nodes, weights, y="N,4;N,4,8,8")


def shuffle() -> onnx.ModelProto:
    """A unit of ShuffleNetV2: split, one half through a branch, joined, shuffled; once more with slices."""
    nodes = f"""
        s = Conv{PADDED}(x, s.weight, s.bias) l, m = Split<axis = 1>(s, halves)
        a = Conv(m, a.weight, a.bias) b = Relu(a) c = Concat<axis = 1>(l, b)
        d = Reshape(c, split) e = Transpose<perm = [0, 2, 1, 3, 4]>(d) f0 = Reshape(e, join)
        g = Slice(f0, zero, half, one) i = Slice(f0, half, end, one)
        j = Conv(i, j.weight, j.bias) k = Relu(j) n = Concat<axis = 1>(g, k)
        o = Reshape(n, split) q = Transpose<perm = [0, 2, 1, 3, 4]>(o) h = Reshape(q, join) {HEAD}
    """
    numbers = {
        "halves": np.array([4, 4]), "split": np.array([-1, 2, 4, 8, 8]), "join": np.array([-1, 8, 8, 8]),
        "zero": np.array([0]), "half": np.array([4]), "end": np.array([8]), "one": np.array([1]),
    }  # fmt: skip
    return model(nodes, {**conv("s", 8, 3), **conv("a", 4, 4, 1), **conv("j", 4, 4, 1), **numbers, **fc(8)})


def computed_numbers() -> onnx.ModelProto:
    """As older exporters write it: halves and shuffles from the shape of what they are applied to."""
    nodes = f"""
        s = Conv{PADDED}(x, s.weight, s.bias) t = Shape(s) c1 = Gather(t, i1) c2 = Div(c1, two)
        u = Unsqueeze(c2, i0v) v = Unsqueeze(c1, i0v) l = Slice(s, zero, u, one) m = Slice(s, u, v, one)
        a = Conv(m, a.weight, a.bias) k = Concat<axis = 1>(l, a)
        n0 = Gather(t, i0) n = Unsqueeze(n0, i0v) d1 = Concat<axis = 0>(n, two1, u, eight, eight)
        d = Reshape(k, d1) e = Transpose<perm = [0, 2, 1, 3, 4]>(d) d2 = Concat<axis = 0>(n, v, eight, eight)
        h = Reshape(e, d2) {HEAD}
    """
    numbers = {
        "i0": np.array(0), "i1": np.array(1), "two": np.array(2), "two1": np.array([2]), "zero": np.array([0]),
        "one": np.array([1]), "eight": np.array([8]), "i0v": np.array([0]),
    }  # fmt: skip
    return model(nodes, {**conv("s", 8, 3), **conv("a", 4, 4, 1), **numbers, **fc(8)})


def moves() -> onnx.ModelProto:
    """Every other way of moving channels: every second one, picked ones, space to depth and back, tokens."""
    nodes = f"""
        s = Conv{PADDED}(x, s.weight, s.bias) e = Slice(s, zero, end, one, two) o = Gather<axis = 1>(s, odd)
        a = Concat<axis = 1>(o, e) b = SpaceToDepth<blocksize = 2>(a) c = Conv(b, c.weight, c.bias)
        d = DepthToSpace<blocksize = 2>(c) w = Resize<mode = "nearest">(d, , , sizes)
        g = Conv(w, g.weight, g.bias) r = Reshape(g, tokens) t = Transpose<perm = [0, 2, 1]>(r)
        i = MatMul(t, m.weight) k = Add(i, m.bias) q = Erf(k) v = ReduceMean<axes = [1], keepdims = 0>(q)
        y = Gemm<transB = 1>(v, fc.weight, fc.bias)
    """
    numbers = {
        "zero": np.array([0]), "end": np.array([8]), "one": np.array([1]), "two": np.array([2]),
        "odd": np.array([1, 3, 5, -1]), "sizes": np.array([1, 3, 4, 4]), "tokens": np.array([0, 5, 16]),
    }  # fmt: skip
    layers = {**conv("s", 8, 3), **conv("c", 12, 32, 1), **conv("g", 5, 3, 1), "m.weight": (5, 6), "m.bias": (6,)}
    return model(nodes, {**layers, **numbers, **fc(6)}, x="1,3,8,8", y="1,4")


def transposed() -> onnx.ModelProto:
    nodes = f"""
        a = Conv{PADDED}(x, a.weight, a.bias) n = InstanceNormalization(a, in.scale, in.shift)
        b = ConvTranspose<strides = [2, 2]>(n, b.weight, b.bias) c = ConvTranspose<group = 6>(b, c.weight)
        h = Relu(c) {HEAD}
    """
    norm = {"in.scale": (8,), "in.shift": (8,)}
    return model(
        nodes,
        {**conv("a", 8, 3), **norm, "b.weight": (8, 6, 2, 2), "b.bias": (6,), "c.weight": (6, 1, 3, 3), **fc(6)},
    )


def dense() -> onnx.ModelProto:
    """Two layers of a DenseNet: every norm stands behind a concatenation."""
    names = ("scale", "shift", "mean", "var")
    norms = {f"n{i}.{name}": (channels,) for i, channels in ((1, 6), (2, 10)) for name in names}
    nodes = f"""
        s = Conv{PADDED}(x, s.weight) a = BatchNormalization(s, n1.scale, n1.shift, n1.mean, n1.var) b = Relu(a)
        c = Conv{PADDED}(b, c.weight) d = Concat<axis = 1>(s, c)
        e = BatchNormalization(d, n2.scale, n2.shift, n2.mean, n2.var) h = Relu(e) {HEAD}
    """
    return model(nodes, {"s.weight": (6, 3, 3, 3), "c.weight": (4, 6, 3, 3), **norms, **fc(10)})


TOPOLOGIES: dict[str, Callable[[], onnx.ModelProto]] = {
    build.__name__: build
    for build in (
        chain, residual, residual_padded, concat, depthwise, grouped, squeeze_excite, flatten, shared_weights,
        two_outputs, shuffle, computed_numbers, moves, transposed, dense, gates, channels_last,
    )
}  # fmt: skip


# ------------------------------------------------------------------------------------------------ what tests do


def run(file: onnx.ModelProto, batch: int = 2) -> list[Array]:
    """Outputs of ONNX Runtime for random images."""
    rng = np.random.default_rng(7)
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    images = {
        value.name: rng.standard_normal([side if isinstance(side, int) else batch for side in value.shape])
        for value in session.get_inputs()
    }
    return session.run(None, {name: image.astype(np.float32) for name, image in images.items()})


def outputs_of(path: Path, images: Array) -> list[Array]:
    """Outputs of ONNX Runtime for these images."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})


def distance(a: Sequence[Array], b: Sequence[Array]) -> float:
    """Largest difference, relative to the largest output."""
    assert len(a) == len(b) and all(p.shape == q.shape for p, q in zip(a, b, strict=True))
    return max(float(np.abs(p - q).max() / np.abs(p).max()) for p, q in zip(a, b, strict=True))


def picked(trace: OnnxTrace, share: float, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    """Random units of every group that may lose some, equally many of each segment."""
    groups = trace.ids.groups()
    rng = np.random.default_rng(seed)
    found: dict[str, NDArray[np.int64]] = {}
    for group in groups.free:
        cells = [np.flatnonzero(group.segment == segment) for segment in range(group.segments)]
        count = min(round(len(cells[0]) * share), len(cells[0]) - 1)
        if count:
            found[group.name] = np.sort(np.concatenate([rng.choice(cell, count, replace=False) for cell in cells]))
    return with_remains(trace, groups, found)


def plan_of(groups: ChannelGroups, removed: Mapping[str, NDArray[np.int64]]) -> RemovalPlan:
    return make_plan(groups, removed, target=0.0, base="channels", criterion="random")


def tensors_of(file: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    found = {tensor.name: tensor for tensor in file.graph.initializer}
    for node in file.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def zeroed(
    file: onnx.ModelProto, groups: ChannelGroups, removed: Mapping[str, NDArray[np.int64]], roles: Sequence[str]
) -> onnx.ModelProto:
    """A copy in which the entries of some channels are zero, in tensors of some roles."""
    copy = onnx.ModelProto()
    copy.CopyFrom(file)
    tensors = tensors_of(copy)
    for name, units in removed.items():
        group: ChannelGroup = groups[name]
        for member in group.members:
            if member.role not in roles or member.tensor.endswith(("mean", "var")):
                continue
            array = numpy_helper.to_array(tensors[member.tensor]).copy()
            for entry in member.positions[units].reshape(-1):
                each = member.length // member.groups
                rows = np.split(array, member.groups)[entry // each]
                np.moveaxis(rows, member.axis, 0)[entry % each] = 0
            tensors[member.tensor].CopyFrom(numpy_helper.from_array(array, tensors[member.tensor].name))
    return copy
