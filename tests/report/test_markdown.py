"""The report as Markdown."""

from pathlib import Path


def test_has_the_sections_tables_and_sentences_of_the_page(written: Path) -> None:
    text = (written / "report.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0] == "# resnet20\\_cifar10 on cifar10"
    assert [line[3:] for line in lines if line.startswith("## ")] == [
        *("Accuracy", "Speed", "Size", "Layers", "Export", "Training", "How it was made")
    ]
    assert "| dense | 91.73 | 0.28 | 99.71 | 0.3126 | 10,000 |" in lines
    assert any("ignore zeros: no speedup is to be expected" in line for line in lines)


def test_tables_are_rectangular(written: Path) -> None:
    text = (written / "report.md").read_text(encoding="utf-8")
    blocks = [[line for line in block.splitlines() if line.startswith("|")] for block in text.split("\n\n")]
    tables = [block for block in blocks if block]
    assert len(tables) == 15
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_hostile_names_open_neither_tags_nor_fences(hostile: Path) -> None:
    text = (hostile / "report.md").read_text(encoding="utf-8")
    outside, inside = text.split("\n`````\n")[:2]
    assert "<" not in outside
    assert not [line for line in outside.splitlines() if line.startswith("# ")][1:]
    assert inside.splitlines()[1:3] == ["a ```` b", "# c"]
