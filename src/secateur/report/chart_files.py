"""Charts as files of their own: one style, the same bytes for the same figures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from secateur.files import atomic_path

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "secateur",
    "legend.frameon": False,
}

_NO_DATE: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def write_chart(draw: Callable[[], Figure], paths: Sequence[Path]) -> None:
    """Draw a chart into files whose ending says the kind: .png, .svg, .pdf. raises DiskError."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        for path in paths:
            kind = path.suffix.removeprefix(".")
            metadata = _NO_DATE.get(kind)
            with atomic_path(path) as temporary:
                # Drawn anew: a figure that was saved once has another layout, and other ids in an SVG.
                draw().savefig(temporary, format=kind, dpi=150, metadata=metadata)
