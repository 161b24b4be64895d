"""Which networks a path means: of a run folder, a file of either kind."""

import pytest

from secateur.errors import RecipeError
from secateur.measure import subjects_of


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(folder):
    return [subject.name for subject in subjects_of(folder)]


def test_files_are_themselves(tmp_path):
    assert subjects_of(tmp_path / "m.onnx")[0].onnx == tmp_path / "m.onnx"
    lite = subjects_of(tmp_path / "m.tflite")[0]
    assert lite.tflite == tmp_path / "m.tflite" and lite.onnx is None


def test_a_run_that_pruned_and_quantized_has_three_networks(tmp_path):
    touch(tmp_path, "model.onnx", "dense/model.onnx", "model.int8.onnx", "model.int8.tflite")
    assert names(tmp_path) == ["dense", "compressed", "int8"]
    found = {subject.name: subject for subject in subjects_of(tmp_path)}
    assert found["int8"].tflite == tmp_path / "model.int8.tflite" and found["int8"].artifact is None
    assert found["compressed"].tflite is None and found["compressed"].artifact == tmp_path


def test_a_run_that_only_quantized_compares_with_its_float_network(tmp_path):
    touch(tmp_path, "model.onnx", "model.int8.onnx", "model.fp16.onnx")
    assert names(tmp_path) == ["dense", "int8", "fp16"]


def test_a_run_without_either_has_its_network(tmp_path):
    touch(tmp_path, "model.onnx")
    assert names(tmp_path) == ["compressed"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="export"):
        subjects_of(tmp_path / "empty")
