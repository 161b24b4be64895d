"""Two files in every runtime: figures by hand, labels or none, failures as rows."""

import numpy as np
import pytest

from secateur.errors import ArtifactError, MeasureError
from secateur.measure import SIMULATED, Comparison, Failure, RunError, Subject, compare_runtimes, runtimes

RUNTIMES = ("onnxruntime", "secateur")


@pytest.fixture
def pair(make_network):
    return Subject("float", make_network("a.onnx")), Subject("int8", make_network("b.onnx", seed=3))


def batches_of(images, labels=None):
    return [(images[:3], None if labels is None else labels[:3]), (images[3:], None if labels is None else labels[3:])]


def test_figures_are_those_by_hand(pair, images, numpy_logits):
    wanted, got = (numpy_logits(subject.onnx, images) for subject in pair)
    labels = got.argmax(1)
    labels[0] = (labels[0] + 1) % 6
    found = compare_runtimes(*pair, batches_of(images, labels), runtime_names=RUNTIMES, threads=1)
    assert [(row.subject, row.runtime) for row in found.rows] == [
        *[("float", name) for name in RUNTIMES], *[("int8", name) for name in RUNTIMES], ("int8", SIMULATED),
    ]  # fmt: skip
    same = 100 * np.mean(wanted.argmax(1) == got.argmax(1))
    difference = 100 * np.abs(wanted - got).max(1).mean() / np.abs(wanted).max()
    for row in found.rows:
        assert row.failure is None and row.images == 5
        assert row.same_class == pytest.approx(100 if row.subject == "float" else same)
        assert row.difference == pytest.approx(0 if row.subject == "float" else difference, abs=1e-3)
    top1 = 100 * np.mean(got.argmax(1) == labels)
    assert top1 == 80
    assert all(row.accuracy.top1 == top1 and row.accuracy.images == 5 for row in found.rows if row.subject == "int8")
    assert Comparison.from_dict(found.to_dict()) == found
    assert "80.00" in str(found)


def test_without_labels_there_is_no_accuracy(pair, images):
    found = compare_runtimes(*pair, batches_of(images), runtime_names=RUNTIMES, threads=1)
    assert all(row.accuracy is None and row.same_class is not None for row in found.rows)
    assert Comparison.from_dict(found.to_dict()) == found


def test_a_fixed_batch_is_fed_as_it_wants(make_network, images, numpy_logits):
    file = make_network(batch=2)
    found = compare_runtimes(
        Subject("a", file), Subject("b", file), batches_of(images), runtime_names=RUNTIMES, batch=2
    )
    assert all(row.same_class == 100 for row in found.rows)


def test_what_fails_is_a_row_with_its_reason(pair, images):
    class Lame:
        name, uses_zeros = "lame", "no."

        def load(self, subject, threads, batch):
            if subject.name == "float":
                raise RunError(Failure.NOT_SUPPORTED, "no such operator.")
            return lambda images: np.full((len(images), 6), np.nan, np.float32)

    runtimes["lame"] = Lame
    try:
        found = compare_runtimes(*pair, batches_of(images), runtime_names=("lame",), threads=1)
    finally:
        del runtimes["lame"]
    first, second, simulated = found.rows
    assert first.failure.category is Failure.NOT_SUPPORTED and first.same_class is None
    assert second.failure.category is Failure.ACCURACY
    assert simulated.failure is None
    assert Comparison.from_dict(found.to_dict()) == found and "no such operator" in str(found)


def test_no_images_and_damage_are_told(pair):
    with pytest.raises(MeasureError, match="without images"):
        compare_runtimes(*pair, [], runtime_names=RUNTIMES)
    with pytest.raises(ArtifactError, match="no comparison"):
        Comparison.from_dict({"rows": [{"subject": 1}]})
