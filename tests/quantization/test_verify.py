"""The proof tells a good file from a broken one."""

import numpy as np
import onnx
import pytest

from float_networks import IMAGES, batches, residual, run
from secateur.errors import QuantizationError
from secateur.quantization.quantize import quantize_model
from secateur.quantization.verify import best_of, verify

DONE = quantize_model(residual(), batches())


def test_figures_are_those_of_the_outputs():
    expected, found = run(DONE.float_model)[0], run(DONE.model)[0]
    report = verify(DONE.float_model, DONE.model, batches())
    assert report.max_abs == pytest.approx(np.abs(found - expected).max(), rel=1e-3)
    assert report.mean_abs == pytest.approx(np.abs(found - expected).mean(), rel=1e-3)
    assert report.agreement == pytest.approx(100 * (found.argmax(1) == expected.argmax(1)).mean())
    assert report.images == len(IMAGES)
    assert (report.pairs, report.told) == (6, 12)
    assert report.operators["QLinearConv"] == 2
    assert report.bytes == DONE.model.ByteSize()


def test_a_file_is_itself():
    report = verify(DONE.float_model, DONE.float_model, batches())
    assert (report.max_abs, report.agreement, report.pairs) == (0.0, 100.0, 0)


def test_a_broken_file_is_seen():
    broken = onnx.ModelProto()
    broken.CopyFrom(DONE.model)
    for tensor in broken.graph.initializer:
        if tensor.name == "w1.quantized":
            array = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(-array, tensor.name))
    assert verify(DONE.float_model, broken, batches()).max_abs > 3 * DONE.report.max_abs


def test_outputs_that_are_no_numbers():
    broken = onnx.ModelProto()
    broken.CopyFrom(DONE.float_model)
    for tensor in broken.graph.initializer:
        if tensor.name == "b3":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(5, np.nan, np.float32), tensor.name))
    with pytest.raises(QuantizationError, match="finite"):
        verify(DONE.float_model, broken, batches())


def test_no_images():
    with pytest.raises(QuantizationError, match="without images"):
        verify(DONE.float_model, DONE.model, list)


def test_a_sentence_for_people():
    assert "4 operators compute with integers" in str(DONE.report) or "5 operators" in str(DONE.report)


def test_the_first_of_equal_outputs():
    assert best_of(np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 1.0]])).tolist() == [1, 0]
