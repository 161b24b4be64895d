"""TensorFlow Lite files: written where the converter is installed, otherwise one sentence before anything is done."""

import importlib.util

import numpy as np
import pytest
import torch

import secateur
import tiny_networks
from secateur.errors import ExportError, RecipeError
from secateur.export.tflite import export_tflite, quantize_tflite, tflite_missing
from secateur.measure import Subject, runtimes

HERE = importlib.util.find_spec("litert_torch") is not None


@pytest.mark.skipif(HERE, reason="the converter is installed")
def test_without_the_converter_a_sentence_says_what_to_install(tmp_path):
    assert "pip install litert-torch" in tflite_missing()
    for write in (
        lambda: export_tflite(tiny_networks.network(), tmp_path / "m.tflite", (3, 16, 16)),
        lambda: quantize_tflite(tmp_path / "m.tflite", tmp_path / "n.tflite", []),
    ):
        with pytest.raises(ExportError, match="pip install litert-torch"):
            write()
    recipe = {
        "model": {"name": "tiny_networks:network"},
        "data": {"name": "tiny_networks:images"},
        "stages": [{"stage": "train"}, {"stage": "export", "tflite": True}],
    }
    with pytest.raises(RecipeError, match="pip install litert-torch"):
        secateur.compress(recipe=recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not HERE, reason="litert-torch is not installed")
def test_floats_and_integers_compute_the_network(tmp_path):
    torch.manual_seed(0)
    network = tiny_networks.network().eval()
    images = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32)
    plain = export_tflite(network, tmp_path / "m.tflite", (3, 16, 16))
    small = quantize_tflite(plain, tmp_path / "n.tflite", [images])
    assert small.stat().st_size < plain.stat().st_size
    wanted = network(torch.from_numpy(images[:1])).detach().numpy()
    for path, tolerance in ((plain, 1e-5), (small, 0.05)):
        found = runtimes["litert"]().load(Subject("m", tflite=path), 1, 1)(images[:1])
        assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()
