"""ONNX's own tests of operators, on the graph before and after all passes."""

import warnings

import numpy as np
from onnx.backend.test.case.node import collect_testcases

from graph_tools import run_model
from secateur.errors import ModelError
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify
from secateur.graph.to_onnx import to_onnx


def test_operators_that_onnx_runs_the_same_before_and_after():
    """Every node test of ONNX that ONNX Runtime itself can run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    compared = 0
    for case in cases:
        inputs, _ = case.data_sets[0]
        numeric = all(isinstance(value, np.ndarray) and value.dtype.kind in "fiub" for value in inputs)
        if "attention" in case.name or not numeric:
            continue
        feeds = {value.name: array for value, array in zip(case.model.graph.input, inputs, strict=False)}
        try:
            wanted = run_model(case.model, feeds)
            graph = load_graph(case.model)
        except ModelError as error:
            raise AssertionError(f"{case.name}: {error}") from error
        except Exception:
            continue
        if any(name in graph.types and feeds[name].shape != graph.shape(name) for name in graph.inputs):
            continue
        after = simplify(graph)
        random = {"RandomNormalLike", "RandomUniformLike", "Bernoulli", "Dropout", "RandomNormal", "Multinomial"}
        if random & {each.op for each in after.nodes}:
            continue
        found = run_model(to_onnx(after), {name: feeds[name] for name in after.inputs})
        for name, one, other in zip(after.outputs, wanted, found, strict=True):
            if isinstance(one, np.ndarray) and one.dtype.kind in "fiub":
                assert (one.dtype, one.shape) == (other.dtype, other.shape), case.name
                assert name not in after.types or after.shape(name) == one.shape, case.name
                tolerance = 2e-3 if one.dtype == np.float16 else 2e-5
                np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance, err_msg=case.name)
        compared += 1
    assert compared > 900
