"""Small graphs for tests, and what ONNX Runtime makes of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

from secateur.graph.ir import Graph, Node, TensorType
from secateur.graph.load import load_graph
from secateur.graph.passes.fold_constants import fold_constants
from secateur.graph.passes.normal_activations import normal_activations
from secateur.graph.passes.normal_arithmetic import normal_arithmetic
from secateur.graph.passes.normal_batch_norm import normal_batch_norm
from secateur.graph.passes.normal_convolution import normal_convolution
from secateur.graph.passes.normal_layout import normal_layout
from secateur.graph.passes.normal_linear import normal_linear
from secateur.graph.passes.normal_pooling import normal_pooling
from secateur.graph.passes.normal_reductions import normal_reductions
from secateur.graph.passes.normal_resize import normal_resize
from secateur.graph.to_onnx import to_onnx

NORMAL = (
    normal_activations, normal_arithmetic, normal_batch_norm, normal_convolution, normal_layout, normal_linear,
    normal_pooling, normal_reductions, normal_resize,
)  # fmt: skip


def node(op: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    """node("Conv", "x w", "y"); a dash is an absent input."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, np.ndarray] | None = None,
    outputs: str = "y",
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=max(helper.find_min_ir_version_for(opsets), 4))


def graph_of(*arguments, **options) -> Graph:
    return load_graph(model_of(*arguments, **options))


def one_node(
    op: str,
    shapes: Mapping[str, Sequence[int]],
    constants: Mapping[str, np.ndarray],
    out: Sequence[Sequence[int]],
    opset: int,
    outputs: Sequence[str] = ("y",),
    inputs: Sequence[str] | None = None,
    **attributes,
) -> Graph:
    """A graph of one node of the normal form, on float32 inputs of these shapes and on constants."""
    types = {name: TensorType(tuple(shape), "float32") for name, shape in shapes.items()}
    types |= {name: TensorType(array.shape, "float32") for name, array in constants.items()}
    types |= {name: TensorType(tuple(shape), "float32") for name, shape in zip(outputs, out, strict=True)}
    names = tuple(inputs if inputs is not None else [*shapes, *constants])
    made = Node("node", op, names, tuple(outputs), attributes, "secateur")
    return Graph((made,), tuple(shapes), tuple(outputs), types, dict(constants), opset)


def normal(graph: Graph) -> Graph:
    """The graph after the passes that only write operators in normal form."""
    graph = fold_constants(graph)
    for run in NORMAL:
        graph = run(graph)
    return graph


def numbers(*shape: int, seed: int = 0, low: float = -1.0) -> np.ndarray:
    """Float32 numbers between low and 1."""
    return np.random.default_rng((seed, *shape)).uniform(low, 1, shape).astype(np.float32)


def feeds_of(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    kinds = {name: graph.type(name) for name in graph.inputs}
    return {name: (3 * rng.standard_normal(kind.shape)).astype(kind.dtype) for name, kind in kinds.items()}


def run_model(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def run_checked(graph: Graph) -> list[np.ndarray]:
    """What ONNX Runtime makes of a graph on random inputs; the model is checked before."""
    model = to_onnx(graph)
    checker.check_model(model, full_check=True)
    return run_model(model, feeds_of(graph))


def assert_same(before: Graph | onnx.ModelProto, after: Graph, tolerance: float = 1e-5) -> list[np.ndarray]:
    """Both give the same numbers on random inputs; every value of `after` has the type that it says."""
    feeds = feeds_of(after)
    wanted = run_model(to_onnx(before) if isinstance(before, Graph) else before, feeds)
    found = run_model(to_onnx(after), feeds)
    for name, one, other in zip(after.outputs, wanted, found, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape == after.shape(name)
        scale = max(float(np.abs(one).max(initial=0)), 1e-6) if one.dtype.kind == "f" and np.isfinite(one).all() else 1
        np.testing.assert_allclose(other, one, rtol=0, atol=tolerance * scale)
    return found


def ops(graph: Graph) -> list[str]:
    """Operators in order; those that are still ONNX's with a star."""
    return [each.op if each.domain == "secateur" else f"*{each.op}" for each in graph.nodes]


def only(graph: Graph, op: str) -> Node:
    """The one node of this operator of the normal form."""
    found = [each for each in graph.nodes if each.op == op and each.domain == "secateur"]
    assert len(found) == 1, ops(graph)
    return found[0]
