"""Small ONNX models for tests of subjects, and what is asked of them."""

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from secateur.posttraining.geometry import columns_of
from secateur.zoo import Preprocessing

SMALL = Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3)
RANDOM = np.random.default_rng(0)


def tensor(name, *shape, dtype=np.float32):
    return numpy_helper.from_array(RANDOM.standard_normal(shape).astype(dtype), name)


def model_of(nodes, tensors, *, output="y", batch="n", sides=(3, 8, 8), dtype=TensorProto.FLOAT, ir=8):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", dtype, [batch, *sides])],
        [helper.make_tensor_value_info(output, dtype, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{op}_{output}", **attributes)


def images(count=3, seed=0, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def run_alone(model, pixels):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels.numpy()})[0]


def inputs_of(subject, name, pixels):
    seen: list[torch.Tensor] = []
    subject.run(pixels, {name: lambda x: seen.append(x.clone())})
    return seen


def predicted(subject, name, inputs):
    """What weight, bias and geometry say that the layer gives: (groups * rows, columns)."""
    geometry, weight = subject.geometry(name), subject.weight(name)
    columns = columns_of(inputs, geometry)
    values = (weight.reshape(geometry.groups, -1, columns.shape[1]) @ columns).flatten(0, 1)
    bias = subject.bias(name)
    return values if bias is None else values + bias[:, None]


def as_rows(output):
    """(N, C, ...) -> (C, N * positions)."""
    return torch.from_numpy(np.asarray(output)).movedim(1, 0).flatten(1)
