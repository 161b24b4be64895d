"""The exported file: same function, same names, no debris, and the model it came from is left alone."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from secateur.errors import ExportError
from secateur.export import check_onnx, export_onnx
from secateur.export.onnx_file import folded_copy
from secateur.sparsity import attach_masks_, set_mask_

SIZE = (3, 8, 8)


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, *SIZE), dtype=np.float32)


def _initializers(path: Path) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_every_topology_is_the_same_function_at_any_batch(network: nn.Module, tmp_path: Path) -> None:
    path = export_onnx(network, tmp_path / "model.onnx", SIZE)
    check = check_onnx(network, path, [_images(4), _images(1), _images(7)])
    assert check.images == 12
    assert check.max_rel_error < 1e-5
    assert check.top1_agreement == 100.0
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == ["input"]
    assert [value.name for value in graph.output] == ["logits"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_fixed_batch_is_fixed_and_still_checked_on_any_number_of_images(
    sparse_residual: nn.Module, tmp_path: Path
) -> None:
    path = export_onnx(sparse_residual, tmp_path / "model.onnx", SIZE, dynamic_batch=False, batch=3)
    assert onnxruntime.InferenceSession(path).get_inputs()[0].shape == [3, *SIZE]
    assert check_onnx(sparse_residual, path, [_images(7)]).images == 7


def test_names_are_those_of_torch(exported: Path) -> None:
    graph = onnx.load(exported).graph
    weighted = {node.name: list(node.input[1:]) for node in graph.node if node.op_type in ("Conv", "Gemm")}
    assert weighted == {
        "conv1": ["conv1.weight", "conv1.bias"],
        "conv2": ["conv2.weight", "conv2.bias"],
        "down": ["down.weight"],
        "fc": ["fc.weight", "fc.bias"],
    }
    assert len({node.name for node in graph.node}) == len(graph.node)


def test_folding_batch_norm_keeps_zeros_exactly_zero(exported: Path, sparse_residual: nn.Module) -> None:
    mask = sparse_residual.conv2.weight != 0
    assert int(mask.sum()) == mask.numel() // 4
    weight = _initializers(exported)["conv2.weight"]
    assert np.array_equal(weight != 0, mask.numpy())
    assert not np.any(np.signbit(weight[weight == 0])), "a negative scale must not leave -0.0 behind"
    assert not any(node.op_type == "BatchNormalization" for node in onnx.load(exported).graph.node)


def test_a_second_export_is_quiet_has_the_same_bytes_and_leaves_the_model_alone(
    exported: Path, sparse_residual: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {name: value.clone() for name, value in sparse_residual.state_dict().items()}
    again = export_onnx(sparse_residual, tmp_path / "model.onnx", SIZE)
    assert capfd.readouterr() == ("", "")
    assert again.read_bytes() == exported.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert sparse_residual.training
    assert parametrize.is_parametrized(sparse_residual.conv2, "weight")
    after = sparse_residual.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_folded_copy_keeps_shared_weights_shared() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    network = nn.Sequential(first, second)
    attach_masks_(network, ["0"])
    set_mask_(first, torch.eye(4, dtype=torch.bool))
    copy = folded_copy(network)
    assert copy[0].weight is copy[1].weight
    assert torch.equal(copy[0].weight, first.weight)
    assert int(first.weight.count_nonzero()) == 4
    assert parametrize.is_parametrized(first, "weight")


def test_no_debris_of_the_exporting_machine(exported: Path) -> None:
    content = exported.read_bytes()
    for debris in ("stack_trace", "site-packages", "pkg.torch", str(Path(__file__).parent)):
        assert debris.encode() not in content


def test_metadata_travels_with_the_file(exported: Path) -> None:
    model = onnx.load(exported)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert entries == {"producer": "secateur", "preprocessing": '{"mean": [0.5]}', "model": "tiny"}
    assert model.producer_name == "secateur"


class NoOnnx(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svd(x.mean(1))[1]


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_an_operator_without_onnx_form_is_named_in_one_quiet_sentence_and_the_earlier_file_stays(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"earlier")
    with pytest.raises(ExportError, match=r"operator 'aten\._linalg_svd' has no ONNX form\.$") as caught:
        export_onnx(NoOnnx(), path, SIZE)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"earlier"]


def test_data_dependent_control_flow_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Branches cannot be exported") as caught:
        export_onnx(Branches(), tmp_path / "model.onnx", SIZE)
    assert "\n" not in str(caught.value)


def test_a_wrong_input_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"input size \(channels, height, width\)"):
        export_onnx(nn.Linear(2, 2), tmp_path / "model.onnx", (8, 8))
