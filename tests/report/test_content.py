"""Closed forms of the derived numbers."""

import math

import pytest

from secateur.report.content import Accuracy, AccuracyChange, FileSize, Layer, runtime_title


def test_standard_error_is_that_of_a_binomial() -> None:
    assert Accuracy(50.0, 100.0, 1.0, 10_000).standard_error == pytest.approx(0.5)
    assert Accuracy(90.0, 100.0, 1.0, 900).standard_error == pytest.approx(1.0)
    assert Accuracy(100.0, 100.0, 0.0, 10).standard_error == 0.0


def test_drop_in_points_and_its_error() -> None:
    change = AccuracyChange(Accuracy(91.73, 99.7, 0.3, 10_000), Accuracy(91.02, 99.6, 0.3, 10_000))
    assert change.drop == pytest.approx(0.71)
    p, q = 0.9173, 0.9102
    assert change.drop_error == pytest.approx(100 * math.sqrt((p * (1 - p) + q * (1 - q)) / 10_000))


def test_half_a_change_has_no_drop() -> None:
    change = AccuracyChange(None, Accuracy(91.02, 99.6, 0.3, 10_000))
    assert change.drop is None
    assert change.drop_error is None


def test_layer_sparsity_and_promise() -> None:
    layer = Layer("l", "conv", (4, 4, 1, 1), 16, 4, 1600, 400)
    assert layer.sparsity == 0.75
    assert layer.expected_speedup == 4.0
    assert Layer("l", "conv", (4,), 4, 0, 400, 0).expected_speedup is None
    assert Layer("l", "conv", (0,), 0, 0, 0, 0).sparsity == 0.0


def test_file_ratio_is_dense_by_compressed() -> None:
    assert FileSize("w", 1000, 250).ratio == 4.0
    assert FileSize("w", None, 250).ratio is None
    assert FileSize("w", 1000, 0).ratio is None


def test_runtimes_are_called_by_their_own_names() -> None:
    assert runtime_title("onnxruntime") == "ONNX Runtime"
    assert runtime_title("something-new") == "something-new"
