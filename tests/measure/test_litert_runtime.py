"""TensorFlow Lite files in LiteRT: layouts, numbers, batches, and sentences for what is no such file."""

import numpy as np
import pytest

from secateur.errors import MeasureError
from secateur.inference import benchmark as bench
from secateur.measure import Failure, RunError, Subject, benchmark, runtimes
from secateur.measure.litert_runtime import image_shape
from tflite_files import CLASSES, SHAPE, STEP, ZERO, tflite_file, weights

pytest.importorskip("ai_edge_litert")


@pytest.fixture
def images():
    return np.random.default_rng(1).standard_normal((3, *SHAPE)).astype(np.float32)


def by_hand(images):
    return images.mean((2, 3)) @ weights().T


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_float_file_computes_the_network(tmp_path, images, batch, threads):
    run = runtimes["litert"]().load(Subject("tiny", tflite=tflite_file(tmp_path / "m.tflite")), threads, batch)
    first = run(images[:batch])
    assert first.shape == (batch, CLASSES)
    np.testing.assert_allclose(first, by_hand(images[:batch]), rtol=1e-4, atol=1e-5)
    run(-images[:batch])
    np.testing.assert_allclose(first, by_hand(images[:batch]), rtol=1e-4, atol=1e-5)


def test_a_file_of_integers_gets_integers(tmp_path, images):
    file = tflite_file(tmp_path / "m.tflite", integers=True)
    run = runtimes["litert"]().load(Subject("tiny", tflite=file), 1, 1)
    rounded = (np.clip(np.rint(images[:1] / STEP) + ZERO, -128, 127) - ZERO) * STEP
    np.testing.assert_allclose(run(images[:1]), by_hand(rounded), rtol=1e-4, atol=1e-5)


def test_the_shape_of_images_is_told_channels_first(tmp_path):
    assert image_shape(tflite_file(tmp_path / "m.tflite")) == SHAPE


def test_what_is_no_such_file_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "broken.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\xff" * 3)
    (tmp_path / "text.tflite").write_text("hello")
    for subject in (
        Subject("x"),
        Subject("x", onnx=tmp_path / "text.tflite"),
        Subject("x", tflite=tmp_path / "nothing.tflite"),
        Subject("x", tflite=tmp_path / "text.tflite"),
        Subject("x", tflite=tmp_path / "broken.tflite"),
    ):
        with pytest.raises(RunError) as caught:
            runtimes["litert"]().load(subject, 1, 1)
        assert caught.value.category is Failure.NOT_SUPPORTED and "\n" not in str(caught.value)


def test_wrong_images_are_one_sentence(tmp_path):
    run = runtimes["litert"]().load(Subject("tiny", tflite=tflite_file(tmp_path / "m.tflite")), 1, 1)
    with pytest.raises(RunError) as caught:
        run(np.zeros((1, 4, 8, 8), np.float32))
    assert caught.value.category is Failure.CRASHED


def test_a_benchmark_takes_a_file_and_times_it_where_it_can_be_read(tmp_path):
    result = bench(tflite_file(tmp_path / "m.tflite"), threads=[1], repeats=2, warmup=1)
    assert [row.runtime for row in result.rows] == ["litert"] and result.rows[0].timing is not None
    assert result.input_shape == SHAPE and result.rows[0].peak_memory is not None


def test_runtimes_without_a_form_they_read_are_left_out_unless_asked_for(tmp_path):
    subject = Subject("m", tflite=tflite_file(tmp_path / "m.tflite"))
    result = benchmark([subject], runtime_names=["onnxruntime", "litert"], threads=[1], input_shape=SHAPE, repeats=1,
                       warmup=0, memory=False)  # fmt: skip
    assert [row.failure is None for row in result.rows] == [False, True]
    assert "needs an ONNX file" in result.rows[0].failure.message
    with pytest.raises(MeasureError, match="no runtime"):
        benchmark([Subject("nothing")], threads=[1], input_shape=SHAPE, repeats=1)
