"""History: a round trip through JSON that loses nothing, and a table."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import TrainingError
from secateur.training.history import History, Row, finite

number = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | number
rows = st.builds(Row, st.integers(0, 999), number, number, number, maybe, maybe, maybe, number, number)


@given(st.lists(rows, max_size=4))
def test_round_trip_through_json(found):
    history = History(tuple(found))
    assert History.from_dict(json.loads(json.dumps(history.to_dict(), allow_nan=False))) == history
    assert len(history) == len(found)


@pytest.mark.parametrize(
    "damaged", [{}, {"rows": 3}, {"rows": [{}]}, {"rows": [[1]]}, {"rows": [dict.fromkeys(Row.__annotations__, "x")]}]
)
def test_something_else_is_a_sentence(damaged):
    with pytest.raises(TrainingError, match="this is not a training history"):
        History.from_dict(damaged)


def test_table():
    history = History(
        (Row(0, 0.1, 1.5, 40.0, None, None, None, 0.0, 3.0), Row(1, 0.01, 1.0, 60.0, 55.5, 90.25, 1.25, 0.8, 2.0))
    )
    lines = str(history).splitlines()
    assert lines[1].split() == ["0", "0.1", "1.5000", "40.00", "-", "-", "-", "0.0000", "3.0"]
    assert lines[2].split() == ["1", "0.01", "1.0000", "60.00", "55.50", "90.25", "1.2500", "0.8000", "2.0"]
    assert len({len(line) for line in lines[:-1]}) == 1, "columns are aligned"
    assert lines[-1].startswith("sparsity: zeros among")


def test_last():
    row = Row(0, 0.1, 1.5, 40.0, None, None, None, 0.0, 3.0)
    assert History((row,)).last is row
    with pytest.raises(TrainingError, match="0 epochs has no last epoch"):
        _ = History().last


def test_what_is_not_finite_becomes_nothing():
    assert finite(1.5) == 1.5
    assert finite(math.inf) is None and finite(math.nan) is None
