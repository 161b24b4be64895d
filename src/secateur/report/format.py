"""Numbers as a person reads them: `format_value(0.7998, "fraction", 1)` is `80.0`, `1.3e6` bytes are `1.3 MB`.

A format is a name, so that a column of a table is plain data; FORMATS maps it to the function that writes the number.
"""

from collections.abc import Callable

# What a cell of a table may hold; a tuple is a shape.
Value = str | int | float | bool | tuple[int, ...] | None

MISSING = "–"
MINUS = "−"
# A number and its unit stay on one line.
NO_BREAK = "\u00a0"
_THOUSANDS = ("", "k", "M", "G", "T", "P")


def format_value(value: Value, form: str = "text", digits: int = 2) -> str:
    """`value` as text; a value that is absent is a dash.

    text        as it is                                integer     12,345
    decimal     12.35 (`digits` behind the point)       times       4.98×
    fraction    a share of 1 written in percent: 80.0   tiny        1.2e-06
    count       40.8 M (three digits)                   bytes       1.09 MB (decimal prefixes)
    shape       64×3×3×3
    """
    if value is None:
        return MISSING
    return FORMATS[form](value, digits)


def percent(value: float, digits: int = 2) -> str:
    """A value in percent with its sign: `91.73 %`, held together by a no-break space."""
    return f"{_round(value, digits)}{NO_BREAK}%"


def share(fraction: float, digits: int = 1) -> str:
    """A fraction of 1 in percent: `80.0 %`."""
    return percent(100 * fraction, digits)


def bytes_text(size: float) -> str:
    """A size in decimal units, three digits: `1.09 MB`, `812 B`."""
    return _scaled(size, "B")


def count_text(number: float) -> str:
    """A count in three digits: `40.8 M`; below ten thousand exactly: `9,408`."""
    return f"{number:,.0f}" if abs(number) < 10_000 else _scaled(number, "")


def duration(seconds: float) -> str:
    """Time a person plans with: `0.4 s`, `47 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f}{NO_BREAK}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NO_BREAK}s"
    if whole < 3600:
        return f"{whole // 60}{NO_BREAK}min {whole % 60}{NO_BREAK}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{NO_BREAK}h {minutes % 60}{NO_BREAK}min"


def _round(value: float, digits: int) -> str:
    # z: a drop of -0.001 points is none, so there is no "-0.00".
    return f"{value:z,.{digits}f}".replace("-", MINUS)


def _scaled(value: float, unit: str) -> str:
    step = 0
    # 999.5 would be written 1000 in three digits and belongs to the next prefix.
    while abs(value) >= 999.5 and step < len(_THOUSANDS) - 1:
        value /= 1000
        step += 1
    number = f"{value:#.3g}".rstrip(".") if step else f"{value:.0f}"
    return f"{number}{NO_BREAK}{_THOUSANDS[step]}{unit}".rstrip(NO_BREAK)


def _text(value: Value, _digits: int) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _shape(value, 0) if isinstance(value, tuple) else str(value)


def _shape(value: Value, _digits: int) -> str:
    return "×".join(str(side) for side in value) if isinstance(value, tuple) else str(value)


def _number(write: Callable[[float, int], str]) -> Callable[[Value, int], str]:
    def form(value: Value, digits: int) -> str:
        return write(value, digits) if isinstance(value, int | float) else str(value)

    return form


FORMATS: dict[str, Callable[[Value, int], str]] = {
    "text": _text,
    "integer": _number(lambda value, _: f"{value:,.0f}"),
    "decimal": _number(_round),
    "fraction": _number(lambda value, digits: _round(100 * value, digits)),
    "times": _number(lambda value, digits: f"{_round(value, digits)}×"),
    "tiny": _number(lambda value, _: f"{value:.2g}"),
    "count": _number(lambda value, _: count_text(value)),
    "bytes": _number(lambda value, _: bytes_text(value)),
    "shape": _shape,
}
