"""Ranges chosen together: never worse than where they start, and no more trials than allowed."""

import numpy as np
import pytest

from float_networks import IMAGES, batches, residual, run
from secateur.errors import QuantizationError
from secateur.quantization.calibrate import observe
from secateur.quantization.lapq import POWERS, joint_ranges
from secateur.quantization.numbers import Numbers
from secateur.quantization.points import points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.qdq import write_qdq
from secateur.quantization.settings import Settings

PLAIN = prepared(residual())
POINTS = points_of(PLAIN)
SEEN = observe(PLAIN, batches(), POINTS)


def search(bits=4, labels=None, trials=60, images=IMAGES):
    settings = Settings(activations=Numbers(bits))
    return joint_ranges(PLAIN, POINTS, SEEN, lambda node, kind: settings, images, labels, trials=trials)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_the_loss_falls(bits):
    done = search(bits)
    plain, start, found = done.losses
    assert found <= start
    assert found <= plain * 1.001
    assert min(POWERS) <= done.power <= max(POWERS)
    assert done.trials <= 60


def test_the_loss_is_that_of_the_file():
    done = search(4)
    found, expected = (run(model, optimized=False)[0] for model in (write_qdq(PLAIN, done.table), PLAIN))
    # The file's biases are integers, those of the trials are not.
    assert np.square(found - expected).mean() == pytest.approx(done.losses[2], rel=0.25)


def test_labels():
    labels = run(PLAIN)[0].argmax(axis=1).astype(np.int64)
    done = search(2, labels)
    assert done.losses[2] <= min(done.losses[:2])


def test_the_same_twice():
    assert search(4).table == search(4).table


def test_shared_scales_stay_shared():
    values = search(4).table.values
    assert values["p"] == values["f"]
    assert set(values) == {name for group in POINTS.groups for name in group.values}


@pytest.mark.parametrize("options", [{"trials": 3}, {"images": IMAGES[:0]}])
def test_impossible_searches(options):
    with pytest.raises(QuantizationError, match="trials"):
        search(**options)
