"""Numbers as a person reads them, against values written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.report.format import FORMATS, bytes_text, count_text, duration, format_value, percent, share


@pytest.mark.parametrize(
    ("value", "form", "digits", "text"),
    [
        (None, "decimal", 2, "–"),
        (91.734, "decimal", 2, "91.73"),
        (-0.71, "decimal", 2, "−0.71"),
        (-0.001, "decimal", 2, "0.00"),
        (12345.678, "decimal", 1, "12,345.7"),
        (0.79982, "fraction", 1, "80.0"),
        (4.9757, "times", 2, "4.98×"),
        (3.1e-06, "tiny", 2, "3.1e-06"),
        (12345, "integer", 2, "12,345"),
        ((64, 3, 3, 3), "shape", 2, "64×3×3×3"),
        (True, "text", 2, "yes"),
        ("conv1", "text", 2, "conv1"),
    ],
)
def test_each_format(value: object, form: str, digits: int, text: str) -> None:
    assert format_value(value, form, digits) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (1_088_312, "1.09 MB"),
        (25_276_510_208, "25.3 GB"),
    ],
)
def test_bytes_have_three_digits_and_the_right_prefix(size: int, text: str) -> None:
    assert bytes_text(size).replace("\u00a0", " ") == text


def test_small_counts_are_exact_and_large_ones_are_short() -> None:
    assert count_text(9408) == "9,408"
    assert count_text(40_551_040) == "40.6\u00a0M"


def test_percent_and_share_mean_what_they_say() -> None:
    assert percent(91.734) == "91.73\u00a0%"
    assert share(0.8) == "80.0\u00a0%"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (725, "12 min 5 s"), (3600, "1 h 0 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds).replace("\u00a0", " ") == text


@given(st.floats(min_value=1, max_value=1e15))
def test_a_scaled_size_is_within_half_a_percent(size: float) -> None:
    number, unit = bytes_text(size).split("\u00a0")
    factor = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}[unit]
    assert abs(float(number) * factor - size) <= max(0.0051 * size, 0.5)
    assert len(number.replace(".", "")) <= 3


def test_every_format_writes_an_integer_and_a_float() -> None:
    for form in FORMATS:
        assert format_value(3, form)
        assert format_value(0.25, form)
