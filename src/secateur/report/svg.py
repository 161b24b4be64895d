"""A matplotlib figure as SVG inside a page: colours from the page's CSS, no styles of its own, nothing from outside.

The figure is drawn with the stand-in colours of PALETTE. In the SVG each becomes a CSS variable, so that one drawing
follows light and dark. Style attributes become presentation attributes, which the page's strict Content-Security-Policy
allows; text stays text in the page's own font; unused ids, metadata and XML namespaces are left out.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from secateur.report import escape

# Stand-in colour: CSS variable. Any distinct colours would do; none of them is ever seen.
PALETTE: dict[str, str] = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--line",
    "#040404": "--dense",
    "#050505": "--compressed",
    "#060606": "--expected",
    "#070707": "--surface",
}
INK, MUTED, LINE, DENSE, COMPRESSED, EXPECTED, SURFACE = PALETTE

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "secateur",
    "text.parse_math": False,
    "font.size": 11.5,
    "axes.titlesize": 12.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 10.0,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.labelcolor": MUTED,
    "legend.handlelength": 1.4,
}
_NAMESPACE = re.compile(r"^\{[^}]*\}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DECIMALS = re.compile(r"-?\d+\.\d+")


@contextmanager
def drawing() -> Iterator[None]:
    """The room in which charts are drawn: one style, untouched by the user's own matplotlib settings."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        # The page's font draws the text, so what matplotlib's own font lacks is of no concern.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def page_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `<svg>` element; `name` makes its ids unique on the page.

    Within `drawing()`. The same figure gives the same bytes. One unit of the figure's 72 per inch is one CSS pixel.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # The text comes from matplotlib, which escapes what it is given: no entity or DTD of a stranger is parsed here.
    root = ElementTree.fromstring(buffer.getvalue())
    _strip(root)
    used = {target for element in root.iter() for target in _targets(element)}
    for element in root.iter():
        _style_to_attributes(element)
        _rename(element, used, name)
        _shorten(element)
    width, height = root.get("viewBox", "0 0 0 0").split()[2:]
    root.attrib = {
        "class": "chart-drawing",
        "viewBox": f"0 0 {width} {height}",
        "width": width,
        "height": height,
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-description",
    }
    for index, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = ElementTree.Element(tag, id=f"{name}-{'title' if tag == 'title' else 'description'}")
        child.text = escape.clean(text)
        root.insert(index, child)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _strip(parent: ElementTree.Element) -> None:
    parent.tag = _NAMESPACE.sub("", parent.tag)
    parent.attrib = {_NAMESPACE.sub("", key): value for key, value in parent.attrib.items()}
    if parent.tag != "text":
        parent.text = None
    for child in list(parent):
        child.tail = None
        if _NAMESPACE.sub("", child.tag) in ("metadata", "style"):
            parent.remove(child)
        else:
            _strip(child)


def _targets(element: ElementTree.Element) -> list[str]:
    link = element.get("href", "")
    return [link[1:]] * link.startswith("#") + _REFERENCE.findall(element.get("clip-path", ""))


def _style_to_attributes(element: ElementTree.Element) -> None:
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key and not key.startswith("font-family"):
            variable = PALETTE.get(value.lower())
            element.set(key, f"var({variable})" if variable else value)


def _rename(element: ElementTree.Element, used: set[str], name: str) -> None:
    identity = element.attrib.pop("id", None)
    if identity in used:
        element.set("id", f"{name}-{identity}")
    if "href" in element.attrib:
        element.set("href", f"#{name}-{element.attrib['href'][1:]}")
    if "clip-path" in element.attrib:
        element.set("clip-path", _REFERENCE.sub(rf"url(#{name}-\1)", element.attrib["clip-path"]))


def _shorten(element: ElementTree.Element) -> None:
    """A hundredth of a pixel is enough."""
    for key in ("d", "x", "y", "width", "height", "transform"):
        if key in element.attrib:
            text = _DECIMALS.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), element.attrib[key])
            element.set(key, " ".join(text.split()))
