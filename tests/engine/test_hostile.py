"""Whatever an ONNX file says: a sentence or a right result. No crash, no other exception, no unbounded memory.

Files that could end the process or eat its memory are run in a process of their own with a limit on its memory
(hostile_run.py).
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from engine.networks import classifier, images, model, reference, value, zeroed
from secateur.engine.object_cache import ObjectCache
from secateur.engine.session import compile_onnx
from secateur.errors import EngineError, ModelError, SecateurError

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory by what Linux says it uses")
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def conv_model(weight: np.ndarray, sides: tuple[Any, ...], **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv", **attributes)
    return model([node], [value("x", list(sides))], [onnx.ValueInfoProto(name="y")], {"w": weight})


# In a process of its own


def in_a_process(path: Path) -> dict[str, Any]:
    """What hostile_run.py says. A process that does not end by itself fails the test."""
    script = Path(__file__).parent / "hostile_run.py"
    done = subprocess.run(
        [sys.executable, str(script), str(path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])


def huge_weight() -> onnx.ModelProto:
    """A weight of 2^60 elements and no bytes."""
    proto = conv_model(np.zeros((4, 3, 3, 3), np.float32), (1, 3, 8, 8))
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].dims[:] = [1 << 20, 1 << 20, 1 << 10, 1 << 10]
    return proto


def huge_input() -> onnx.ModelProto:
    return conv_model(zeroed((8, 3, 3, 3), 0.5), (1, 3, 1 << 22, 1 << 22), pads=[1, 1, 1, 1])


def huge_channels() -> onnx.ModelProto:
    """Each value is legal, all of them together are terabytes."""
    nodes = [helper.make_node("Concat", [f"v{i}"] * 8, [f"v{i + 1}"], axis=1) for i in range(12)]
    return model(nodes, [value("v0", [1, 8, 64, 64])], [onnx.ValueInfoProto(name="v12")], {})


def huge_pad() -> onnx.ModelProto:
    return conv_model(zeroed((8, 3, 3, 3), 0.5), (1, 3, 8, 8), pads=[1 << 28] * 4)


def huge_kernel_shape() -> onnx.ModelProto:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1 << 30, 1 << 30], pads=[1 << 30] * 4)
    return model([node], [value("x", [1, 3, 8, 8])], [onnx.ValueInfoProto(name="y")], {})


def huge_upsampling() -> onnx.ModelProto:
    constants = {"scales": np.array([1, 1, 1e6, 1e6], np.float32)}
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")
    return model([node], [value("x", [1, 3, 8, 8])], [onnx.ValueInfoProto(name="y")], constants)


def huge_constant() -> onnx.ModelProto:
    """ConstantOfShape of a terabyte, which must not be folded."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["c"]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    shape = np.array([1 << 14, 1 << 14, 1 << 10], np.int64)
    return model(nodes, [value("x", [1])], [onnx.ValueInfoProto(name="y")], {"shape": shape})


def deep() -> onnx.ModelProto:
    """Five thousand nodes in a row."""
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(5_000)]
    return model(nodes, [value("v0", [1, 4, 4, 4])], [onnx.ValueInfoProto(name="v5000")], {})


def nested() -> onnx.ModelProto:
    """An If in an If in an If: a thousand of them."""
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "g", [], [value("z", [1])])
    for _ in range(200):
        node = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
        if inner.ByteSize() > 1 << 15:
            break
        inner = helper.make_graph([node], "g", [], [value("z", [1])])
    proto = model([], [value("x", [1])], [value("z", [1])], {"c": np.array(True)})
    proto.graph.node.extend(inner.node)
    return proto


def cyclic() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    return model(nodes, [value("x", [1, 4])], [value("b", [1, 4])], {})


def wrong_group() -> onnx.ModelProto:
    return conv_model(zeroed((8, 3, 3, 3), 0.5), (1, 3, 8, 8), group=7)


def zero_strides() -> onnx.ModelProto:
    return conv_model(zeroed((8, 3, 3, 3), 0.5), (1, 3, 8, 8), strides=[0, 0])


def negative_dilations() -> onnx.ModelProto:
    return conv_model(zeroed((8, 3, 3, 3), 0.5), (1, 3, 8, 8), dilations=[-1, -1])


def kernel_larger_than_image() -> onnx.ModelProto:
    return conv_model(zeroed((8, 3, 7, 7), 0.5), (1, 3, 4, 4))


def zero_channels() -> onnx.ModelProto:
    return conv_model(np.zeros((0, 3, 3, 3), np.float32), (1, 3, 8, 8))


def zero_inputs() -> onnx.ModelProto:
    return conv_model(np.zeros((8, 0, 3, 3), np.float32), (1, 0, 8, 8))


def zero_reshape() -> onnx.ModelProto:
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    return model([node], [value("x", [1, 4])], [onnx.ValueInfoProto(name="y")], {"s": np.array([0, 0, -1], np.int64)})


def index_outside() -> onnx.ModelProto:
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=1)
    return model([node], [value("x", [1, 4])], [onnx.ValueInfoProto(name="y")], {"i": np.array([-99, 99])})


