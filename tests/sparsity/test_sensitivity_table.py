"""The sensitivity table: costs, the printed and the written forms, damaged files."""

import csv
import io
import json

import pytest

from secateur.errors import ArtifactError, SparsityError
from secateur.sparsity import SensitivityRow, SensitivityTable


def table(measure="top1"):
    dense = SensitivityRow("", 0.0, 0.0, 70.0, 90.0, 1.0, 0.0)
    rows = (
        SensitivityRow("a", 0.0, 0.1, 70.0, 90.0, 1.0, 0.0),
        SensitivityRow("a", 0.5, 0.5, 71.0, 89.5, 1.1, 0.01),
        SensitivityRow("a", 0.9, 0.9, 60.0, 80.0, 2.0, 0.3),
        SensitivityRow("=b", 0.0, 0.0, 70.0, 90.0, 1.0, 0.0),
        SensitivityRow("=b", 0.5, 0.5, 65.0, 85.0, 1.5, 0.2),
        SensitivityRow("=b", 0.9, 0.9, 10.0, 30.0, 5.0, 0.9),
    )
    return SensitivityTable(measure, "1x4", "magnitude", 100, dense, rows, {"c": "too small"})


@pytest.mark.parametrize(
    ("measure", "costs"),
    [
        ("top1", {0.0: 0.0, 0.5: 0.0, 0.9: 10.0}),
        ("top5", {0.0: 0.0, 0.5: 0.5, 0.9: 10.0}),
        ("loss", {0.0: 0.0, 0.5: 0.1, 0.9: 1.0}),
        ("output_error", {0.0: 0.0, 0.5: 0.01, 0.9: 0.3}),
    ],
)
def test_a_cost_is_what_got_worse_and_never_below_zero(measure, costs):
    assert table(measure).costs("a") == pytest.approx(costs)
    with pytest.raises(SparsityError, match="unknown layer of the sensitivity table 'x'"):
        table().costs("x")


def test_the_most_sensitive_layer_is_printed_first():
    lines = str(table()).splitlines()
    assert lines[0].split() == ["layer", "50", "%", "90", "%"]
    order = [line.split()[0] for line in lines if line.split()[0] in ("a", "=b")]
    assert order == ["=b", "a"] and "60.00" in str(table())
    assert lines[-1].startswith("points of top-1 lost when one layer alone is pruned (1x4, magnitude); 100 images")


def test_csv_has_every_row_and_no_cell_that_a_spreadsheet_computes():
    rows = list(csv.DictReader(io.StringIO(table().to_csv())))
    assert len(rows) == 7 and rows[2]["top1"] == "71.0" and rows[0]["layer"] == "dense"
    assert not any(row["layer"].startswith("=") for row in rows)


def test_the_table_comes_back_from_json(tmp_path):
    path = tmp_path / "sensitivity.json"
    path.write_text(json.dumps(table().to_dict()))
    assert SensitivityTable.read(path) == table()


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 9},
        {"measure": "top2"},
        {"rows": [{}]},
        {"rows": 3},
        {"dense": None},
        {"skipped": []},
        {"rows": [{**table().to_dict()["rows"][0], "top1": None}]},
        {"rows": [{**table().to_dict()["rows"][0], "level": 2.0}]},
        {"rows": [{**table().to_dict()["rows"][0], "output_error": "x"}]},
    ],
)
def test_a_damaged_table_is_a_sentence(tmp_path, damage):
    path = tmp_path / "sensitivity.json"
    path.write_text(json.dumps(table().to_dict() | damage))
    with pytest.raises(ArtifactError, match=r"sensitivity\.json: this is not a sensitivity table"):
        SensitivityTable.read(path)
