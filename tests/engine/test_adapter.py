"""The drop-in replacement beside the class that it replaces."""

import inspect
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from engine.networks import classifier, images, model, value
from secateur.engine import adapter_errors
from secateur.engine.adapter import InferenceSession
from secateur.errors import EngineError, ModelError, SecateurError


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
    ours.run_async(["q"], {"input": images(1)}, keep, None)
    assert done.wait(30)
    assert found[0][0] == [] and "no output 'q'" in found[0][2]


def test_what_cannot_be_run_is_a_sentence(both: tuple) -> None:
    ours, _ = both
    with pytest.raises(EngineError, match="no output 'probs'; its outputs are logits"):
        ours.run(["probs"], {"input": images(1)})
    with pytest.raises(EngineError, match=r"Inputs are missing: input float32 \(any, 3, 16, 16\)"):
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


# Behaviours, on both sides: a session of two inputs (n, 3) and two outputs, its class and the folder of its file.

A = np.arange(6, dtype=np.float32).reshape(2, 3)
_REAL = onnxruntime.InferenceSession


def pair() -> bytes:
    nodes = [helper.make_node("Add", ["a", "b"], ["s"], "add"), helper.make_node("Neg", ["s"], ["r"], "neg")]
    sides = ["n", 3]
    inputs, outputs = [value("a", sides), value("b", sides)], [value("s", sides), value("r", sides)]
    return model(nodes, inputs, outputs, {}).SerializeToString()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[type, tuple]:
    folder = tmp_path_factory.mktemp("pair")
    (folder / "pair.onnx").write_bytes(pair())
    return {kind: (kind(pair()), kind, folder) for kind in (InferenceSession, _REAL)}


Behaviour = Callable[..., object]

WORKS: dict[str, Behaviour] = {
    "all outputs": lambda s, *_: s.run(None, {"a": A, "b": A}),
    "all outputs of an empty list": lambda s, *_: s.run([], {"a": A, "b": A}),
    "a tuple of names": lambda s, *_: s.run(("r",), {"a": A, "b": A}),
    "outputs in another order": lambda s, *_: s.run(["r", "s"], {"a": A, "b": A}),
    "an output twice": lambda s, *_: s.run(["r", "r"], {"a": A, "b": A}),
    "keywords": lambda s, *_: s.run(output_names=["r"], input_feed={"a": A, "b": A}, run_options=None),
    "run options": lambda s, *_: s.run(None, {"a": A, "b": A}, onnxruntime.RunOptions()),
    "a list": lambda s, *_: s.run(None, {"a": A.tolist(), "b": A}),
    "a list of arrays": lambda s, *_: s.run(None, {"a": list(A), "b": A}),
    "a strided array": lambda s, *_: s.run(None, {"a": np.repeat(np.repeat(A, 2, 0), 2, 1)[::2, ::2], "b": A}),
    "a reversed array": lambda s, *_: s.run(None, {"a": A[::-1], "b": A}),
    "Fortran's order": lambda s, *_: s.run(None, {"a": np.asfortranarray(A), "b": A}),
    "a matrix": lambda s, *_: s.run(None, {"a": A.view(np.matrix), "b": A}),
    "an OrtValue": lambda s, *_: s.run(None, {"a": onnxruntime.OrtValue.ortvalue_from_numpy(A), "b": A}),
    "no images": lambda s, *_: s.run(None, {"a": A[:0], "b": A[:0]}),
    "a string as path": lambda s, kind, at: kind(str(at / "pair.onnx")).run(["r"], {"a": A, "b": A}),
    "a Path": lambda s, kind, at: kind(at / "pair.onnx").run(["r"], {"a": A, "b": A}),
    "options and providers by position": lambda s, kind, at: kind(
        pair(), onnxruntime.SessionOptions(), ["CPUExecutionProvider"]
    ).run(["r"], {"a": A, "b": A}),
    "a provider with options": lambda s, kind, at: kind(
        pair(), providers=[("CPUExecutionProvider", {"arena": 1})]
    ).get_provider_options(),
    "options of providers": lambda s, kind, at: kind(
        pair(), providers=["CPUExecutionProvider"], provider_options=[{}]
    ).get_providers(),
    "default options": lambda s, *_: s.get_session_options().intra_op_num_threads,
    "kind of the options": lambda s, *_: type(s.get_session_options()),
    "inputs": lambda s, *_: [str(each) for each in s.get_inputs()],
    "outputs": lambda s, *_: [str(each) for each in s.get_outputs()],
    "providers": lambda s, *_: s.get_providers(),
    "fallback": lambda s, *_: (s.disable_fallback(), s.enable_fallback()),
    "end of profiling": lambda s, *_: s.end_profiling(),
}  # fmt: skip

