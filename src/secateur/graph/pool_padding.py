"""The padding of a Pool that its averages count."""

from collections.abc import Mapping
from typing import Any

Pads = tuple[int, int, int, int]


def counted_pads(attributes: Mapping[str, Any]) -> Pads:
    """Of a Pool's or QPool's padding (top, left, bottom, right), the part that counts as elements.

    None where count_include_pad is not set; otherwise all but the rows and columns, `uncounted`, that ceil_mode adds
    behind: windows end there, and the sum over what is left is divided by how much is left.
    """
    if not attributes["count_include_pad"]:
        return (0, 0, 0, 0)
    top, left, bottom, right = attributes["pads"]
    rows, columns = attributes.get("uncounted", (0, 0))
    return (top, left, bottom - rows, right - columns)
