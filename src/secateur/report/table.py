"""One table, written as HTML, Markdown, CSV, reStructuredText or plain text.

table = Table("sizes", "Sizes", (Column("file", "File"), Column("bytes", "Size", "bytes")), (("model.onnx", 1087),))
print(table)                # aligned columns for a terminal
table.to_csv()              # raw numbers: file,bytes / model.onnx,1087
"""

import csv
import io
import unicodedata
from dataclasses import dataclass

from secateur.report import escape
from secateur.report.format import Value, format_value

Row = tuple[Value, ...]

_LEFT_FORMATS = ("text", "shape")
# Longer text is broken into lines on the page.
_LONG = 36


@dataclass(frozen=True)
class Column:
    """A column: `key` heads it in CSV, `title` and `unit` elsewhere; `form` is a name of report.format.FORMATS.

    quiet    a column of secondary interest: the page writes it paler
    """

    key: str
    title: str
    form: str = "text"
    unit: str = ""
    digits: int = 2
    quiet: bool = False

    @property
    def heading(self) -> str:
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def left(self) -> bool:
        """Text stands left, numbers stand right."""
        return self.form in _LEFT_FORMATS

    def show(self, value: Value) -> str:
        return escape.clean(format_value(value, self.form, self.digits))


@dataclass(frozen=True)
class Table:
    """Rows under columns; `total` is a last row that sorting leaves in place, `note` a sentence below the table.

    name     file name without its ending, and the id on the page
    raises   ValueError  when a row has not one value for each column
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""
    total: Row | None = None

    def __post_init__(self) -> None:
        for row in self.all_rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table '{self.name}': a row of {len(row)} values for {len(self.columns)} columns")

    @property
    def all_rows(self) -> tuple[Row, ...]:
        return (*self.rows, self.total) if self.total is not None else self.rows

    def shown(self, row: Row) -> list[str]:
        return [column.show(value) for column, value in zip(self.columns, row, strict=True)]

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """Aligned columns for a terminal, the title above and the note below."""
        lines = [[escape.clean(column.heading) for column in self.columns], *map(self.shown, self.all_rows)]
        widths = [max(map(_width, cells)) for cells in zip(*lines, strict=True)]
        text = [self._aligned(line, widths) for line in lines]
        rule = "  ".join("-" * width for width in widths)
        body = [text[0], rule, *text[1:]]
        if self.total is not None:
            body.insert(len(body) - 1, rule)
        note = [escape.clean(self.note)] if self.note else []
        return "\n".join([escape.clean(self.title), *body, *note])

    def _aligned(self, cells: list[str], widths: list[int]) -> str:
        padded = []
        for cell, width, column in zip(cells, widths, self.columns, strict=True):
            space = " " * (width - _width(cell))
            padded.append(cell + space if column.left else space + cell)
        return "  ".join(padded).rstrip()

    def to_html(self) -> str:
        """A `<table>` labelled by the title; cells carry the raw number for sorting."""
        head = "".join(
            f'<th scope="col"{_classes(column)}>{escape.html(column.heading)}</th>' for column in self.columns
        )
        body = "".join(f"<tr>{self._html_cells(row)}</tr>\n" for row in self.rows)
        foot = f"<tfoot><tr>{self._html_cells(self.total)}</tr></tfoot>\n" if self.total is not None else ""
        return (
            f'<table id="table-{escape.html(self.name)}" aria-label="{escape.html(self.title)}">\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n{foot}</table>"
        )

    def _html_cells(self, row: Row) -> str:
        cells = []
        for index, (column, value, text) in enumerate(zip(self.columns, row, self.shown(row), strict=True)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            raw = f' data-value="{value!r}"' if number else ""
            tag = 'th scope="row"' if index == 0 else "td"
            classes = _classes(column, len(text) > _LONG)
            cells.append(f"<{tag}{classes}{raw}>{escape.html(text)}</{tag.split()[0]}>")
        return "".join(cells)

    def to_markdown(self) -> str:
        """A GitHub table, without the title; the note follows as a paragraph."""
        head = _pipes([escape.markdown(column.heading) for column in self.columns])
        rule = _pipes([":--" if column.left else "--:" for column in self.columns])
        rows = [_pipes([escape.markdown(cell) for cell in self.shown(row)]) for row in self.all_rows]
        note = ["", escape.markdown(self.note)] if self.note else []
        return "\n".join([head, rule, *rows, *note])

    def to_csv(self) -> str:
        """Raw numbers under the columns' keys, lines ended by CR LF; what is absent is empty, a shape is 64x3x3x3.

        A text that a spreadsheet would take for a formula gets an apostrophe in front.
        """
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow([column.key for column in self.columns])
        writer.writerows([_raw(value) for value in row] for row in self.all_rows)
        return buffer.getvalue()

    def to_rst(self) -> str:
        """A `list-table` directive; the note follows as a paragraph."""
        lines = [f".. list-table:: {escape.rst(self.title)}", "   :header-rows: 1", ""]
        for cells in ([column.heading for column in self.columns], *map(self.shown, self.all_rows)):
            for index, cell in enumerate(cells):
                lines.append(f"   {'*' if index == 0 else ' '} - {escape.rst(cell)}".rstrip())
        if self.note:
            lines += ["", escape.rst(self.note)]
        return "\n".join(lines) + "\n"


def _raw(value: Value) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return "x".join(str(side) for side in value)
    if isinstance(value, str | bool):
        return escape.csv(str(value))
    return value


def _pipes(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _classes(column: Column, long: bool = False) -> str:
    names = ["text" if column.left else "num", *(["quiet"] if column.quiet else []), *(["long"] if long else [])]
    return f' class="{" ".join(names)}"'


def _width(text: str) -> int:
    """Terminal cells: wide East Asian characters take two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
