"""The check must pass what is equal and fail what is not."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from secateur.errors import ExportError
from secateur.export import check_onnx
from secateur.export.onnx_file import folded_copy

SIZE = (3, 8, 8)
IMAGES = np.random.default_rng(0).standard_normal((6, *SIZE), dtype=np.float32)


def _damage(path: Path, name: str, factor: float) -> None:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, path)


def test_figures_of_an_equal_file(sparse_residual: nn.Module, exported: Path) -> None:
    check = check_onnx(sparse_residual, exported, [IMAGES])
    with torch.inference_mode():
        scale = float(folded_copy(sparse_residual)(torch.from_numpy(IMAGES)).abs().max())
    assert check.passed
    assert check.max_rel_error == pytest.approx(check.max_abs_error / scale, rel=1e-6)
    assert check.to_dict()["images"] == 6


def test_pairs_of_images_and_labels_are_taken_too(sparse_residual: nn.Module, exported: Path) -> None:
    pairs = [(torch.from_numpy(IMAGES), torch.zeros(6))]
    assert check_onnx(sparse_residual, exported, pairs) == check_onnx(sparse_residual, exported, [IMAGES])


@pytest.mark.parametrize("factor", [1.01, 0.0, float("nan")])
def test_another_function_fails(sparse_residual: nn.Module, exported: Path, tmp_path: Path, factor: float) -> None:
    path = tmp_path / "damaged.onnx"
    shutil.copy(exported, path)
    _damage(path, "fc.weight", factor)
    with pytest.raises(ExportError, match="NOT the same function"):
        check_onnx(sparse_residual, path, [IMAGES])


def test_without_images_nothing_is_proven(sparse_residual: nn.Module, exported: Path) -> None:
    with pytest.raises(ExportError, match="without images"):
        check_onnx(sparse_residual, exported, [])


def test_a_file_that_is_not_onnx_is_one_sentence(sparse_residual: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ExportError, match="ONNX Runtime cannot load it") as caught:
        check_onnx(sparse_residual, path, [IMAGES])
    assert "\n" not in str(caught.value)


def test_images_of_another_size_are_one_sentence(sparse_residual: nn.Module, exported: Path) -> None:
    with pytest.raises(ExportError, match="ONNX Runtime cannot run it"):
        check_onnx(sparse_residual, exported, [np.zeros((1, 3, 10, 10), np.float32)])
