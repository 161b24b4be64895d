"""A benchmark always has all its rows: a figure, or a category and a sentence."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from secateur.errors import ArtifactError, MeasureError, RecipeError
from secateur.measure import BenchmarkResult, Failure, RunError, Runner, Subject, benchmark, runtimes


class _Scripted:
    """A runtime that runs, or fails where its name says."""

    uses_zeros = "yes: there are none."

    def __init__(self, name: str) -> None:
        self.name = name

    def available(self) -> str | None:
        return "scripted is not installed." if self.name == "missing" else None

    def version(self) -> str:
        return "0.1"

    def load(self, subject: Subject, threads: int, batch: int) -> Runner:
        if self.name == "unsupported":
            raise RunError(Failure.NOT_SUPPORTED, "no such operator.")
        calls = [0]

        def run(images: np.ndarray) -> np.ndarray:
            calls[0] += 1
            assert images.shape[0] == batch
            if self.name == "crashing" or (self.name == "late" and calls[0] > 6):
                raise ValueError("bad\nthings")
            logits = np.zeros((len(images), 6), np.float32)
            logits[:, 2] = np.nan if self.name == "nan" else 1.0
            return logits

        return run


@pytest.fixture(autouse=True)
def scripted() -> Iterator[None]:
    names = ("good", "missing", "unsupported", "crashing", "late", "nan")
    for name in names:
        runtimes[name] = lambda name=name: _Scripted(name)  # type: ignore[assignment]
    yield
    for name in names:
        del runtimes[name]


def _data(images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(images, np.array([2, 2, 2, 0, 0]))]


def test_every_row_has_a_figure_or_a_reason(images: np.ndarray) -> None:
    names = ("good", "missing", "unsupported", "crashing", "late", "nan")
    subjects = [Subject("dense"), Subject("compressed")]
    result = benchmark(
        subjects, runtime_names=names, batches=(1, 3), threads=(1,), data=_data(images), repeats=8, warmup=2,
        memory=False,
    )  # fmt: skip
    assert len(result.rows) == 2 * 6 * 2
    categories = {
        "missing": Failure.MISSING,
        "unsupported": Failure.NOT_SUPPORTED,
        "crashing": Failure.CRASHED,
        "late": Failure.CRASHED,
        "nan": Failure.ACCURACY,
    }
    for row in result.rows:
        if row.runtime == "good":
            assert row.failure is None
            assert row.accuracy is not None
            assert (row.accuracy.top1, row.accuracy.images) == (60.0, 5)
        else:
            assert row.failure is not None
            assert row.failure.category is categories[row.runtime]
            assert "\n" not in row.failure.message
        assert (row.timing is not None) == (row.runtime in ("good", "nan"))
        assert row.timing is None or row.timing.runs == 8
    assert result.settings() == ((1, 1), (3, 1))
    assert BenchmarkResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert "did not" not in str(result)
    assert "accuracy unusable" in str(result)


def test_real_runtimes_agree_on_the_same_images(make_network: Callable[..., Path], images: np.ndarray) -> None:
    path = make_network()
    names = tuple(name for name in ("onnxruntime", "openvino") if runtimes[name]().available() is None)
    subjects = [Subject("dense", onnx=path), Subject("compressed", onnx=path)]
    result = benchmark(
        subjects, runtime_names=names, threads=(1, 2), data=_data(images), repeats=5, warmup=2, memory=False
    )
    assert all(row.timing and row.failure is None for row in result.rows)
    assert len({row.accuracy for row in result.rows}) == 1
    assert result.input_shape == (3, 8, 8)
    row = result.row("dense", "onnxruntime", 1, 2)
    assert row is not None
    assert row.version


def test_memory_is_part_of_a_row(make_network: Callable[..., Path]) -> None:
    subject = Subject("dense", onnx=make_network())
    result = benchmark(
        [subject], runtime_names=("onnxruntime",), threads=(1,), input_shape=(3, 8, 8), repeats=3, warmup=1
    )
    (row,) = result.rows
    assert row.peak_memory is not None
    assert row.peak_memory > 0
    assert row.accuracy is None


def test_what_cannot_be_measured_at_all() -> None:
    with pytest.raises(MeasureError, match="needs a network"):
        benchmark([], runtime_names=("good",))
    with pytest.raises(MeasureError, match="at least 1"):
        benchmark([Subject("a")], runtime_names=("good",), batches=(0,))
    with pytest.raises(MeasureError, match="needs time"):
        benchmark([Subject("a")], runtime_names=("good",), max_seconds=-1)
    with pytest.raises(MeasureError, match="different names"):
        benchmark([Subject("a"), Subject("a")], runtime_names=("good",))
    with pytest.raises(RecipeError, match="unknown runtime"):
        benchmark([Subject("a")], runtime_names=("god",))


def test_a_damaged_result_is_one_sentence() -> None:
    for value in ({}, {"rows": 3}, {"rows": [{}], "machine": {}, "input_shape": []}):
        with pytest.raises(ArtifactError, match="not a benchmark result"):
            BenchmarkResult.from_dict(value)
