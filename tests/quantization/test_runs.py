"""A model in ONNX Runtime with its inner values."""

import numpy as np
import onnx
import pytest

from float_networks import IMAGES, residual, run
from graph_tools import model_of, node
from secateur.errors import ModelError, QuantizationError
from secateur.quantization import runs
from secateur.quantization.runs import Runs, images_of, in_groups, integer_operators


def test_outputs_and_inner_values():
    found = Runs(residual(), ["x", "c2", "y"])(IMAGES)
    assert list(found) == ["y", "x", "c2"]
    np.testing.assert_array_equal(found["x"], IMAGES)
    np.testing.assert_allclose(found["y"], run(residual())[0], rtol=1e-5, atol=1e-6)
    assert found["c2"].shape == (12, 8, 8, 8)


@pytest.mark.parametrize("batch", [1, 5, 12, 20])
def test_a_fixed_batch_is_filled_up(batch):
    model = residual()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    found = Runs(model, ["c2"])(IMAGES)
    np.testing.assert_allclose(found["y"], run(residual())[0], rtol=1e-5, atol=1e-6)
    assert found["c2"].shape == (12, 8, 8, 8)


@pytest.mark.parametrize("held", [1, 10_000, 100_000_000])
def test_groups_hold_every_value_once(monkeypatch, held):
    monkeypatch.setattr(runs, "HELD_BYTES", held)
    watched = [("x",), ("r1", "c2"), ("r2",), ("p",)]
    groups, together = in_groups(residual(), watched, IMAGES[:1])
    assert sorted(index for group in groups for index in group) == [0, 1, 2, 3]
    sizes = [3 * 64 * 4, 2 * 8 * 64 * 4, 8 * 64 * 4, 8 * 4]
    largest = max(sum(sizes[index] for index in group) for group in groups)
    assert together == max(held // largest, 1)
    assert largest <= held or all(len(group) == 1 for group in groups)


def test_what_runtimes_compute_with():
    assert integer_operators(residual())["Gemm" if "Gemm" in integer_operators(residual()) else "FusedGemm"] == 1


def test_batches_of_any_kind():
    torch = pytest.importorskip("torch")
    given = [IMAGES[:2], (IMAGES[2:4], [0, 1]), torch.from_numpy(IMAGES[4:6]), [torch.from_numpy(IMAGES[6:8]), None]]
    np.testing.assert_array_equal(np.concatenate(list(images_of(given))), IMAGES[:8])


def test_several_inputs_are_refused():
    model = model_of([node("Add", "a b", "y")], {"a": ("n", 3), "b": ("n", 3)})
    with pytest.raises(ModelError, match="2 inputs"):
        Runs(model)


def test_what_cannot_be_loaded_or_run_is_said():
    broken = onnx.ModelProto()
    broken.CopyFrom(residual())
    broken.graph.node[0].op_type = "Convolute"
    with pytest.raises(QuantizationError, match="cannot load"):
        Runs(broken)
    with pytest.raises(QuantizationError, match="cannot run"):
        Runs(residual())(np.zeros((1, 4, 8, 8), np.float32))
