"""The curve and the table of a run over levels, from the results of its stages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from secateur.graph import Census
from secateur.pipeline.record import load_record, stage_name
from secateur.report import collect, write_report
from secateur.report.content import Content
from secateur.report.levels import levels_chart, levels_table

LEVELS = {"30": (0.30, 91.6), "60": (0.60, 91.1), "90": (0.90, 86.2)}


def thinned_out(census: dict[str, Any], sparsity: float) -> dict[str, Any]:
    layers = [layer | {"nonzeros": round(layer["weights"] * (1 - sparsity))} for layer in census["layers"]]
    return Census.from_dict(census | {"layers": layers}).to_dict()


@pytest.fixture
def run(run_maker: Callable[..., Path], results: dict[str, dict[str, Any]]) -> Path:
    """A run with three levels, each of them trained, evaluated and exported, before the final export."""
    export = results["05-export"]
    dense = export["census"]["dense"]
    stages: list[tuple[str, dict[str, Any]]] = [("evaluate", results["01-evaluate"])]
    for name, (sparsity, top1) in LEVELS.items():
        files = {f"levels/{name}/model.onnx": 1_088_312, f"levels/{name}/weights.safetensors": 100_000 + int(name)}
        counted = {"compressed": thinned_out(dense, sparsity)}
        stages += [
            ("sparsify", results["02-sparsify"]),
            ("evaluate", {"top1": top1, "top5": 99.0, "loss": 0.4, "images": 10_000}),
            ("export", export | {"folder": f"levels/{name}", "files": files, "check_dense": None, "census": counted}),
        ]
    stages += [("export", export | {"folder": ""}), ("report", {"files": []})]
    return run_maker({stage_name(index, kind): result for index, (kind, result) in enumerate(stages)})


@pytest.fixture
def content(run: Path) -> Content:
    return collect(load_record(run))


def test_levels_come_in_order_with_the_evaluation_before_their_export(content: Content) -> None:
    assert [found.folder for found in content.levels] == ["levels/30", "levels/60", "levels/90"]
    assert [found.accuracy.top1 for found in content.levels if found.accuracy] == [91.6, 91.1, 86.2]
    assert [found.weights_bytes for found in content.levels] == [100_030, 100_060, 100_090]


def test_the_result_of_the_run_is_the_export_that_is_no_level(content: Content) -> None:
    assert {file.name for file in content.files} >= {"model.onnx", "weights.safetensors"}


def test_the_table_has_drop_and_reductions(content: Content) -> None:
    table = levels_table(content)
    assert table is not None
    rows = [dict(zip((column.key for column in table.columns), row, strict=True)) for row in table.rows]
    assert [round(row["sparsity"], 3) for row in rows] == [0.3, 0.6, 0.9]
    assert [round(row["drop"], 2) for row in rows] == [0.13, 0.63, 5.53]
    assert rows[2]["parameter_reduction"] == pytest.approx(10, rel=1e-3)
    assert rows[2]["compute_reduction"] == pytest.approx(10, rel=1e-3)


def test_the_curve_names_every_accuracy(content: Content) -> None:
    chart = levels_chart(content)
    assert chart is not None
    for drawing in (chart.wide, chart.narrow):
        texts = {element.text for element in ElementTree.fromstring(drawing).iter("text")}
        assert {"91.60", "91.10", "86.20"} <= texts
    caption = chart.caption.replace("\u00a0", " ")
    assert "from 30.0 % to 90.0 % zeros" in caption
    assert "91.73 %" in caption


def test_a_run_without_levels_has_neither(results: dict[str, Any], run_maker: Callable[..., Path]) -> None:
    content = collect(load_record(run_maker(results, name="plain")))
    assert content.levels == ()
    assert levels_table(content) is None
    assert levels_chart(content) is None


def test_the_page_has_a_section_of_levels(run: Path) -> None:
    write_report(run)
    page = (run / "report.html").read_text()
    assert 'id="levels"' in page
    assert "levels/60" in (run / "report.md").read_text()
    assert (run / "tables" / "levels.csv").read_text().count("\n") == 4
