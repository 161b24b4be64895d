"""Hostile text made harmless, for each format, and readable text left readable."""

import html
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from secateur.report import escape

ANY_TEXT = st.text(st.characters(codec=None), max_size=60)


@given(ANY_TEXT)
def test_clean_text_is_one_visible_line_that_utf8_can_encode(text: str) -> None:
    cleaned = escape.clean(text)
    assert len(cleaned) == len(text)
    assert len(cleaned.splitlines()) <= 1
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in cleaned)
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned


def test_clean_leaves_readable_text_alone() -> None:
    assert escape.clean("layer1.0.conv1 × 层") == "layer1.0.conv1 × 层"


def test_clean_disarms_terminals_and_direction_tricks() -> None:
    assert escape.clean("\x1b[31mred\x07") == "\ufffd[31mred\ufffd"
    assert escape.clean("\u202egnp.exe") == "\ufffdgnp.exe"


@given(ANY_TEXT)
def test_html_reads_back_and_opens_nothing(text: str) -> None:
    escaped = escape.html(text)
    assert not set("<>\"'") & set(escaped)
    assert html.unescape(escaped) == escape.clean(text)


def test_markdown_cells_neither_split_nor_open_anything() -> None:
    assert escape.markdown("a|b\nc") == "a\\|b c"
    assert escape.markdown("<script>") == "&lt;script&gt;"
    assert escape.markdown("[x](http://y) `z`") == "\\[x\\](http://y) \\`z\\`"


@given(ANY_TEXT)
def test_markdown_leaves_no_bare_pipe_or_tag(text: str) -> None:
    escaped = escape.markdown(text)
    assert "<" not in escaped
    bare = escaped.replace("\\\\", "").replace("\\|", "")
    assert "|" not in bare


def test_rst_blocks_and_inline_markup_are_disarmed() -> None:
    assert escape.rst(".. raw:: html") == "\\ .. raw\\:\\: html"
    assert escape.rst("- item") == "\\ - item"
    assert escape.rst("1. item") == "\\ 1. item"
    assert escape.rst("*a* `b`_ |c|") == "\\ \\*a\\* \\`b\\`\\_ \\|c\\|"
    assert escape.rst("layer1.0.conv1") == "layer1.0.conv1"


def test_csv_formulas_become_text() -> None:
    for formula in ("=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1"):
        assert escape.csv(formula).startswith("'")
    assert escape.csv("conv1") == "conv1"