FAILS: dict[str, Behaviour] = {
    "a missing input": lambda s, *_: s.run(None, {"a": A}),
    "a missing input and an unknown one": lambda s, *_: s.run(None, {"a": A, "c": A}),
    "no inputs": lambda s, *_: s.run(None, {}),
    "a missing input, elsewhere": lambda s, *_: s.run_async(None, {"a": A}, print, None),
    "an unknown input": lambda s, *_: s.run(None, {"a": A, "b": A, "c": A}),
    "an unknown output": lambda s, *_: s.run(["q"], {"a": A, "b": A}),
    "a string of outputs": lambda s, *_: s.run("r", {"a": A, "b": A}),
    "a number as output": lambda s, *_: s.run([3], {"a": A, "b": A}),
    "float64": lambda s, *_: s.run(None, {"a": A.astype(np.float64), "b": A}),
    "int64": lambda s, *_: s.run(None, {"a": A.astype(np.int64), "b": A}),
    "uint8": lambda s, *_: s.run(None, {"a": A.astype(np.uint8), "b": A}),
    "a side too few": lambda s, *_: s.run(None, {"a": A[0], "b": A}),
    "a side too many": lambda s, *_: s.run(None, {"a": A[None], "b": A}),
    "a side too short": lambda s, *_: s.run(None, {"a": A[:, :2], "b": A}),
    "an empty side that is fixed": lambda s, *_: s.run(None, {"a": A[:, :0], "b": A}),
    "a ragged list": lambda s, *_: s.run(None, {"a": [[1, 2, 3], [1]], "b": A}),
    "a list of text": lambda s, *_: s.run(None, {"a": [["x", "y", "z"]], "b": A}),
    "a number": lambda s, *_: s.run(None, {"a": 1.0, "b": A}),
    "a scalar": lambda s, *_: s.run(None, {"a": np.float32(1), "b": A}),
    "text": lambda s, *_: s.run(None, {"a": "x", "b": A}),
    "any object": lambda s, *_: s.run(None, {"a": object(), "b": A}),
    "other run options": lambda s, *_: s.run(None, {"a": A, "b": A}, {"x": 1}),
    "other session options": lambda s, kind, at: kind(pair(), {"x": 1}),
    "other providers": lambda s, kind, at: kind(pair()).set_providers([3]),
    "no file": lambda s, kind, at: kind(str(at / "none.onnx")),
    "no file, as a Path": lambda s, kind, at: kind(at / "none.onnx"),
    "a folder": lambda s, kind, at: kind(at),
    "bytes that are no model": lambda s, kind, at: kind(b"no model"),
    "no bytes": lambda s, kind, at: kind(b""),
    "a part of a model": lambda s, kind, at: kind(pair()[:-30]),
    "a bytearray": lambda s, kind, at: kind(bytearray(pair())),
    "a stream": lambda s, kind, at: kind(io.BytesIO(pair())),
    "a number as model": lambda s, kind, at: kind(3),
    "nothing as model": lambda s, kind, at: kind(None),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKS)
def test_what_works_works_alike(pairs: dict[type, tuple], name: str) -> None:
    made, expected = (WORKS[name](*pairs[kind]) for kind in (InferenceSession, _REAL))
    if not (isinstance(expected, list) and expected and isinstance(expected[0], np.ndarray)):
        assert made == expected
        return
    assert isinstance(made, list) and len(made) == len(expected)
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def error_of(name: str, which: tuple) -> Exception:
    with pytest.raises(Exception) as caught:
        FAILS[name](*which)
    return caught.value


