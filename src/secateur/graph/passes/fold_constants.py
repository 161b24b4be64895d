"""What depends on no input is computed once."""

from dataclasses import replace
from importlib import import_module
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from secateur.errors import ModelError
from secateur.graph.ir import Graph, Node
from secateur.graph.quantized.released import kept_weights
from secateur.graph.rewrite import DOMAIN, Draft
from secateur.graph.to_onnx import to_onnx

# ONNX Runtime has no types; its errors have no common class.
_RUNTIME: Any = import_module("onnxruntime")
_ERRORS: Any = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
_REFUSALS: tuple[type[Exception], ...] = (
    *(_ERRORS.Fail, _ERRORS.InvalidArgument, _ERRORS.InvalidGraph, _ERRORS.NotImplemented, _ERRORS.RuntimeException),
    ModelError,
)
_RANDOM = frozenset(["Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike"])
_SMALL_BUDGET = 64 << 20
_GROWTH = 4


def fold_constants(graph: Graph) -> Graph:
    """Replace nodes whose inputs are all constants by their values, which ONNX Runtime computes.

    1. The node belongs to ONNX or to the normal form, is not random, and holds no graph of its own.
    2. Its outputs' types are known and numpy's own, and none is an output of the graph.
    3. All results together have at most four times the bytes of the graph's constants, or 64 MiB where that is more: a
       file of a kilobyte cannot ask for a terabyte.
    4. A node that ONNX Runtime refuses stays, and so do those that depend on it.
    """
    return _folded(graph, frozenset())


def fold_constants_but_weights(graph: Graph) -> Graph:
    """fold_constants, except for what dequantizes weights and biases: their integers are wanted."""
    return _folded(graph, kept_weights(graph))


def _folded(graph: Graph, kept: frozenset[str]) -> Graph:
    """`kept` are names of nodes that are not folded."""
    chosen = _foldable(graph, kept)
    if not chosen:
        return graph
    try:
        results = _evaluated(graph, chosen)
    except _REFUSALS:
        return _one_by_one(graph, chosen)
    return _with_results(graph, chosen, results)


def _foldable(graph: Graph, kept: frozenset[str]) -> list[Node]:
    known = set(graph.constants)
    budget = max(_SMALL_BUDGET, _GROWTH * sum(array.nbytes for array in graph.constants.values()))
    chosen: list[Node] = []
    for node in graph.nodes:
        inputs, outputs = node.reads(), [name for name in node.outputs if name]
        if node.domain not in ("", DOMAIN) or node.op in _RANDOM or not inputs or node.captured():
            continue
        if node.name in kept:
            continue
        if not all(name in known for name in inputs) or any(name in graph.outputs for name in outputs):
            continue
        if not all(name in graph.types and graph.types[name].numpy.isbuiltin == 1 for name in outputs):
            continue
        size = sum(graph.types[name].size * graph.types[name].numpy.itemsize for name in outputs)
        if size > budget:
            continue
        budget -= size
        known.update(outputs)
        chosen.append(node)
    return chosen


def _evaluated(graph: Graph, nodes: list[Node]) -> dict[str, NDArray[Any]]:
    """Values of all outputs of the nodes."""
    names = [name for node in nodes for name in node.outputs if name]
    options = _RUNTIME.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = _RUNTIME.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = to_onnx(graph, nodes, names).SerializeToString()
    session = _RUNTIME.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    results = cast(list[NDArray[Any]], session.run(names, {}))
    return {name: np.asarray(value) for name, value in zip(names, results, strict=True)}


def _one_by_one(graph: Graph, nodes: list[Node]) -> Graph:
    """Rule 4."""
    for node in nodes:
        if all(name in graph.constants for name in node.reads()):
            try:
                graph = _with_results(graph, [node], _evaluated(graph, [node]))
            except _REFUSALS:
                continue
    return graph


def _with_results(graph: Graph, nodes: list[Node], results: dict[str, NDArray[Any]]) -> Graph:
    folded = {id(node) for node in nodes}
    draft = Draft(graph)
    for name, value in results.items():
        draft.constants[name] = value
        draft.types[name] = replace(draft.types[name], shape=value.shape)
    return draft.finish(node for node in graph.nodes if id(node) not in folded)
