"""ONNX files that lie, are cut off, or were made to do harm: always one sentence, never a crash, never a foreign file.

Tests are named after the rules of graph/read.py.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from secateur.errors import ModelError
from secateur.graph import census_of_onnx, read_model


def small_model() -> onnx.ModelProto:
    weight = np.random.default_rng(0).random((4, 3, 3, 3), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 6, 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def written(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def external(location: str, **entries: int) -> onnx.ModelProto:
    model = small_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def refuses(path: Path, words: str, **options) -> None:
    with pytest.raises(ModelError, match=words) as error:
        read_model(path, **options)
    assert path.name in str(error.value) and "\n" not in str(error.value)


def test_rule_1_only_onnx_graphs_are_read(tmp_path: Path):
    refuses(tmp_path / "absent.onnx", "no such file")
    refuses(tmp_path, "no such file")
    for content in (b"", b"PK\x03\x04 a zip file", b"\x00" * 100, b'{"json": 1}', bytes(range(256)) * 8):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        refuses(path, "not an ONNX model|no operators")
    empty = small_model()
    del empty.graph.node[:]
    refuses(written(tmp_path, empty), "no operators")


def test_rule_1_files_too_large_are_not_even_opened(tmp_path: Path):
    path = written(tmp_path, small_model())
    refuses(path, "more than the 100 that are allowed", max_bytes=100)
    # A sparse file of 100 GB occupies nothing on disk.
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(100 << 30)
    refuses(tmp_path / "large.onnx", "107,374,182,400 bytes")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_rule_1_files_cut_off(tmp_path: Path, share: float):
    content = small_model().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: int(share * len(content))])
    refuses(path, "cut off|no operators|not an ONNX model")


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/hostname", "", "a/../../secret.bin", "C:\\secret.bin", "link"]
)
def test_rule_2_nothing_outside_the_folder_is_read(tmp_path: Path, location: str):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"s" * 432)
    (folder / "link").symlink_to(tmp_path / "secret.bin")
    refuses(written(folder, external(location)), "outside the model's folder|no relative path")


def test_rule_2_external_data_is_loaded_where_it_belongs(tmp_path: Path):
    values = np.arange(108, dtype=np.float32)
    (tmp_path / "data.bin").write_bytes(b"head" + values.tobytes())
    path = written(tmp_path, external("data.bin", offset=4, length=432))
    tensor = read_model(path).graph.initializer[0]
    assert numpy_helper.to_array(tensor).ravel().tolist() == values.tolist()
    assert census_of_onnx(path).nonzeros == 107


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"offset": 4, "length": 432}, "lie outside data.bin"),
        ({"offset": -4}, "lie outside data.bin"),
        ({"length": -1}, "lie outside data.bin"),
        ({"length": 10**15}, "lie outside data.bin"),
        ({"length": 400}, "needs 432 bytes and has 400"),
        ({"length": "many"}, "not a number"),
    ],
)
def test_rule_2_external_data_must_fit_its_file(tmp_path: Path, entries, words):
    (tmp_path / "data.bin").write_bytes(b"\0" * 432)
    refuses(written(tmp_path, external("data.bin", **entries)), words)


def test_rule_2_missing_and_excessive_external_data(tmp_path: Path):
    refuses(written(tmp_path, external("data.bin")), "data file 'data.bin' is missing")
    (tmp_path / "data.bin").write_bytes(b"\0" * 432)
    refuses(written(tmp_path, external("data.bin")), "larger than allowed", max_bytes=500)


@pytest.mark.parametrize("dims", [[10**9, 10**9], [4, 3, 3, 2], [-4, 3, 3, 3]])
def test_rule_3_a_tensor_has_the_bytes_its_shape_says(tmp_path: Path, dims: list[int]):
    model = small_model()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    refuses(written(tmp_path, model), "tensor 'w'")


def test_rule_3_values_outside_of_raw_data_too(tmp_path: Path):
    model = small_model()
    model.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0]))
    model.graph.initializer[0].dims[0] = 3
    refuses(written(tmp_path, model), r"shape \[3\] has 2 values")
    model.graph.initializer[0].data_type = 99
    refuses(written(tmp_path, model), "unknown type 99")


def test_rule_3_tensors_inside_of_operators_too(tmp_path: Path):
    model = small_model()
    value = numpy_helper.from_array(np.ones(3, np.float32), "inner")
    value.dims[0] = 10**12
    model.graph.node.add(op_type="Constant", output=["c"]).attribute.append(helper.make_attribute("value", value))
    refuses(written(tmp_path, model), "tensor 'inner'")


def test_rule_4_an_operator_cannot_read_what_is_not_there(tmp_path: Path):
    model = small_model()
    del model.graph.initializer[:]
    refuses(written(tmp_path, model), "Conv '' reads 'w'")
    model = small_model()
    del model.graph.node[1]
    refuses(written(tmp_path, model), "nothing produces the output 'y'")


def test_names_cannot_write_to_the_terminal(tmp_path: Path):
    model = small_model()
    model.graph.node[0].name = "first\nsecond\x1b[2J"
    model.graph.node[0].input[1] = "gone"
    refuses(written(tmp_path, model), r"'first\?second\?\[2J' reads 'gone'")


def test_rule_5_names_are_text(tmp_path: Path):
    content = small_model().SerializeToString()
    for name in (b"\x01g", b"\x04Relu", b"\x04Conv", b"\x01w", b"\x01x"):
        assert name in content
        path = tmp_path / "model.onnx"
        path.write_bytes(content.replace(name, name[:1] + b"\xb6" + name[2:]))
        refuses(path, "not text")


def test_rule_6_functions_that_unfold_without_end(tmp_path: Path):
    def doubling(level: int) -> onnx.FunctionProto:
        name, inner = f"f{level}", f"f{level - 1}" if level else "Relu"
        domain = "own" if level else ""
        nodes = [
            helper.make_node(inner, ["a"], ["b"], domain=domain),
            helper.make_node(inner, ["b"], ["c"], domain=domain),
        ]
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
        return helper.make_function("own", name, ["a"], ["c"], nodes, imports)

    model = small_model()
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.extend(doubling(level) for level in range(60))
    model.graph.node[1].op_type, model.graph.node[1].domain = "f59", "own"
    refuses(written(tmp_path, model), "unfold into more than 1,000,000 operators")
    model.functions[0].node[0].op_type, model.functions[0].node[0].domain = "f59", "own"
    refuses(written(tmp_path, model), "calls itself")


CONTENT = small_model().SerializeToString()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_are_a_sentence_or_a_count(tmp_path: Path, damage: list[tuple[int, int]]):
    content = bytearray(CONTENT)
    for place, value in damage:
        content[place] = value
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    try:
        found = census_of_onnx(path)
    except ModelError as error:
        assert "\n" not in str(error)
    else:
        assert found.weights in (0, 108)