# What a caller may name in `except`.
BUILTIN = (ValueError, TypeError, RuntimeError, OSError, LookupError, AttributeError, NotImplementedError)


@pytest.mark.parametrize("name", FAILS)
def test_what_fails_is_caught_alike(pairs: dict[type, tuple], name: str) -> None:
    ours, theirs = error_of(name, pairs[InferenceSession]), error_of(name, pairs[_REAL])
    assert isinstance(ours, SecateurError)
    assert isinstance(ours, type(theirs)), f"{type(theirs)}: {theirs}"
    assert [kind for kind in BUILTIN if isinstance(ours, kind)] == [
        kind for kind in BUILTIN if isinstance(theirs, kind)
    ]
    assert "\n" not in str(ours) and str(ours).endswith(".")


def graph_of(nodes: list, inputs: list, outputs: list, opset: int = 17, constants: list | None = None) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants or [])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return made.SerializeToString()


X, OUT = [value("x", [2])], [value("a", [2])]
NODE = helper.make_node
UNUSABLE: dict[str, bytes] = {
    "a cycle": graph_of([NODE("Add", ["x", "b"], ["a"]), NODE("Relu", ["a"], ["b"])], X, OUT),
    "a missing value": graph_of([NODE("Add", ["x", "q"], ["a"])], X, OUT),
    "an unknown operator": graph_of([NODE("Foo", ["x"], ["a"])], X, OUT),
    "an unknown domain": graph_of([NODE("Foo", ["x"], ["a"], domain="com.foo")], X, OUT),
    "sides that do not fit": graph_of([NODE("Add", ["x", "y"], ["a"])], [*X, value("y", [3])], OUT),
    "types that do not fit": graph_of([NODE("Add", ["x", "y"], ["a"])], [*X, value("y", [2], TensorProto.INT64)], OUT),
    "an output from nowhere": graph_of([NODE("Relu", ["x"], ["a"])], X, [value("z", [2])]),
    "an axis that is not there": graph_of([NODE("Softmax", ["x"], ["a"], axis=9)], X, OUT),
    "a missing attribute": graph_of([NODE("Cast", ["x"], ["a"])], X, OUT),
    "too few inputs": graph_of([NODE("Add", ["x"], ["a"])], X, OUT),
    "a value written twice": graph_of([NODE("Relu", ["x"], ["a"]), NODE("Relu", ["x"], ["a"])], X, OUT),
    "an opset of the future": graph_of([NODE("Relu", ["x"], ["a"])], X, OUT, opset=999),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_models_are_caught_alike(name: str) -> None:
    with pytest.raises(Exception) as theirs:
        _REAL(UNUSABLE[name])
    with pytest.raises(type(theirs.value)) as ours:
        InferenceSession(UNUSABLE[name])
    assert isinstance(ours.value, SecateurError)


def test_a_named_side_has_one_size() -> None:
    """Where ONNX Runtime broadcasts at its own risk, or fails in the middle."""
    with pytest.raises(EngineError, match="Inputs 'a' and 'b' have a side 'n' in common, which is 2 in one and 1 in"):
        InferenceSession(pair()).run(None, {"a": A, "b": A[:1]})


def test_foreign_byte_order_is_refused() -> None:
    """ONNX Runtime takes it for the order of this machine, and computes nonsense."""
    with pytest.raises(EngineError, match=r"foreign byte order; convert it with \.astype\('float32'\)"):
        InferenceSession(pair()).run(None, {"a": A.astype(A.dtype.newbyteorder()), "b": A})


def test_outputs_that_do_not_get_empty_need_an_image() -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], "mean", keepdims=0)]
    data = model(nodes, [value("x", ["n", 3])], [value("y", [])], {}).SerializeToString()
    with pytest.raises(EngineError, match="'y' has elements even where an input has none"):
        InferenceSession(data).run(None, {"x": A[:0]})


OWN_ERRORS = [
    name for name, kind in vars(adapter_errors).items() if getattr(kind, "__module__", "") == adapter_errors.__name__
]


@pytest.mark.parametrize("name", OWN_ERRORS)
def test_errors_travel_between_processes(name: str) -> None:
    error = getattr(adapter_errors, name)("A sentence.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == "A sentence."
