"""Per-layer times: fused layers are found under their own names, and the arithmetic is by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from secateur.graph import Census, LayerCount
from secateur.measure import RunError
from secateur.measure.layers import PROFILERS, LayerTime, layer_times, onnxruntime_times, secateur_times


def test_a_layer_that_fused_with_its_activation_keeps_its_name(
    make_network: Callable[..., Path], images: np.ndarray
) -> None:
    times = onnxruntime_times(make_network(), images, runs=3, warmup=1)
    assert {"conv", "fc"} <= set(times)
    assert not any(name.startswith("act") for name in times), "ONNX Runtime calls the fused layer after the activation"
    assert all(time >= 0 for time in times.values())


@pytest.mark.parametrize("runtime", PROFILERS)
def test_layers_of_two_files_side_by_side(runtime: str, make_network: Callable[..., Path], images: np.ndarray) -> None:
    dense, compressed = make_network("a.onnx"), make_network("b.onnx", seed=1)
    layers = (
        LayerCount("conv", "conv", (8, 3, 3, 3), 1, (), (), 64, 216, 54),
        LayerCount("fc", "linear", (6, 8), 1, (), (), 1, 48, 0),
        LayerCount("elsewhere", "linear", (6, 8), 1, (), (), 1, 48, 48),
    )
    found = layer_times(runtime, dense, compressed, images, Census(layers, (3, 8, 8), 312), runs=3)
    conv, fc, elsewhere = found.layers
    assert conv.expected == 4.0
    assert conv.dense_ms
    assert conv.compressed_ms
    assert conv.achieved == conv.dense_ms / conv.compressed_ms
    assert fc.expected is None, "nothing is left of it"
    assert (elsewhere.dense_ms, elsewhere.achieved, elsewhere.expected) == (None, None, 1.0)
    assert 0 < (conv.share or 0) + (fc.share or 0) <= 100
    assert (found.batch, found.threads) == (5, 1)
    assert found.runtime == runtime
    assert "conv" in str(found) and f"in {runtime}, batch 5, 1 thread" in str(found)
    assert found.to_dict()["layers"][0]["name"] == "conv"


def test_percent_of_expected() -> None:
    assert LayerTime("a", 20.0, 5.0, 1.0, expected=5.0, achieved=4.0).percent_of_expected == pytest.approx(80.0)
    assert LayerTime("a", 20.0, None, None, expected=5.0).percent_of_expected is None


@pytest.mark.parametrize("runtime", PROFILERS)
def test_a_file_that_does_not_run(runtime: str, make_network: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(RunError):
        PROFILERS[runtime](make_network(), np.zeros((1, 4, 8, 8), np.float32))
    with pytest.raises(RunError):
        PROFILERS[runtime](tmp_path / "nothing.onnx", np.zeros((1, 3, 8, 8), np.float32))


def test_the_engine_names_layers_as_the_file_does(make_network: Callable[..., Path], images: np.ndarray) -> None:
    times = secateur_times(make_network(), images, runs=3)
    assert {"conv", "fc"} <= set(times)
    assert all(time >= 0 for time in times.values())
