"""Plain tables line up."""

from secateur.graph.table import dims, percent, text_table


def test_columns_line_up_and_nothing_is_cut():
    text = text_table(("name", "n"), [("a", "1"), ("a long name", "1,000"), ("total", "1,001")], total=True)
    assert text.splitlines() == [
        "name             n",
        "-----------  -----",
        "a                1",
        "a long name  1,000",
        "-----------  -----",
        "total        1,001",
    ]


def test_small_helpers():
    assert dims((64, 3, 7, 7)) == "64×3×7×7" and dims(()) == "-"
    assert percent(1, 3) == "33.33" and percent(0, 0) == "0.00"
