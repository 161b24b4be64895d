"""Top-1 and top-5 against a sort, in any chunking."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import MeasureError
from secateur.measure import accuracy_of
from secateur.measure.accuracy import label_rank


def _logits_as_images(logits: np.ndarray) -> np.ndarray:
    return logits.astype(np.float32)[:, :, None, None]


def _identity(images: np.ndarray) -> np.ndarray:
    return images[:, :, 0, 0]


def test_by_hand() -> None:
    logits = np.array([[3, 2, 1, 0, -1, -2], [0, 1, 2, 3, 4, 5], [0, 0, 9, 0, 0, 0]])
    found = accuracy_of(_identity, [(_logits_as_images(logits), np.array([0, 0, 4]))])
    # Ranks: 0; 5, just outside the five best; 4, because of equal logits the lower class numbers come first.
    assert (found.top1, found.top5, found.images) == (pytest.approx(100 / 3), pytest.approx(200 / 3), 3)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 40), batch=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_chunks_and_filling_change_nothing(seed: int, count: int, batch: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.integers(0, 6, (count, 8)).astype(np.float32)  # many ties
    labels = random.integers(0, 8, count)
    seen = []

    def run(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return _identity(images)

    found = accuracy_of(run, [(_logits_as_images(logits), labels)], batch)
    assert set(seen) == {batch}
    order = np.argsort(-logits, axis=1, kind="stable")
    rank = np.argmax(order == labels[:, None], axis=1)
    assert np.array_equal(label_rank(logits, labels), rank)
    assert found.top1 == pytest.approx(100 * np.mean(rank == 0))
    assert found.top5 == pytest.approx(100 * np.mean(rank < 5))


@pytest.mark.parametrize(
    ("run", "labels", "match"),
    [
        (lambda x: x[:, :, 0, 0] * np.nan, [0, 1], "not numbers"),
        (lambda x: x[:1, :, 0, 0], [0, 1], "expected"),
        (_identity, [0, 7], "labels up to 7 do not fit a network of 3 classes"),
    ],
)
def test_outputs_that_are_no_answer(run, labels: list[int], match: str) -> None:
    with pytest.raises(MeasureError, match=match):
        accuracy_of(run, [(np.zeros((2, 3, 1, 1), np.float32), np.array(labels))])


def test_no_images() -> None:
    with pytest.raises(MeasureError, match="without images"):
        accuracy_of(_identity, [])
