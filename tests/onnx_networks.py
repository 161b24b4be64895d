"""A small float ONNX network, images for it and scale tables of it, for the tests of quantization."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from secateur.quantization.numbers import ACTIVATIONS, Numbers, scale_of_range, scale_of_tensor
from secateur.quantization.subjects import stored_layers
from secateur.quantization.table import ScaleTable

SIZE = (3, 8, 8)
INT8 = Numbers(8, signed=True, symmetric=True)
INT4 = Numbers(4, signed=True, symmetric=True)
# What is rounded on the way: the input, what stands behind activations, and what is added.
VALUES = ("x", "a.out", "d.out", "b.pre", "b.out", "pooled")


def network(seed=0, classes=4, zeros=0.0):
    """Convolution, depthwise, pointwise with a sum around both, mean, linear layer; `zeros` of the weights are zero."""
    random = np.random.default_rng(seed)

    def weight(*shape):
        fan = np.prod(shape[1:])
        array = random.standard_normal(shape) * np.sqrt(2 / fan)
        return np.where(random.random(shape) < zeros, 0.0, array).astype(np.float32)

    tensors = {
        "a.weight": weight(8, 3, 3, 3),
        "a.bias": random.standard_normal(8).astype(np.float32) * 0.1,
        "d.weight": weight(8, 1, 3, 3),
        "d.bias": random.standard_normal(8).astype(np.float32) * 0.1,
        "b.weight": weight(8, 8, 1, 1),
        "b.bias": random.standard_normal(8).astype(np.float32) * 0.1,
        "fc.weight": weight(8, classes),
        "fc.bias": np.zeros(classes, np.float32),
        "zero": np.array(0.0, np.float32),
        "six": np.array(6.0, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["a.pre"], "a", pads=[1] * 4),
        helper.make_node("Relu", ["a.pre"], ["a.out"], "a.relu"),
        helper.make_node("Conv", ["a.out", "d.weight", "d.bias"], ["d.pre"], "d", pads=[1] * 4, group=8),
        helper.make_node("Clip", ["d.pre", "zero", "six"], ["d.out"], "d.relu6"),
        helper.make_node("Conv", ["d.out", "b.weight", "b.bias"], ["b.pre"], "b"),
        helper.make_node("Add", ["b.pre", "a.out"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["b.out"], "b.relu"),
        helper.make_node("GlobalAveragePool", ["b.out"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["pooled"], "flatten"),
        helper.make_node("Gemm", ["pooled", "fc.weight", "fc.bias"], ["y"], "fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(count=48, seed=1, batch=16):
    """Batches of smooth noise, so that neighbouring inputs depend on each other."""
    noise = np.random.default_rng(seed).standard_normal((count, *SIZE)).astype(np.float32)
    pixels = noise + np.roll(noise, 1, 2) + np.roll(noise, 1, 3) + noise.mean(1, keepdims=True)
    return lambda: [pixels[start : start + batch] for start in range(0, count, batch)]


def values_of(model, batches, names):
    """Name -> (images, ...) as ONNX Runtime computes them."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name != "x")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"x": pixels}) for pixels in batches()]
    found = {output.name: np.concatenate([part[i] for part in parts]) for i, output in enumerate(session.get_outputs())}
    return found | {"x": np.concatenate(list(batches()))}


def table_of(model, batches, weights=INT8, activations=ACTIVATIONS, names=VALUES, per_channel=True):
    """Scales by extremes; activations None: weights alone."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    own = {
        layer.tensor: scale_of_tensor(tensors[layer.tensor], weights, layer.axis if per_channel else None)
        for layer in stored_layers(model, SIZE).values()
    }
    if activations is None:
        return ScaleTable({}, own, {})
    found = values_of(model, batches, names)
    values = {name: scale_of_range(found[name].min(), found[name].max(), activations) for name in names}
    return ScaleTable(values, own, {})


def weight_of(model, name):
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)
