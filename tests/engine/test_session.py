"""Sessions: any batch, any thread, errors as sentences; everything agrees with ONNX Runtime."""

import os
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from engine.networks import classifier, images, model, reference, value
from secateur.engine.session import MOST_PLANS, Session, compile_onnx
from secateur.errors import EngineError, ModelError

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def proto() -> onnx.ModelProto:
    return classifier()


@pytest.fixture(scope="module")
def session(proto: onnx.ModelProto) -> Session:
    return compile_onnx(proto, threads=2)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 16, 17])
def test_any_batch_size(session: Session, proto: onnx.ModelProto, batch: int) -> None:
    x = images(batch, seed=batch)
    np.testing.assert_allclose(session.run({"input": x})["logits"], reference(proto, {"input": x})[0], **TOLERANCE)
    assert session.report().batch == batch


def test_plans_that_are_not_used_go_first(proto: onnx.ModelProto) -> None:
    session = compile_onnx(proto, threads=1)
    for batch in range(1, MOST_PLANS + 3):
        session.run(images(batch))
    np.testing.assert_allclose(session.run(images(1))["logits"], reference(proto, {"input": images(1)})[0], **TOLERANCE)
    assert session.report().batch == 1


def test_several_python_threads_share_a_session(session: Session, proto: onnx.ModelProto) -> None:
    expected = {batch: reference(proto, {"input": images(batch, seed=batch)})[0] for batch in (1, 2, 3)}
    failures: list[str] = []

    def work(batch: int) -> None:
        x = images(batch, seed=batch)
        for _ in range(20):
            logits = session.run(x)["logits"]
            if not np.allclose(logits, expected[batch], **TOLERANCE):
                failures.append(f"batch {batch}: {np.abs(logits - expected[batch]).max()}")

    workers = [threading.Thread(target=work, args=(batch,)) for batch in (1, 2, 3, 1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


def test_the_number_of_threads_does_not_change_the_bits(proto: onnx.ModelProto) -> None:
    results = [compile_onnx(proto, threads=threads).run(images(3))["logits"] for threads in (1, 2, 3)]
    assert all(np.array_equal(results[0], result) for result in results[1:])


@pytest.mark.parametrize("primitive", ["direct", "gemm", "pack", {"body": "gemm"}])
def test_every_primitive_computes_the_same(proto: onnx.ModelProto, primitive: object) -> None:
    session = compile_onnx(proto, threads=1, primitive=primitive)  # type: ignore[arg-type]
    x = images(2)
    np.testing.assert_allclose(session.run(x)["logits"], reference(proto, {"input": x})[0], **TOLERANCE)
    wanted = primitive if isinstance(primitive, str) else "gemm"
    body = next(fact for fact in session.report().layers if fact.layer == "body")
    assert body.choice and body.choice.primitive == wanted


def test_dense_ignores_zeros(proto: onnx.ModelProto) -> None:
    session = compile_onnx(proto, threads=1, format="dense")
    assert {fact.choice.format for fact in session.report().layers if fact.choice} == {"dense"}
    x = images(1)
    np.testing.assert_allclose(session.run(x)["logits"], reference(proto, {"input": x})[0], **TOLERANCE)


def test_a_file_its_bytes_and_a_model_are_the_same(proto: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(proto, tmp_path / "net.onnx")
    x = images(2)
    results = [
        compile_onnx(source, threads=1).run(x)["logits"]
        for source in (proto, proto.SerializeToString(), tmp_path / "net.onnx", str(tmp_path / "net.onnx"))
    ]
    assert all(np.array_equal(results[0], result) for result in results[1:])


def test_inputs_outputs_and_metadata(session: Session) -> None:
    assert [(a.name, a.shape, a.sides, a.dtype) for a in session.inputs] == [
        ("input", (None, 3, 16, 16), ("batch", 3, 16, 16), "float32")
    ]
    assert [(a.name, a.shape) for a in session.outputs] == [("logits", (None, 6))]
    assert (session.metadata.producer_name, session.metadata.version) == ("tests", 7)
    assert "input float32 (any, 3, 16, 16) -> logits float32 (any, 6)" in repr(session)


def test_a_single_input_may_come_alone(session: Session) -> None:
    assert np.array_equal(session.run(images(1))["logits"], session.run({"input": images(1)})["logits"])


def test_the_order_in_memory_of_an_input_does_not_matter(session: Session) -> None:
    x = images(2)
    turned = np.asfortranarray(x)
    assert np.array_equal(session.run(turned)["logits"], session.run(x)["logits"])


@pytest.mark.parametrize(
    ("feeds", "sentence"),
    [
        ({}, "Input 'input' is missing: it must be an array of float32 of shape \\(any, 3, 16, 16\\)"),
        ({"input": images(1), "other": images(1)}, "no input 'other'; its inputs are input"),
        ({"input": images(1).astype(np.float64)}, "convert it with .astype\\('float32'\\)"),
        ({"input": images(1)[0]}, "float32 \\(3, 16, 16\\): it must be"),
        ({"input": images(1, 8)}, "float32 \\(1, 3, 8, 8\\): it must be"),
        ({"input": images(1)[:0]}, "float32 \\(0, 3, 16, 16\\): it must be"),
        ({"input": images(1).tolist()}, "is a list: it must be an array"),
    ],
)
def test_inputs_that_do_not_fit_are_a_sentence(session: Session, feeds: dict, sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        session.run(feeds)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"threads": 0}, "0 threads are impossible"),
        ({"batch": 0}, "A batch of 0 has no images"),
        ({"primitive": "winograd"}, "primitive 'winograd' is unknown; it can be auto, direct, gemm, pack"),
        ({"primitive": {"nolayer": "gemm"}}, "primitive: unknown layer 'nolayer'"),
        ({"threads": "2"}, "threads is a whole number, not '2'"),
        ({"threads": True}, "threads is a whole number, not True"),
        ({"batch": 2.5}, "batch is a whole number, not 2.5"),
        ({"format": "csr"}, "format 'csr' is unknown"),
        ({"denormals": "drop"}, "denormals 'drop' is unknown"),
    ],
)
def test_options_that_do_not_exist_are_a_sentence(proto: onnx.ModelProto, options: dict, sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        compile_onnx(proto, **options)


def test_what_is_no_model_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    for source in (b"no model", tmp_path / "text.onnx", tmp_path / "absent.onnx", onnx.ModelProto()):
        with pytest.raises(ModelError):
            compile_onnx(source)


def test_a_file_that_changed_is_not_compiled_again_by_itself(proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    session = compile_onnx(path, threads=1)
    onnx.save(classifier(sparsity=0.1), path)
    session.run(images(1))
    with pytest.raises(EngineError, match="has changed since it was compiled"):
        session.run(images(2))


def test_the_file_is_found_again_from_another_folder(
    proto: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(proto, "net.onnx")
    session = compile_onnx("net.onnx", threads=1)
    monkeypatch.chdir("/")
    assert session.run(images(2))["logits"].shape == (2, 6)


def test_a_closed_session_says_so(proto: onnx.ModelProto) -> None:
    with compile_onnx(proto, threads=1) as session:
        session.run(images(1))
    session.close()
    for use in (lambda: session.run(images(1)), session.report, session.profile, session.kernels):
        with pytest.raises(EngineError, match="The session is closed"):
            use()


def test_open_sides_are_compiled_when_they_are_known() -> None:
    proto = classifier(side="side")
    session = compile_onnx(proto, threads=1)
    with pytest.raises(EngineError, match="Nothing is compiled before the first run"):
        session.report()
    with pytest.raises(EngineError, match="leaves the shape of its inputs open"):
        session.random_feeds()
    for batch, side in ((1, 16), (2, 8), (1, 11)):
        x = images(batch, side)
        np.testing.assert_allclose(session.run(x)["logits"], reference(proto, {"input": x})[0], **TOLERANCE)


def test_two_inputs_and_two_outputs() -> None:
    nodes = [
        helper.make_node("Conv", ["a", "w"], ["c"], "conv"),
        helper.make_node("Add", ["c", "b"], ["y"], "sum"),
        helper.make_node("Relu", ["c"], ["z"], "relu"),
    ]
    sides = ["n", 4, 6, 6]
    weights = {"w": np.random.default_rng(0).standard_normal((4, 4, 1, 1)).astype(np.float32)}
    ports = [value("a", sides), value("b", sides)], [value("y", sides), value("z", sides)]
    proto = model(nodes, *ports, weights)
    session = compile_onnx(proto, threads=1)
    feeds = {name: np.random.default_rng(1).standard_normal((2, 4, 6, 6)).astype(np.float32) for name in "ab"}
    made = session.run(feeds)
    for name, expected in zip("yz", reference(proto, feeds), strict=True):
        np.testing.assert_allclose(made[name], expected, **TOLERANCE)
    with pytest.raises(EngineError, match="The model has the inputs a, b: give a mapping"):
        session.run(feeds["a"])
    with pytest.raises(EngineError, match="'a' and 'b' have a side 'n' in common, which is 2 in one and 1"):
        session.run({"a": feeds["a"], "b": feeds["b"][:1]})


def test_nan_and_infinity_at_a_removed_weight_do_not_spread() -> None:
    """A zero weight is no multiplication; ONNX Runtime computes 0 * inf = nan there. docs/engine.md says so."""
    weight = np.zeros((8, 8, 1, 1), np.float32)
    weight[np.arange(8), np.arange(8)] = 1.0
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "conv")]
    proto = model(nodes, [value("x", [1, 8, 16, 16])], [value("y", [1, 8, 16, 16])], {"w": weight})
    session = compile_onnx(proto, threads=1)
    fact = session.report().layers[0]
    assert fact.choice and fact.choice.format != "dense"
    x = np.ones((1, 8, 16, 16), np.float32)
    x[0, 3] = np.inf
    y = session.run(x)["y"]
    assert np.isinf(y[0, 3]).all() and (y[0, [0, 1, 2, 4, 5, 6, 7]] == 1).all()
    assert np.isnan(reference(proto, {"x": x})[0][0, 0]).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_runs_a_session_that_a_thread_of_its_parent_is_using(proto: onnx.ModelProto) -> None:
    session = compile_onnx(proto, threads=2)
    expected = session.run(images(1))["logits"]
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            session.run(images(1))

    worker = threading.Thread(target=keep_busy)
    worker.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                os._exit(0 if np.array_equal(session.run(images(1))["logits"], expected) else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        worker.join()


def test_profile_has_times_of_layers_and_of_the_dense_twin(session: Session) -> None:
    profile = session.profile(images(1), rounds=3)
    rows = {row.facts.layer: row for row in profile.layers}
    assert set(rows) == {"stem", "body", "point", "fc"}
    assert all(row.seconds >= 0 for row in rows.values())
    body = rows["body"]
    assert body.expected == pytest.approx(1 / body.facts.density, rel=1e-3)
    assert body.dense_seconds is not None
    assert profile.total >= sum(row.seconds for row in rows.values())
    assert session.profile(images(1), rounds=2, against_dense=False).dense_total is None


def test_a_profile_of_no_rounds_is_refused(session: Session) -> None:
    with pytest.raises(EngineError, match="0 rounds time nothing"):
        session.profile(rounds=0)
