"""When a whole network goes to ONNX Runtime: the verdict by numbers, and what a session does with it."""

import numpy as np
import pytest

from engine.networks import classifier, images, reference
from secateur.engine import plan
from secateur.engine.delegate import Race, race
from secateur.engine.session import compile_onnx


def test_clearly_slower_here_is_delegated_with_the_reason() -> None:
    verdict = Race((2.0, 2.0, 2.0), (1.0, 1.0, 1.0)).verdict()
    assert "2.00 times as fast there" in verdict and "here 2000.00 ms" in verdict


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0)),
        ((1.04, 1.04, 1.04), (1.0, 1.0, 1.0)),  # inside the margin
        ((2.0, 2.0, 1.0), (1.0, 1.0, 1.0)),  # undisturbed they are equal
        ((1.0, 1.0, 3.0), (1.0, 1.0, 1.0)),  # one slow turn
    ],
)
def test_otherwise_the_network_stays(here: tuple[float, ...], there: tuple[float, ...]) -> None:
    assert Race(here, there).verdict() == ""


def test_a_race_calls_both_in_turns() -> None:
    calls: list[str] = []
    found = race(lambda: calls.append("here"), lambda: calls.append("there"))
    assert calls.count("here") == calls.count("there") == len(found.here) + 2
    pairs = list(zip(calls[4::2], calls[5::2], strict=True))
    assert {frozenset(pair) for pair in pairs} == {frozenset(("here", "there"))}
    assert len(set(pairs)) == 2, "who is first changes"


def test_a_delegated_session_says_so_and_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "race", lambda here, there: Race((2.0,) * 3, (1.0,) * 3))
    proto = classifier()
    session = compile_onnx(proto, threads=1, tune=True)
    assert "The whole network runs in ONNX Runtime: it was 2.00 times as fast there" in str(session.report())
    x = images(3)
    np.testing.assert_allclose(session.run(x)["logits"], reference(proto, {"input": x})[0], rtol=1e-5, atol=1e-6)
    profile = session.profile(x, rounds=2)
    assert set(profile.others) == {"ONNX Runtime"} and profile.total > 0


@pytest.mark.parametrize("options", [{}, {"tune": True, "primitive": "gemm"}, {"tune": True, "format": "dense"}])
def test_only_tuning_without_other_wishes_asks(monkeypatch: pytest.MonkeyPatch, options: dict) -> None:
    def not_asked(here: object, there: object) -> Race:
        raise AssertionError("nobody asked for a race")

    monkeypatch.setattr(plan, "race", not_asked)
    assert compile_onnx(classifier(), threads=1, **options).report().delegated == ""
