"""One table in five formats; what is read back is what was put in."""

import csv
import io
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.report import Column, Table

SIZES = Table(
    "sizes",
    "Sizes",
    (Column("file", "File"), Column("bytes", "Size", "bytes"), Column("sparsity", "Zeros", "fraction", "%", 1)),
    (("model.onnx", 1_087_000, 0.8), ("weights", None, None)),
    note="Bytes on disk.",
    total=("total", 1_087_000, None),
)
HOSTILE_TEXT = st.text(st.characters(codec=None), min_size=1, max_size=40)


class Cells(HTMLParser):
    """Rows of cell texts, and every tag seen."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.values: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.values += [value for key, value in attrs if key == "data-value"]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip("\n")


def one_cell(text: str) -> Table:
    return Table(
        "t", text, (Column("k", text), Column("n", "n", "integer")), ((text, 7),), note=text if text.strip() else "note"
    )


def test_rows_must_fit_the_columns() -> None:
    with pytest.raises(ValueError, match="a row of 1 values for 2 columns"):
        Table("t", "T", (Column("a", "A"), Column("b", "B")), (("x",),))


def test_text_lines_up() -> None:
    assert str(SIZES).replace("\u00a0", " ").splitlines() == [
        "Sizes",
        "File           Size  Zeros, %",
        "----------  -------  --------",
        "model.onnx  1.09 MB      80.0",
        "weights           –         –",
        "----------  -------  --------",
        "total       1.09 MB         –",
        "Bytes on disk.",
    ]


def test_wide_characters_count_as_two_in_a_terminal() -> None:
    lines = Table("t", "T", (Column("a", "A"), Column("b", "B")), (("层", "x"), ("ab", "y"))).to_text().splitlines()
    assert lines[3] == "层  x"
    assert lines[4] == "ab  y"


def test_html_keeps_raw_numbers_for_sorting_and_the_total_in_the_foot() -> None:
    cells = Cells()
    cells.feed(SIZES.to_html())
    assert [[text.replace("\u00a0", " ") for text in row] for row in cells.rows] == [
        ["File", "Size", "Zeros, %"],
        ["model.onnx", "1.09 MB", "80.0"],
        ["weights", "–", "–"],
        ["total", "1.09 MB", "–"],
    ]
    assert cells.values == ["1087000", "0.8", "1087000"]
    assert SIZES.to_html().index("<tfoot>") > SIZES.to_html().index("</tbody>")


def test_markdown_is_a_github_table() -> None:
    assert SIZES.to_markdown().replace("\u00a0", " ").splitlines() == [
        "| File | Size | Zeros, % |",
        "| :-- | --: | --: |",
        "| model.onnx | 1.09 MB | 80.0 |",
        "| weights | – | – |",
        "| total | 1.09 MB | – |",
        "",
        "Bytes on disk.",
    ]


def test_csv_holds_raw_numbers_under_keys() -> None:
    rows = list(csv.DictReader(io.StringIO(SIZES.to_csv())))
    assert rows[0] == {"file": "model.onnx", "bytes": "1087000", "sparsity": "0.8"}
    assert rows[1] == {"file": "weights", "bytes": "", "sparsity": ""}


def test_csv_writes_shapes_and_floats_exactly() -> None:
    table = Table("t", "T", (Column("s", "S", "shape"), Column("x", "X", "decimal")), (((64, 3, 3), 0.1 + 0.2),))
    assert table.to_csv() == "s,x\r\n64x3x3,0.30000000000000004\r\n"


@settings(max_examples=200, deadline=None)
@given(HOSTILE_TEXT)
def test_hostile_text_stays_one_cell_in_html(text: str) -> None:
    cells = Cells()
    cells.feed(one_cell(text).to_html())
    assert cells.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert [len(row) for row in cells.rows] == [2, 2]
    assert cells.rows[1][1] == "7"


@settings(max_examples=200, deadline=None)
@given(HOSTILE_TEXT)
def test_hostile_text_stays_one_cell_in_csv_and_is_no_formula(text: str) -> None:
    rows = list(csv.reader(io.StringIO(one_cell(text).to_csv(), newline="")))
    assert [len(row) for row in rows] == [2, 2]
    assert rows[1][1] == "7"
    assert not rows[1][0].lstrip().startswith(("=", "+", "-", "@"))


@settings(max_examples=200, deadline=None)
@given(HOSTILE_TEXT)
def test_hostile_text_stays_one_line_in_markdown_text_and_rst(text: str) -> None:
    table = one_cell(text)
    assert len(table.to_markdown().splitlines()) == 5
    assert len(table.to_text().splitlines()) == 5
    # title, option, blank, two cells for each of two rows, blank, note
    assert len(table.to_rst().splitlines()) == 9


@settings(max_examples=100, deadline=None)
@given(HOSTILE_TEXT)
def test_rst_is_read_by_docutils_without_a_warning(text: str) -> None:
    core = pytest.importorskip("docutils.core", reason="needs docutils to read reStructuredText")
    utils = pytest.importorskip("docutils.utils")
    nodes = pytest.importorskip("docutils.nodes")
    try:
        tree = core.publish_doctree(
            one_cell(text).to_rst(), settings_overrides={"report_level": 1, "halt_level": 1, "warning_stream": False}
        )
    except utils.SystemMessage as message:
        pytest.fail(f"{text!r}: {message}")
    entries = [entry.astext() for entry in tree.findall(nodes.entry)]
    assert entries[3] == "7"
    assert len(entries) == 4
    assert not list(tree.findall(nodes.reference))