def outside() -> onnx.ModelProto:
    """A weight in a file outside of the model's folder."""
    proto = conv_model(zeroed((8, 3, 3, 3), 0.5), (1, 3, 8, 8))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../../etc/passwd")
    return proto


def unknown_operator() -> onnx.ModelProto:
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="evil.example")
    proto = model([node], [value("x", [1, 4])], [value("y", [1, 4])], {})
    proto.opset_import.add(domain="evil.example", version=1)
    return proto


def text_input() -> onnx.ModelProto:
    node = helper.make_node("Identity", ["x"], ["y"])
    return model([node], [value("x", [1], TensorProto.STRING)], [value("y", [1], TensorProto.STRING)], {})


def no_outputs() -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1, 4])], [], {})


def undefined_output() -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1, 4])], [value("nowhere", [1, 4])], {})


def twice() -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["y"])]
    return model(nodes, [value("x", [1, 4])], [value("y", [1, 4])], {})


SENTENCES: list[Callable[[], onnx.ModelProto]] = [
    huge_weight, huge_input, huge_channels, huge_pad, huge_kernel_shape, huge_upsampling, huge_constant, cyclic,
    wrong_group, zero_strides, negative_dilations, kernel_larger_than_image, outside, unknown_operator,
    undefined_output, twice, index_outside,
]  # fmt: skip
EITHER: list[Callable[[], onnx.ModelProto]] = [
    deep, nested, zero_channels, zero_inputs, zero_reshape, no_outputs, text_input
]  # fmt: skip


@LINUX
@pytest.mark.parametrize("make", [*SENTENCES, *EITHER])
def test_a_sentence_in_little_memory(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(make().SerializeToString())
    said = in_a_process(tmp_path / "net.onnx")
    if make in SENTENCES:
        assert "error" in said, f"{said} instead of a sentence"
    if "error" in said:
        assert said["error"].endswith(".") and len(said["error"]) < 2000, said["error"]
        assert "Traceback" not in said["error"]


# In this process


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes(data: st.DataObject) -> None:
    """Cut off, bytes changed, or both: never another exception than ours."""
    whole = bytearray(classifier(batch=1, side=8).SerializeToString())
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=6)):
        whole[place] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))])
    try:
        session = compile_onnx(damaged, threads=1)
        session.run(session.random_feeds())
    except SecateurError as error:
        assert str(error).strip()


def run(weight: np.ndarray, x: np.ndarray, **attributes: Any) -> tuple[np.ndarray, np.ndarray]:
    proto = conv_model(weight, x.shape, **attributes)
    return compile_onnx(proto, threads=2).run(x)["y"], reference(proto, {"x": x})[0]


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 1e-45, 3.4e38])
def test_weights_that_are_no_usual_numbers(special: float) -> None:
    weight = zeroed((8, 8, 3, 3), 0.6, 4)
    weight[3, 2, 1, 1] = special
    x = np.random.default_rng(0).standard_normal((1, 8, 9, 9)).astype(np.float32)
    found, wanted = run(weight, x, pads=[1, 1, 1, 1])
    # Infinity times zero of the padding may be skipped here, and is NaN there.
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    others = [channel for channel in range(8) if channel != 3]
    np.testing.assert_allclose(found[:, others], wanted[:, others], **TOLERANCE)
    np.testing.assert_allclose(found[inner], wanted[inner], **TOLERANCE)


