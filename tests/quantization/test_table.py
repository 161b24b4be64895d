"""A table of scales comes back from its file as it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import ArtifactError, QuantizationError
from secateur.quantization.numbers import ACTIVATIONS, WEIGHTS, scale_of_range
from secateur.quantization.table import ScaleTable

SCALE = {"step": 1.0, "zero": 0, "axis": None, "bits": 8, "signed": False, "symmetric": False, "restricted": True}
sides = st.floats(-(2.0**100), 2.0**100, width=32)


@given(sides, sides, st.lists(st.floats(2**-100, 2.0**100, width=32), min_size=1, max_size=5))
def test_every_number_comes_back(a, b, channels):
    table = ScaleTable(
        {"x": scale_of_range(min(a, b), max(a, b), ACTIVATIONS)},
        {"w": scale_of_range(np.zeros(len(channels)), np.array(channels), WEIGHTS, 0)},
        {"softmax": "no integers"},
    )
    assert ScaleTable.from_dict(table.to_dict()) == table


def test_save_and_load(tmp_path):
    table = ScaleTable({"x": scale_of_range(-1 / 3, 0.1, ACTIVATIONS)})
    table.save(tmp_path / "scales.json")
    assert ScaleTable.load(tmp_path / "scales.json") == table


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"values": 1, "weights": {}, "floats": {}},
        {"values": {"x": {"step": 1.0}}, "weights": {}, "floats": {}},
        {
            "values": {"x": SCALE | {"step": 0.0}},
            "weights": {},
            "floats": {},
        },
    ],
)
def test_what_is_no_table_is_refused(data):
    with pytest.raises(QuantizationError):
        ScaleTable.from_dict(data)


def test_missing_file(tmp_path):
    with pytest.raises(ArtifactError):
        ScaleTable.load(tmp_path / "none.json")
