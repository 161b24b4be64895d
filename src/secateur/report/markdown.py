"""The report as GitHub's Markdown: the same sentences and tables, without charts."""

from secateur.report import escape
from secateur.report.content import Content
from secateur.report.headline import Card, cards, latency_cards, summary, verdicts
from secateur.report.sections import Section


def render_markdown(content: Content, sections: tuple[Section, ...], version: str) -> str:
    """The whole report as Markdown text. `version` is that of Secateur."""
    blocks = [f"# {escape.markdown(content.title)}", escape.markdown(summary(content))]
    if not content.finished:
        blocks.append("**This run is not finished; the report shows the stages that are.**")
    blocks += [escape.markdown(sentence) for sentence in verdicts(content)]
    blocks += _listed(cards(content))
    if latency_cards(content):
        blocks += ["Best latency of the compressed network:", *_listed(latency_cards(content))]
    for section in sections:
        blocks.append(f"## {escape.markdown(section.title)}")
        blocks += [escape.markdown(lead) for lead in section.leads]
        for table in section.tables:
            blocks += [f"### {escape.markdown(table.title)}", table.to_markdown()]
        for label, text in section.codes:
            blocks += [f"### {escape.markdown(label)}", _fenced(text)]
    blocks.append(escape.markdown(f"Secateur {version}. Started {content.started}."))
    return "\n\n".join(blocks) + "\n"


def _listed(cards: tuple[Card, ...]) -> list[str]:
    lines = [
        f"- **{escape.markdown(card.label)}: {escape.markdown(card.value)}** ({escape.markdown(card.detail)})"
        for card in cards
    ]
    return ["\n".join(lines)] if lines else []


def _fenced(text: str) -> str:
    """A code block whose fence is longer than any row of backticks in the text."""
    lines = [escape.clean(line) for line in text.splitlines()]
    longest = max((len(run) for line in lines for run in _backtick_runs(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *lines, fence])


def _backtick_runs(line: str) -> list[str]:
    return ["`" * len(run) for run in "".join(c if c == "`" else " " for c in line).split()]
