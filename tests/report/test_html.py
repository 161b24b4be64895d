"""The page as text: well-formed, self-contained, its policy fitting, hostile names harmless."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from secateur.report import write_report

VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Checks that tags are balanced; collects attributes, ids, headings and the text of style and script."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value) for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def values(self, key: str) -> list[str]:
        return [value or "" for _, name, value in self.attributes if name == key]


def parse(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def text(written: Path) -> str:
    return (written / "report.html").read_text(encoding="utf-8")


def test_is_well_formed_with_unique_ids_and_links_that_lead_somewhere(text: str) -> None:
    page = parse(text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    inside = [value.removeprefix("#") for value in page.values("href") if value.startswith("#")]
    assert len(inside) > 7
    assert set(inside) <= set(ids)
    labels = {name for value in page.values("aria-labelledby") for name in value.split()}
    assert labels <= set(ids)


def test_asks_for_nothing_outside_itself(text: str) -> None:
    page = parse(text)
    assert not page.values("src")
    assert all(value.startswith(("#", "data:,")) for value in page.values("href"))
    assert "http" not in text.replace("http-equiv", "")
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_policy_fits_style_and_script_and_nothing_else(text: str) -> None:
    page = parse(text)
    policy = next(value or "" for tag, key, value in page.attributes if (tag, key) == ("meta", "content"))
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        assert len(page.texts[tag]) == 1
        digest = base64.b64encode(hashlib.sha256(page.texts[tag][0].encode()).digest()).decode()
        assert rules[rule] == [f"'sha256-{digest}'"]
    assert not page.values("style")
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]


def test_has_one_title_and_headings_without_gaps(text: str) -> None:
    parse(text)
    levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", text)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_shows_command_and_recipe_word_for_word(text: str) -> None:
    assert "secateur compress resnet20_cifar10 --data cifar10" in text
    assert "name: resnet20_cifar10\n" in text


def test_hostile_names_are_text(hostile: Path) -> None:
    text = (hostile / "report.html").read_text(encoding="utf-8")
    page = parse(text)
    assert len(page.texts["script"]) == 1
    assert "<b>" not in text
    assert "<img" not in text
    assert "&lt;b&gt;{{ 7 * 7 }}" in text
    assert not {"\x1b", "\x00", "\u202e", "\ufffe"} & set(text)


def test_an_unfinished_run_says_so(run_maker: Any, results: Any) -> None:
    first = {"01-evaluate": results["01-evaluate"]}
    text = write_report(run_maker(first, stages=["evaluate", "sparsify"]))[0].read_text()
    assert "This run is not finished" in text
    parse(text)
