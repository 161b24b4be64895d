"""The error curves of a database as the sensitivity plot."""

import small_database as small
from secateur.report.sensitivity_chart import write_sensitivity_chart


def test_error_curves_of_a_database_are_drawn(tmp_path):
    table = small.database(tmp_path / "db").sensitivity("unstructured", images=16)
    write_sensitivity_chart(table, tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text()
    assert table.images == 16
    assert all(f">{layer}<" in drawn or f"<!-- {layer} -->" in drawn for layer in table.layers)
