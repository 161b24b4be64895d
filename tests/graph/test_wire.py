"""Cutting large tensors out of a file changes nothing: put back, the model is what protobuf alone reads."""

from io import FileIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from secateur.graph import wire
from secateur.graph.wire import Place, read_array, without_large_tensors


@pytest.fixture(autouse=True)
def _all_but_tiny_tensors_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGE", 32)
    monkeypatch.setattr(wire, "_WINDOW", 64)


def network() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(rng.random((4, 3, 3, 3), np.float32), "w"),
        numpy_helper.from_array(np.ones(2, np.float32), "small"),
        helper.make_tensor("listed", TensorProto.FLOAT, [40], np.ones(40)),
        numpy_helper.from_array(rng.integers(0, 9, 50), "numbers"),
    ]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 6, 6])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def cut(folder: Path, content: bytes) -> tuple[bytes, dict[int, Place], FileIO]:
    path = folder / "model.onnx"
    path.write_bytes(content)
    file = FileIO(str(path))
    return *without_large_tensors(file, len(content)), file


def put_together(folder: Path, content: bytes) -> bytes | None:
    """The model as it is read here, in bytes again; None where protobuf refuses it."""
    light, places, file = cut(folder, content)
    model = parsed(light)
    with file:
        for index, place in places.items() if model is not None else ():
            assert model.graph.initializer[index].raw_data == b""
            model.graph.initializer[index].raw_data = read_array(file, place).tobytes()
    return model.SerializeToString() if model is not None else None


def plain(content: bytes) -> bytes | None:
    """The same without cutting."""
    model = parsed(content)
    return model.SerializeToString() if model is not None else None


def parsed(content: bytes) -> onnx.ModelProto | None:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RuntimeError, ValueError):
        return None
    return model


CONTENT = network().SerializeToString()


def test_large_raw_data_stays_in_the_file(tmp_path: Path):
    light, places, file = cut(tmp_path, CONTENT)
    assert {index: place.size for index, place in places.items()} == {0: 432, 3: 400}
    # What is gone is the data; lengths around it become shorter.
    assert len(CONTENT) - 832 - 12 <= len(light) <= len(CONTENT) - 832
    with file:
        assert read_array(file, places[0]).tobytes() == network().graph.initializer[0].raw_data
    assert put_together(tmp_path, CONTENT) == plain(CONTENT)


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content) & 127 | 128, len(content) >> 7]) + content


@pytest.mark.parametrize(
    "content",
    [
        CONTENT + CONTENT,
        CONTENT + field(7, b""),
        field(7, field(5, field(9, b"a" * 40) + field(9, b"b" * 50))),
        field(7, field(5, field(9, b"a" * 40) + b"\x48\x05")),
        field(7, b"\x2b" + field(9, b"a" * 40) + b"\x2c" + field(5, field(9, b"a" * 40))),
        field(7, field(5, field(9, b"a" * 40))) + b"\x08" + b"\x80" * 9 + b"\x00",
        field(7, field(5, b"\x0d\0\0\0\0" + field(9, b"a" * 40) + b"\x09" + b"\0" * 8)),
        field(7, field(5, field(9, b"a" * 40))[:-1]),
        b"\x38\x01" + CONTENT,
        b"",
    ],
    ids=["two graphs", "an empty second graph", "raw data twice", "raw data as a number", "an initializer as a group",
         "a number in ten bytes", "unknown fields", "cut off", "graph as a number", "nothing"],
)  # fmt: skip
def test_what_is_not_simple_is_read_by_protobuf(tmp_path: Path, content: bytes):
    assert put_together(tmp_path, content) == plain(content)


def test_too_many_fields_are_left_to_protobuf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "_MOST_FIELDS", 10)
    light, places, file = cut(tmp_path, CONTENT)
    file.close()
    assert light == CONTENT and not places


def test_a_file_that_became_shorter(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(CONTENT)
    with FileIO(str(path)) as file, pytest.raises(EOFError):
        without_large_tensors(file, len(CONTENT) + 1)
    with FileIO(str(path)) as file, pytest.raises(EOFError):
        read_array(file, Place(len(CONTENT) - 5, 6))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 40))
def test_damaged_files_are_read_as_protobuf_reads_them(tmp_path: Path, damage: list[tuple[int, int]], missing: int):
    content = bytearray(CONTENT)
    for place, value in damage:
        content[place] = value
    damaged = bytes(content[: len(content) - missing // 8])
    assert put_together(tmp_path, damaged) == plain(damaged)
