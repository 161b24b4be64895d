"""Steps and zero points are those of numbers.scale_of_range, bit for bit."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.quantization.numbers import scale_of_range
from secateur.quantization.training.ranges import extremes, numbers_of, step_and_zero

FINITE = st.floats(-(2.0**120), 2.0**120, width=32)


@given(FINITE, FINITE, st.sampled_from(["sym", "sym_full", "asym_u", "asym_s"]), st.integers(2, 8))
def test_same_as_for_arrays(first, second, mode, bits):
    low, high = sorted((first, second))
    numbers = numbers_of(mode, bits)
    step, zero = step_and_zero(torch.tensor(low), torch.tensor(high), numbers)
    wanted = scale_of_range(low, high, numbers)
    assert step.dtype == torch.float32 and step.numpy() == wanted.step and zero.numpy() == wanted.zero


def test_known_values():
    """ALGORITHMS.md L10: the range -1..2 in 8 bits."""
    low, high = torch.tensor(-1.0), torch.tensor(2.0)
    assert [float(x) for x in step_and_zero(low, high, numbers_of("asym_u", 8))] == [np.float32(3 / 255), 85]
    assert float(step_and_zero(low, high, numbers_of("sym", 8))[0]) == np.float32(2 / 127)
    assert float(step_and_zero(low, high, numbers_of("sym_full", 8))[0]) == np.float32(2 / 127.5)
    assert [float(x) for x in step_and_zero(torch.zeros(()), torch.zeros(()), numbers_of("asym_s", 8))] == [1, -128]


def test_extremes():
    x = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    assert [float(e) for e in extremes(x, per_channel=False)] == [-2, 3]
    assert [e.tolist() for e in extremes(x, per_channel=True)] == [[[-2], [0.5]], [[1], [3]]]
