r"""Names of models, layers and files come from strangers: text made harmless for each format it is written into.

clean       one line of visible characters: a terminal obeys no escape sequence, UTF-8 can encode it
html        & < > " '                    markdown    as entities or with a backslash
rst         with backslashes             csv         no cell that a spreadsheet takes for a formula
"""

import html as _html
import re
import unicodedata

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]|~#$!])")
_RST_SPECIAL = re.compile(r"([\\`*_|:<>])")
# What could open a list, a directive, a transition or a table, if it stood first in a block.
_RST_OPENS_BLOCK = re.compile(r"^(?:\W|\w+[.)](?:\s|$))")
_FORMULA_OPENERS = ("=", "+", "-", "@")


def clean(text: str) -> str:
    """`text` on one line: white space becomes a space, what has no picture U+FFFD."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character.isspace():
        return "\u00a0" if character == "\u00a0" else " "
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Cn") else character


def html(text: str) -> str:
    """`text` for an element's content or a quoted attribute."""
    return _html.escape(clean(text), quote=True)


def markdown(text: str) -> str:
    """`text` for a paragraph or a table cell of GitHub's Markdown."""
    text = _MARKDOWN_SPECIAL.sub(r"\\\1", clean(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").strip()


def rst(text: str) -> str:
    """`text` for a paragraph or a table cell of reStructuredText."""
    text = _RST_SPECIAL.sub(r"\\\1", clean(text).strip())
    # A backslash before a space is nothing, and nothing opens a block behind it.
    return f"\\ {text}" if _RST_OPENS_BLOCK.match(text) else text


def csv(text: str) -> str:
    """`text` for a CSV cell: an apostrophe goes before what a spreadsheet would compute."""
    text = clean(text)
    return f"'{text}" if text.lstrip().startswith(_FORMULA_OPENERS) else text
