"""The page: one HTML file that asks nothing of the network and runs no script but its own.

The Content-Security-Policy allows exactly the style sheet and the script written here, by their hashes; everything
that came from a run is escaped by Jinja2 or by report.escape.
"""

import base64
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from secateur.report import escape
from secateur.report.content import Content
from secateur.report.headline import cards, latency_cards, summary, verdicts
from secateur.report.sections import Section
from secateur.report.table import Table


def render_html(content: Content, sections: tuple[Section, ...], version: str) -> str:
    """The whole page as text; the same content gives the same bytes. `version` is that of Secateur."""
    css, js = _resource("report.css"), _resource("report.js")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=content.title,
            summary=summary(content),
            verdicts=verdicts(content),
            cards=cards(content),
            latency_cards=latency_cards(content),
            sections=sections,
            finished=content.finished,
            started=content.started,
            version=version,
            css=Markup(css),
            js=Markup(js),
            policy=_policy(css, js),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("secateur.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["tabled"] = _tabled
    environment.filters["drawn"] = Markup
    environment.filters["verbatim"] = _verbatim
    return environment


def _clean(value: Any) -> Any:
    """Every value written into the page loses what has no picture; markup of our own stays as it is."""
    return escape.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _tabled(table: Table) -> Markup:
    return Markup(table.to_html())


def _verbatim(text: str) -> Markup:
    """Escaped text that keeps its lines."""
    return Markup("\n".join(escape.html(line) for line in text.splitlines()))


def _policy(css: str, js: str) -> str:
    return (
        f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(js)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _resource(name: str) -> str:
    return (resources.files("secateur.report") / "templates" / name).read_text(encoding="utf-8")
