"""Plain text tables: columns line up, numbers stand to the right, nothing is cut off."""

from collections.abc import Sequence


def text_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, total: bool = False) -> str:
    """Rows under headers, columns two spaces apart.

    left      how many columns, counted from the first, stand to the left; the others stand to the right
    total     draw a line above the last row too
    """
    widths = [max([len(header), *(len(row[i]) for row in rows)]) for i, header in enumerate(headers)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    lines = [line(headers), rule, *(line(row) for row in rows)]
    if total and rows:
        lines.insert(-1, rule)
    return "\n".join(lines)


def dims(shape: Sequence[int]) -> str:
    """64×3×7×7; a scalar's empty shape is '-'."""
    return "×".join(str(side) for side in shape) or "-"


def percent(part: float, whole: float, digits: int = 2) -> str:
    """`part` of `whole` in percent; nothing of nothing is 0."""
    return f"{100.0 * part / whole if whole else 0.0:.{digits}f}"
