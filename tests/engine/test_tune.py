"""Timed choices: every candidate computes the layer, results are kept, damaged results are timed again."""

import json
from pathlib import Path

import numpy as np
import pytest

from secateur.engine.choice import Choice
from secateur.engine.choose import ByPrediction
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.target import host_target
from secateur.engine.tune import ByTiming, time_choices
from secateur.engine.tuning_cache import TuningCache
from secateur.engine.weights.pattern import detect

SHAPE = ConvShape(1, 16, 9, 9, 16, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 9, 9)


@pytest.fixture
def weight() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((16, 16, 3, 3)) * (rng.random((16, 16, 3, 3)) < 0.1)).astype(np.float32)


def test_every_candidate_is_timed(weight: np.ndarray) -> None:
    choices = [Choice("dense", "direct", 4, 2), Choice("rows", "direct", 4, 2), Choice("panel", "gemm", 2, 2)]
    timed = time_choices(host_target(), 1, SHAPE, weight, choices)
    assert [choice for choice, _ in timed] == choices
    assert all(0 < seconds < 1 for _, seconds in timed)


def test_results_are_kept_and_reused(weight: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = detect(weight)
    first = ByTiming(ByPrediction(host_target()), 1, TuningCache(tmp_path))("layer", SHAPE, weight, pattern)
    assert first.candidates
    assert first.choice in [choice for choice, _ in first.candidates]
    assert any(choice.format == "dense" for choice, _ in first.candidates), "the dense rival is always timed"

    def never(*arguments: object) -> None:
        raise AssertionError("timed although the result is known")

    monkeypatch.setattr("secateur.engine.tune.time_choices", never)
    again = ByTiming(ByPrediction(host_target()), 1, TuningCache(tmp_path))("layer", SHAPE, weight, pattern)
    assert again == first


@pytest.mark.parametrize(
    "content", ["", "[]", '{"seconds": [1]}', '{"seconds": "x"}', '{"seconds": [NaN, 1, 1, 1, 1, 1, 1]}', "\x00\xff"]
)
def test_a_damaged_result_is_timed_again(content: str, weight: np.ndarray, tmp_path: Path) -> None:
    choices = [Choice("dense", "direct", 4, 2), Choice("rows", "direct", 4, 2)]
    cache = TuningCache(tmp_path)
    key = cache.key(host_target(), 1, SHAPE, detect(weight), choices)
    (tmp_path / f"{key}.json").write_text(content)
    assert cache.get(key, choices) is None
    cache.put(key, [(choice, 0.5) for choice in choices])
    assert json.loads((tmp_path / f"{key}.json").read_text()) == {"seconds": [0.5, 0.5]}
    assert TuningCache(tmp_path).get(key, choices) == [(choice, 0.5) for choice in choices]


def test_the_key_depends_on_everything(weight: np.ndarray) -> None:
    target, pattern, choices = host_target(), detect(weight), [Choice("dense", "direct", 4, 2)]
    cache = TuningCache()
    keys = {
        cache.key(target, 1, SHAPE, pattern, choices),
        cache.key(target, 2, SHAPE, pattern, choices),
        cache.key(target, 1, SHAPE, detect(np.ones_like(weight)), choices),
        cache.key(target, 1, SHAPE, pattern, [Choice("dense", "direct", 4, 3)]),
    }
    assert len(keys) == 4
