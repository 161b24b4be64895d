"""The drop-in replacement beside the class that it replaces."""

import inspect
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from engine.networks import classifier, images, model, value
from secateur.engine.adapter import InferenceSession
from secateur.errors import EngineError, ModelError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    proto = classifier()
    proto.metadata_props.add(key="preprocessing", value="{}")
    proto.doc_string, proto.domain, proto.graph.doc_string = "about", "vision", "of the graph"
    file = tmp_path_factory.mktemp("adapter") / "net.onnx"
    onnx.save(proto, file)
    return file


@pytest.fixture(scope="module")
def both(path: Path) -> tuple[InferenceSession, onnxruntime.InferenceSession]:
    return InferenceSession(path), onnxruntime.InferenceSession(path)


def test_every_public_name_of_the_real_class_is_there(both: tuple) -> None:
    ours, theirs = both
    names = [name for name in dir(theirs) if not name.startswith("_")]
    assert [name for name in names if not hasattr(ours, name)] == []


@pytest.mark.parametrize("method", ["__init__", "run", "run_async", "set_providers"])
def test_parameters_have_the_names_and_defaults_of_the_real_class(method: str) -> None:
    def shown(owner: type) -> list[tuple[str, object]]:
        found = inspect.signature(getattr(owner, method)).parameters.values()
        return [(one.name, one.default) for one in found]

    assert shown(InferenceSession) == shown(onnxruntime.InferenceSession)


@pytest.mark.parametrize("names", [None, [], ["logits"]])
@pytest.mark.parametrize("batch", [1, 3])
def test_run_gives_the_same(both: tuple, names: list[str] | None, batch: int) -> None:
    ours, theirs = both
    feeds = {theirs.get_inputs()[0].name: images(batch)}
    made, expected = ours.run(names, feeds), theirs.run(names, feeds, onnxruntime.RunOptions())
    assert isinstance(made, list) and len(made) == len(expected)
    np.testing.assert_allclose(made[0], expected[0], rtol=1e-4, atol=1e-5)


def test_lists_are_arrays_of_the_type_of_the_input(both: tuple) -> None:
    ours, theirs = both
    feeds = {"input": images(1).tolist()}
    np.testing.assert_allclose(ours.run(None, feeds)[0], theirs.run(None, feeds)[0], rtol=1e-4, atol=1e-5)


def ports(session: object) -> list[tuple]:
    return [
        [(port.name, port.shape, port.type) for port in side]
        for side in (session.get_inputs(), session.get_outputs(), session.get_overridable_initializers())  # type: ignore
    ]


def test_inputs_and_outputs_are_described_alike(both: tuple) -> None:
    ours, theirs = both
    assert ports(ours) == ports(theirs)
    assert str(ours.get_inputs()[0]) == str(theirs.get_inputs()[0])


@pytest.mark.parametrize("sides", [["n", 3], [None, 3], [2, 3], ["n", "m"], []])
@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "INT64", "INT32", "UINT8", "BOOL", "FLOAT16"])
def test_shapes_and_types_of_every_kind(sides: list, kind: str) -> None:
    element = getattr(TensorProto, kind)
    nodes = [helper.make_node("Identity", ["x"], ["y"], "same")]
    data = model(nodes, [value("x", sides, element)], [value("y", sides, element)], {}).SerializeToString()
    ours, theirs = InferenceSession(data), onnxruntime.InferenceSession(data)
    assert ports(ours) == ports(theirs)
    shape = [side if isinstance(side, int) else 2 for side in sides]
    feeds = {"x": np.ones(shape, helper.tensor_dtype_to_np_dtype(element))}
    made, expected = ours.run(None, feeds)[0], theirs.run(None, feeds)[0]
    assert made.dtype == expected.dtype and np.array_equal(made, expected)


@pytest.mark.parametrize("version", [None, 7])
def test_metadata(version: int | None) -> None:
    proto = classifier()
    proto.metadata_props.add(key="preprocessing", value="{}")
    proto.doc_string, proto.domain, proto.graph.doc_string = "about", "vision", "of the graph"
    if version is None:
        proto.ClearField("model_version")
    data = proto.SerializeToString()
    ours, theirs = InferenceSession(data).get_modelmeta(), onnxruntime.InferenceSession(data).get_modelmeta()
    for name in ("producer_name", "graph_name", "domain", "description", "graph_description", "version"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.custom_metadata_map == theirs.custom_metadata_map == {"preprocessing": "{}"}


def test_what_else_a_program_may_ask(both: tuple) -> None:
    ours, theirs = both
    assert ours.get_providers() == theirs.get_providers() == ["CPUExecutionProvider"]
    assert ours.get_provider_options() == theirs.get_provider_options()
    assert ours.end_profiling() == theirs.end_profiling() == ""
    ours.enable_fallback()
    ours.disable_fallback()
    ours.set_providers(["CPUExecutionProvider"])
    assert isinstance(ours.get_profiling_start_time_ns(), int)
    assert ours.get_tuning_results() == theirs.get_tuning_results()


def test_the_number_of_threads_comes_from_the_options(path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 3
    session = InferenceSession(path, options, providers=[("CPUExecutionProvider", {})], provider_options=None)
    assert session.session.options.threads == 3
    assert session.get_session_options() is options
    options.intra_op_num_threads = 0
    assert InferenceSession(path, options).session.options.threads >= 1


def test_our_own_options_are_keywords(path: Path) -> None:
    session = InferenceSession(path, primitive="gemm", batch=2, disabled_optimizers=["x"])
    assert session.session.options.primitive == "gemm" and session.session.report().batch == 2
    with pytest.raises(EngineError, match="no option 'primitve'; it can be batch, primitive"):
        InferenceSession(path, primitve="gemm")


def test_run_async(both: tuple) -> None:
    ours, _ = both
    done, found = threading.Event(), []

    def keep(results: list, user_data: object, error: str) -> None:
        found.append((results, user_data, error))
        done.set()

    ours.run_async(None, {"input": images(1)}, keep, "mine")
    assert done.wait(30)
    results, user_data, error = found.pop()
    assert user_data == "mine" and error == "" and results[0].shape == (1, 6)
    done.clear()
    ours.run_async(None, {}, keep, None)
    assert done.wait(30)
    assert found[0][0] == [] and "Input 'input' is missing" in found[0][2]


def test_what_cannot_be_run_is_a_sentence(both: tuple) -> None:
    ours, _ = both
    with pytest.raises(EngineError, match="no output 'probs'; its outputs are logits"):
        ours.run(["probs"], {"input": images(1)})
    with pytest.raises(EngineError, match="'input' is missing"):
        ours.run(None, {})
    with pytest.raises(EngineError, match=r"run_with_iobinding is not offered.*Use run"):
        ours.run_with_iobinding(None)
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        _ = ours.rnu
    with pytest.raises(ModelError):
        InferenceSession(b"no model")


def test_a_profile_that_was_asked_for_is_not_silently_absent(path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    with pytest.raises(EngineError, match=r"session\.profile\(\)"):
        InferenceSession(path, options).end_profiling()
