"""Writing: every file whole, the same bytes again, and sentences for folders that are no run."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from secateur.errors import ArtifactError, DiskError
from secateur.report import Content, render, write_report


def snapshot(paths: list[Path]) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in paths}


def test_writes_page_markdown_data_and_tables(written: Path) -> None:
    names = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    assert {"report.html", "report.md", "report.json", "tables/layers.csv", "tables/layers.rst"} <= names
    assert len([name for name in names if name.startswith("tables/")]) == 30
    assert not [name for name in names if name.endswith(".part")]


def test_the_same_facts_give_the_same_bytes(written: Path, content: Content) -> None:
    files = render(content)
    assert {name: (written / name).read_bytes().decode() for name in files} == files


def test_an_interrupted_report_is_simply_written_again(run_maker: Any, small_results: Any) -> None:
    folder = run_maker(small_results)
    paths = write_report(folder)
    assert paths[0] == folder / "report.html"
    before = snapshot(paths)
    paths[1].unlink()
    paths[2].write_text("{")
    assert write_report(str(folder)) == paths
    assert snapshot(paths) == before


def test_a_report_does_not_change_when_its_own_stage_is_recorded(run_maker: Any, small_results: Any) -> None:
    kinds = [name.split("-", 1)[1] for name in small_results]
    whole = snapshot(write_report(run_maker(small_results, name="run")))
    del small_results["04-report"]
    assert snapshot(write_report(run_maker(small_results, name="run", stages=kinds))) == whole


def test_csv_reads_back_with_the_rows_of_the_page(written: Path) -> None:
    for path in (written / "tables").glob("*.csv"):
        rows = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
        assert len(rows) >= 2
        assert len({len(row) for row in rows}) == 1
        assert len(set(rows[0])) == len(rows[0])
    layers = list(csv.DictReader(io.StringIO((written / "tables" / "layers.csv").read_bytes().decode())))
    assert len(layers) == 21
    assert layers[1]["layer"] == "layer1.0.conv1"
    assert int(layers[1]["macs"]) == 16 * 16 * 9 * 32 * 32
    assert sum(int(row["nonzeros"]) for row in layers[:-1]) == int(layers[-1]["nonzeros"])


def test_a_folder_that_is_no_run_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a run folder"):
        write_report(tmp_path / "nothing")


def test_a_damaged_result_leaves_the_earlier_report_alone(run_maker: Any, small_results: Any) -> None:
    folder = run_maker(small_results)
    before = snapshot(write_report(folder))
    (folder / "stages" / "02-sparsify" / "result.json").write_text('{"files": ')
    with pytest.raises(ArtifactError, match=r"02-sparsify.result.json: not readable as JSON"):
        write_report(folder)
    assert snapshot([Path(name) for name in before]) == before


def test_a_place_that_cannot_be_written_is_a_sentence(run_maker: Any, small_results: Any) -> None:
    folder = run_maker(small_results)
    (folder / "tables").write_text("a file where the folder should be")
    with pytest.raises(DiskError, match=r"tables.*cannot be written"):
        write_report(folder)
