"""How the work of a step is cut into units, so that all threads have some and none is too small."""

from secateur.engine.layout import ALIGN, next_multiple
from secateur.engine.lowering.context import Context

UNITS_PER_THREAD = 4
# Elements that are not worth a unit of their own.
_LEAST_PART = 1024


def parts_of(context: Context, planes: int, length: int, multiple: int = ALIGN) -> tuple[int, int]:
    """Elements per unit, and units per plane or row of `length` elements.

    multiple    what a kernel takes at once; units are whole multiples, but for the last of a plane
    """
    wanted = -(-UNITS_PER_THREAD * context.threads // planes)
    part = next_multiple(max(-(-length // wanted), _LEAST_PART), multiple)
    return part, -(-length // part)


def parts_of_rows(context: Context, planes: int, h: int) -> tuple[int, int]:
    """Rows per unit, and units per plane of `h` rows."""
    wanted = -(-UNITS_PER_THREAD * context.threads // planes)
    rows = -(-h // min(wanted, h))
    return rows, -(-h // rows)