@pytest.mark.parametrize("shape", [(8, 8, 1, 1), (8, 8, 3, 3), (8, 1, 3, 3)])
def test_weights_that_are_all_zero(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 8, 7, 7)).astype(np.float32)
    constants = {"w": np.zeros(shape, np.float32), "b": np.arange(8, dtype=np.float32)}
    pads = [shape[2] // 2] * 4
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv", group=8 // shape[1], pads=pads)
    proto = model([node], [value("x", ["n", 8, 7, 7])], [onnx.ValueInfoProto(name="y")], constants)
    np.testing.assert_array_equal(
        compile_onnx(proto, threads=1).run(x)["y"], np.broadcast_to(constants["b"][:, None, None], x.shape)
    )


@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("sparsity", [0.0, 0.8, 1.0])
def test_the_smallest_images(side: int, sparsity: float) -> None:
    proto, x = classifier(side=side, sparsity=sparsity), images(3, side)
    np.testing.assert_allclose(
        compile_onnx(proto, threads=2).run(x)["logits"], reference(proto, {"input": x})[0], **TOLERANCE
    )


def test_one_channel_one_filter_one_pixel() -> None:
    x = np.full((1, 1, 1, 1), 3, np.float32)
    for weight in (np.full((1, 1, 1, 1), 2, np.float32), np.zeros((1, 1, 1, 1), np.float32)):
        found, wanted = run(weight, x)
        np.testing.assert_array_equal(found, wanted)


def test_empty_batches_are_a_sentence() -> None:
    session = compile_onnx(classifier(), threads=1)
    with pytest.raises(EngineError, match="float32 \\(0, 3, 16, 16\\)"):
        session.run(np.zeros((0, 3, 16, 16), np.float32))
    # A model for nothing else than no images computes nothing.
    made = compile_onnx(classifier(batch=0), threads=1).run(np.zeros((0, 3, 16, 16), np.float32))
    assert made["logits"].shape == (0, 6)


@pytest.mark.parametrize(
    "feeds",
    [
        {"input": None}, {"input": "text"}, {"input": np.array(["a"])}, {"input": np.array([None])}, {"input": 3.0},
        {"input": np.zeros((1, 3, 16, 16), ">f4")}, {"input": np.zeros((1, 3, 16, 16), np.complex64)},
        {"input": np.zeros((1, 3, 16, 16, 1), np.float32)}, {"input": np.zeros((), np.float32)}, {3: images(1)},
        {"input": images(1), None: images(1)}, None, [], "input", np.zeros(3, np.float32),
    ],
)  # fmt: skip
def test_feeds_of_any_kind_are_a_sentence(feeds: Any) -> None:
    session = compile_onnx(classifier(), threads=1)
    with pytest.raises(EngineError):
        session.run(feeds)
    assert session.run(images(1))["logits"].shape == (1, 6)


def test_a_file_that_is_cut_off_while_a_session_has_it(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(classifier(), path)
    session = compile_onnx(path, threads=1)
    path.write_bytes(path.read_bytes()[:100])
    assert session.run(images(1))["logits"].shape == (1, 6)
    with pytest.raises(EngineError, match="changed"):
        session.run(images(2))


def test_external_data_inside_the_folder_is_read(tmp_path: Path) -> None:
    proto = classifier()
    onnx.save(proto, tmp_path / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    found = compile_onnx(tmp_path / "net.onnx", threads=1).run(images(1))["logits"]
    np.testing.assert_allclose(found, reference(classifier(), {"input": images(1)})[0], **TOLERANCE)
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ModelError):
        compile_onnx(tmp_path / "net.onnx", threads=1)


# Caches


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def in_a_new_process(path: Path) -> np.ndarray:
    """Logits computed where no kernel is loaded yet."""
    code = (
        "import sys, numpy as np\n"
        "from secateur.engine.session import compile_onnx\n"
        "x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)\n"
        "session = compile_onnx(sys.argv[1], threads=1, tune=len(sys.argv) > 2)\n"
        "sys.stdout.buffer.write(session.run(x)['logits'].tobytes())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), "tune"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return np.frombuffer(done.stdout, np.float32)


DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: b"",
    lambda data: data[: len(data) // 2],
    lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    lambda data: b"X" * 16 + data[16:],
    lambda data: data + b"\0" * 64,
    lambda data: np.random.default_rng(0).bytes(len(data)),
)


def test_damaged_and_foreign_cache_entries_are_rebuilt(cache: Path, tmp_path: Path) -> None:
    """First every file damaged in one way or another, then every file under the name of another one."""
    onnx.save(classifier(), tmp_path / "net.onnx")
    wanted = in_a_new_process(tmp_path / "net.onnx")
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    assert {path.suffix for path in files} == {".o", ".json"}, "kernels and timings are kept"
    sound = {path: path.read_bytes() for path in files if path.suffix == ".o"}
    for index, path in enumerate(files):
        path.write_bytes(DAMAGES[index % len(DAMAGES)](path.read_bytes()))
    # Other timings may lead to other choices: the same numbers, other bits.
    np.testing.assert_allclose(in_a_new_process(tmp_path / "net.onnx"), wanted, **TOLERANCE)
    rebuilt = [path for path, data in sound.items() if path.read_bytes() == data]
    assert rebuilt, "no kernel was built again"
    for suffix in (".o", ".json"):
        files = sorted(cache.rglob(f"*{suffix}"))
        contents = [path.read_bytes() for path in files]
        for path, content in zip(files, contents[1:] + contents[:1], strict=True):
            path.write_bytes(content)
    np.testing.assert_allclose(in_a_new_process(tmp_path / "net.onnx"), wanted, **TOLERANCE)


def test_a_cache_that_cannot_be_a_folder_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "file"))
    assert "cannot be opened" in ObjectCache(tmp_path / "file" / "kernels").off
    found = compile_onnx(classifier(), threads=1).run(images(1))["logits"]
    np.testing.assert_allclose(found, reference(classifier(), {"input": images(1)})[0], **TOLERANCE)


def test_tensors_of_text_among_the_weights_are_a_sentence() -> None:
    proto = classifier()
    proto.graph.initializer.append(numpy_helper.from_array(np.array(["a", "b"], object), "words"))
    proto.graph.node.append(helper.make_node("Identity", ["words"], ["said"]))
    proto.graph.output.append(value("said", [2], TensorProto.STRING))
    try:
        session = compile_onnx(proto, threads=1)
        found = session.run(images(1))
    except SecateurError as error:
        assert str(error).endswith(".")
    else:
        assert found["said"].tolist() == ["a", "b"]
