"""ONNX files in little space: the same model comes back, zeros cost little, damage is told."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from secateur.errors import ArtifactError
from secateur.export import load_packed_onnx, save_packed_onnx
from secateur.export.packed_onnx import GRAPH_KEY
from secateur.export.weights_file import load_weights, save_weights


def model(weight: np.ndarray) -> onnx.ModelProto:
    """A quantized linear layer, with a step for each output."""
    rows, columns = weight.shape
    tensors = {
        "w": weight,
        "w_step": np.linspace(0.1, 0.2, rows, dtype=np.float32),
        "w_zero": np.zeros(rows, np.int8),
        "small": np.arange(3, dtype=np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "w_step", "w_zero"], ["floats"], axis=0),
        helper.make_node("Gemm", ["x", "floats"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", rows])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    found.metadata_props.add(key="preprocessing", value="{}")
    return found


def sparse(rows=64, columns=256):
    random = np.random.default_rng(0)
    mask = np.repeat(random.random((rows, columns // 4)) < 0.2, 4, axis=1)
    return (random.integers(1, 127, (rows, columns)) * mask).astype(np.int8)


def test_what_was_packed_comes_back_bit_for_bit(tmp_path):
    whole = model(sparse())
    before = whole.SerializeToString()
    save_packed_onnx(tmp_path / "m.safetensors", whole)
    assert whole.SerializeToString() == before
    assert load_packed_onnx(tmp_path / "m.safetensors").SerializeToString() == before


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "DOUBLE", "INT64", "UINT8", "INT4", "BOOL"])
def test_tensors_of_every_type_come_back(tmp_path, kind):
    whole = model(sparse())
    values = np.random.default_rng(0).integers(0, 2, 4096)
    tensor = helper.make_tensor("other", getattr(TensorProto, kind), [4096], values.tolist())
    whole.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor), "other"))
    whole.graph.initializer[-1].data_type = tensor.data_type
    if kind in ("BFLOAT16", "INT4"):
        whole.graph.initializer[-1].CopyFrom(tensor)
    save_packed_onnx(tmp_path / "m.safetensors", whole)
    again = load_packed_onnx(tmp_path / "m.safetensors")
    assert again.SerializeToString() == whole.SerializeToString()


def test_zeros_in_blocks_cost_a_bit_a_block(tmp_path):
    weight = sparse(512, 1024)
    save_packed_onnx(tmp_path / "m.safetensors", model(weight))
    floats = 4 * weight.size
    # A fifth of the values, one byte each, and a bit for four: 5.8 % of the float layer, and headers.
    assert (tmp_path / "m.safetensors").stat().st_size < 0.065 * floats


def test_damage_is_told(tmp_path):
    path = tmp_path / "m.safetensors"
    save_packed_onnx(path, model(sparse()))
    tensors, metadata = load_weights(path)

    def refused(change):
        save_weights(
            tmp_path / "n.safetensors", {k: v for k, v in (tensors | change).items() if v is not None}, metadata
        )
        with pytest.raises(ArtifactError) as caught:
            load_packed_onnx(tmp_path / "n.safetensors")
        return str(caught.value)

    assert "no graph" in refused({GRAPH_KEY: None})
    assert "graph is damaged" in refused({GRAPH_KEY: torch.zeros(9, dtype=torch.uint8)})
    assert "cut off" in refused({GRAPH_KEY: tensors[GRAPH_KEY][:-8]})
    assert "type and shape" in refused({"w": tensors["w"].float()})
    assert "type and shape" in refused({"w": tensors["w"][:5]})
    assert "belongs to nothing" in refused({"more": torch.ones(3)})
    assert "no valid model" in refused({"w": None})
