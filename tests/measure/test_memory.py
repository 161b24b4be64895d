"""Peak memory from a process of its own: a known amount, and every way the process can die."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from secateur.errors import MeasureError
from secateur.measure import Failure, RunError, Runner, Subject, peak_memory, runtimes

SHAPE = (3, 8, 8)
MEGABYTES = 64


class _Odd:
    """A runtime that does what the subject's name says; this file is imported by the measuring process."""

    name = "odd"
    uses_zeros = "no: it has none."

    def available(self) -> str | None:
        return None

    def version(self) -> str:
        return "1"

    def load(self, subject: Subject, threads: int, batch: int) -> Runner:
        if subject.name == "refuse":
            raise RunError(Failure.NOT_SUPPORTED, "it refuses.")
        if subject.name == "error":
            raise MeasureError("it fails.")
        if subject.name == "die":
            os._exit(3)
        if subject.name == "sleep":
            time.sleep(60)
        held = np.ones(MEGABYTES * 2**20 // 8) if subject.name == "hold" else np.ones(1)
        return lambda images: images * held[0]


runtimes.setdefault("odd", _Odd)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measuring process imports the module that registered the runtime; this one is not on its path."""
    folder = str(Path(__file__).parent)
    monkeypatch.setattr(_Odd, "__module__", "test_memory")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]))


def test_a_known_amount_is_found() -> None:
    held = peak_memory("odd", Subject("hold"), SHAPE)
    nothing = peak_memory("odd", Subject("nothing"), SHAPE)
    assert held - nothing == pytest.approx(MEGABYTES * 2**20, rel=0.05)
    assert nothing < 4 * 2**20


def test_a_real_runtime(make_network: Callable[..., Path]) -> None:
    peak = peak_memory("onnxruntime", Subject("tiny", onnx=make_network()), SHAPE, threads=1, batch=2)
    assert 2**16 < peak < 2**28


@pytest.mark.parametrize(
    ("subject", "category"),
    [("refuse", Failure.NOT_SUPPORTED), ("error", Failure.CRASHED), ("die", Failure.CRASHED)],
)
def test_failures_have_their_category(subject: str, category: Failure) -> None:
    with pytest.raises(RunError) as caught:
        peak_memory("odd", Subject(subject), SHAPE)
    assert caught.value.category is category
    assert "\n" not in str(caught.value)


def test_a_process_that_does_not_end_is_ended() -> None:
    with pytest.raises(RunError) as caught:
        peak_memory("odd", Subject("sleep"), SHAPE, timeout=2.0)
    assert caught.value.category is Failure.TIME_LIMIT
