"""Every installed runtime against the network computed by hand."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from secateur.errors import RecipeError
from secateur.measure import Failure, RunError, Subject, ignores_zeros, installed_runtimes, runtimes

NAMES = ("onnxruntime", "openvino", "secateur")
IGNORE_ZEROS = ("onnxruntime", "openvino")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    reason = runtimes[request.param]().available()
    if reason is not None:
        pytest.skip(reason)
    return request.param


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_runtime_computes_the_network(
    name: str, threads: int, batch: int, make_network: Callable[..., Path], numpy_logits: Callable, images: np.ndarray
) -> None:
    path = make_network()
    run = runtimes[name]().load(Subject("tiny", onnx=path), threads, batch)
    expected = numpy_logits(path, images[:batch])
    np.testing.assert_allclose(run(images[:batch]), expected, rtol=1e-4, atol=1e-5)
    # A second call must not overwrite the result of the first.
    first = run(images[:batch])
    run(-images[:batch])
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-5)


def test_a_fixed_batch_is_run_or_refused_in_a_sentence(
    name: str, make_network: Callable[..., Path], images: np.ndarray
) -> None:
    path = make_network(batch=2)
    assert runtimes[name]().load(Subject("tiny", onnx=path), 1, 2)(images[:2]).shape == (2, 6)


@pytest.mark.parametrize("runtime", ["onnxruntime", "secateur"])
def test_another_batch_than_the_fixed_one_is_refused(runtime: str, make_network: Callable[..., Path]) -> None:
    with pytest.raises(RunError, match="fixed to 2 and cannot be 3") as caught:
        runtimes[runtime]().load(Subject("tiny", onnx=make_network(batch=2)), 1, 3)
    assert caught.value.category is Failure.NOT_SUPPORTED


def test_an_unknown_operator_is_not_supported(name: str, make_network: Callable[..., Path]) -> None:
    with pytest.raises(RunError) as caught:
        runtimes[name]().load(Subject("tiny", onnx=make_network(op="Frobnicate")), 1, 1)
    assert caught.value.category is Failure.NOT_SUPPORTED
    assert "\n" not in str(caught.value)


def test_a_subject_without_a_readable_file(name: str, tmp_path: Path) -> None:
    for subject in (Subject("x"), Subject("x", onnx=tmp_path / "nothing.onnx")):
        with pytest.raises(RunError) as caught:
            runtimes[name]().load(subject, 1, 1)
        assert caught.value.category is Failure.NOT_SUPPORTED
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(RunError):
        runtimes[name]().load(Subject("x", onnx=tmp_path / "broken.onnx"), 1, 1)


def test_wrong_images_are_one_sentence(name: str, make_network: Callable[..., Path]) -> None:
    run = runtimes[name]().load(Subject("tiny", onnx=make_network()), 1, 1)
    with pytest.raises(RunError) as caught:
        run(np.zeros((1, 4, 8, 8), np.float32))
    assert caught.value.category is Failure.CRASHED


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_onnxruntime_starts_exactly_the_threads_asked_for(threads: int, make_network: Callable[..., Path]) -> None:
    # In a process of its own: threads of earlier tests may end between two counts.
    code = f"""
from pathlib import Path
from secateur.measure import Subject, runtimes
count = lambda: len(list(Path("/proc/self/task").iterdir()))
run = runtimes["onnxruntime"]().load(Subject("tiny", onnx=Path({str(make_network())!r})), 1, 1)
alone = count()
other = runtimes["onnxruntime"]().load(Subject("tiny", onnx=Path({str(make_network())!r})), {threads}, 1)
print(count() - alone)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == threads - 1, "the caller is one of the threads"


def test_what_a_runtime_says_about_zeros() -> None:
    for name in NAMES:
        assert ignores_zeros(runtimes[name]()) == (name in IGNORE_ZEROS)
        assert runtimes[name].uses_zeros.endswith(".")


def test_an_unknown_runtime_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'onnxruntime'"):
        runtimes["onnx-runtime"]
    assert "onnxruntime" in installed_runtimes()


def test_measure_never_imports_torch() -> None:
    code = "import sys, secateur.measure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_runtime_leaves_the_floating_point_mode_of_the_process_alone(name: str, tmp_path: Path) -> None:
    """Flushing denormals is a mode of the calling thread; a benchmark must not change what later training computes."""
    script = f"""
import numpy as np
from pathlib import Path
from secateur.measure import Subject, runtimes
runtime = runtimes[{name!r}]()
if runtime.available() is None:
    run = runtime.load(Subject("net", onnx=Path({str(tmp_path / "net.onnx")!r})), 2, 1)
    run(np.zeros((1, 3, 8, 8), np.float32))
assert (np.full(8, 1e-40, np.float32) * np.float32(1.5)).all()
"""
    node = helper.make_node("Relu", ["input"], ["logits"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("input", "logits")]
    graph = helper.make_graph([node], "net", value[:1], value[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "net.onnx"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
