"""Drawings that belong to the page: its colours, its font, unique ids, nothing from outside."""

from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure

from secateur.report.svg import COMPRESSED, INK, PALETTE, drawing, page_svg


def figure(label: str = "axis") -> Figure:
    figure = Figure(figsize=(3, 2), dpi=72, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [1, 0], color=COMPRESSED, marker="o")
    axes.bar([0, 1], [1, 2], color=INK)
    axes.set_xlabel(label)
    return figure


def svg(label: str = "axis", name: str = "c") -> str:
    with drawing():
        return page_svg(figure(label), name, "A title", "What it shows")


def test_is_well_formed_and_names_itself() -> None:
    root = ElementTree.fromstring(svg())
    assert root.get("role") == "img"
    assert root.get("viewBox") == "0 0 216 144"
    labels = (root.get("aria-labelledby") or "").split()
    texts = {child.get("id"): child.text for child in root if child.tag in ("title", "desc")}
    assert [texts[label] for label in labels] == ["A title", "What it shows"]


def test_has_no_style_no_stand_in_colour_and_no_address() -> None:
    text = svg()
    assert "style" not in text
    assert "http" not in text
    assert "var(--compressed)" in text
    assert not any(colour in text for colour in PALETTE)


def test_every_reference_meets_an_id_of_this_drawing() -> None:
    root = ElementTree.fromstring(svg(name="first"))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(str(name).startswith("first-") for name in ids)
    targets = [element.get("href", "") for element in root.iter("use")]
    targets += [element.get("clip-path", "").removeprefix("url(").removesuffix(")") for element in root.iter()]
    found = {target for target in targets if target}
    assert found
    assert {target.removeprefix("#") for target in found} <= set(ids)


def test_same_figure_same_bytes() -> None:
    assert svg() == svg()


def test_text_of_strangers_is_text() -> None:
    root = ElementTree.fromstring(svg("</text><script>x</script> $\\frac{1}{0}$ & 层"))
    texts = [element.text for element in root.iter("text")]
    assert "</text><script>x</script> $\\frac{1}{0}$ & 层" in texts
    assert not list(root.iter("script"))


def test_own_settings_of_the_user_neither_matter_nor_change() -> None:
    expected = svg()
    with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "red", "text.color": "blue"}):
        assert svg() == expected
        assert matplotlib.rcParams["font.size"] == 40


@pytest.mark.filterwarnings("error")
def test_missing_glyphs_are_no_warning() -> None:
    assert "🙂" in svg("🙂")
