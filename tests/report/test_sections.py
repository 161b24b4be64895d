"""The order of the page, and what is left out when a run did less."""

from dataclasses import replace

import pytest

from secateur.report.content import Content
from secateur.report.network_tables import layers_table
from secateur.report.sections import Section, load_sentence, sections, zeros_sentence
from secateur.report.table import Table


@pytest.fixture(scope="module")
def tables(shown: tuple[Section, ...]) -> dict[str, Table]:
    return {table.name: table for section in shown for table in section.tables}


def cell(table: Table, row: int, key: str) -> object:
    return table.rows[row][[column.key for column in table.columns].index(key)]


def test_a_whole_run_has_all_sections_and_tables(shown: tuple[Section, ...], tables: dict[str, Table]) -> None:
    assert [section.id for section in shown] == [*("accuracy", "speed", "size", "layers", "export", "training", "run")]
    assert set(tables) == {
        *("accuracy", "runtime_accuracy", "speedup", "latency", "runtimes", "sizes", "reductions"),
        *("layer_times_secateur", "layer_times_onnxruntime", "layers", "structure"),
        *("export_check", "training", "stages", "machine"),
    }


def test_names_of_tables_are_unique(shown: tuple[Section, ...]) -> None:
    names = [table.name for section in shown for table in section.tables]
    assert len(names) == len(set(names))


def test_a_run_without_benchmark_has_no_speed(content: Content) -> None:
    less = replace(content, latencies=(), layer_times=(), runtime_accuracy=(), layers=(), epochs=())
    assert "speed" not in [section.id for section in sections(less)]


def test_a_census_only_run_has_size_layers_and_how(content: Content) -> None:
    nothing = {"latencies": (), "layer_times": (), "runtime_accuracy": (), "accuracy": None}
    less = replace(content, **nothing, checks=(), epochs=(), files=())
    assert [section.id for section in sections(less)] == ["size", "layers", "run"]


def test_runtimes_that_ignore_zeros_are_named_in_words(content: Content) -> None:
    assert zeros_sentence(content) == (
        "PyTorch, torch.compile, ONNX Runtime and OpenVINO ignore zeros: no speedup is to be expected "
        "(docs/why-not-faster.md)."
    )
    one = replace(content, latencies=tuple(row for row in content.latencies if row.runtime == "onnxruntime"))
    assert zeros_sentence(one) == "ONNX Runtime ignores zeros: no speedup is to be expected (docs/why-not-faster.md)."
    assert zeros_sentence(replace(content, latencies=())) is None


def test_a_busy_machine_is_a_warning(content: Content) -> None:
    assert load_sentence(content) is None
    busy = load_sentence(replace(content, load=9.26, cpus=2))
    assert busy is not None
    assert busy.startswith("The machine was busy: a load average of 9.3 on 2 usable CPUs.")
    assert load_sentence(replace(content, load=2.9, cpus=2)) is None
    assert load_sentence(replace(content, load=None)) is None


def test_a_remark_of_the_census_has_its_column(content: Content) -> None:
    noted = (replace(content.layers[0], note="not reached by this input"), *content.layers[1:])
    table = layers_table(replace(content, layers=noted))
    assert table is not None
    assert cell(table, 0, "note") == "not reached by this input"
    assert cell(table, 1, "note") is None


def test_accuracy_ends_with_the_change(tables: dict[str, Table]) -> None:
    total = tables["accuracy"].total
    assert total is not None
    assert (total[0], round(float(total[1] or 0), 2), total[5]) == ("change", -0.71, None)


def test_reductions_are_given_in_every_base(tables: dict[str, Table]) -> None:
    table = tables["reductions"]
    assert [row[0] for row in table.rows] == ["conv_linear", "selected", "all_params", "macs"]
    for index in range(4):
        left, dense = cell(table, index, "left"), cell(table, index, "dense")
        if index != 1:
            assert isinstance(left, int)
            assert isinstance(dense, int)
            assert cell(table, index, "sparsity") == 1 - left / dense
            assert cell(table, index, "reduction") == dense / left


def test_the_layer_total_sums_its_rows(tables: dict[str, Table]) -> None:
    table = tables["layers"]
    assert table.total is not None
    for key in ("weights", "nonzeros", "macs", "sparse_macs", "bytes"):
        index = [column.key for column in table.columns].index(key)
        assert table.total[index] == sum(row[index] for row in table.rows)  # type: ignore[misc]


def test_a_skipped_layer_says_why(shown: tuple[Section, ...], tables: dict[str, Table]) -> None:
    table = tables["layers"]
    assert cell(table, 0, "pattern") == "dense: first convolution"
    assert cell(table, 1, "pattern") == "1x4"
    layers = next(section for section in shown if section.id == "layers")
    assert layers.leads == ("2 of 20 layers were left dense; the table says why.",)


def test_a_census_without_plan_has_no_pattern(content: Content) -> None:
    bare = tuple(replace(layer, pattern=None, skipped=None, storage=None) for layer in content.layers)
    table = layers_table(replace(content, layers=bare))
    assert table is not None
    assert not {"pattern", "format", "bytes"} & {column.key for column in table.columns}


def test_percentages_name_their_base(tables: dict[str, Table]) -> None:
    for table in tables.values():
        for column in table.columns:
            if column.form == "fraction":
                assert "%" in column.unit
        if any(column.unit.startswith("%") for column in table.columns):
            assert table.note


def test_every_layer_has_its_expected_and_achieved_speedup(content):
    table = next(t for section in sections(content) for t in section.tables if t.name == "layer_times_secateur")
    rows = {row[0]: row for row in table.rows}
    assert rows["layer1.0.conv1"][4] == pytest.approx(2304 / (2304 - int(0.8055 * 2304 + 1e-6)))
    assert rows["layer1.0.conv1"][5] == pytest.approx(0.2 / 0.16)
    assert rows["layer1.0.conv1"][6] == pytest.approx(rows["layer1.0.conv1"][5] / rows["layer1.0.conv1"][4])
    assert rows["fc"][5] is None and rows["fc"][6] is None


def test_tables_of_layers_name_their_runtime(tables: dict[str, Table]) -> None:
    assert tables["layer_times_secateur"].title.endswith("in Secateur")
    assert "ONNX Runtime" in tables["layer_times_onnxruntime"].title + tables["layer_times_onnxruntime"].note


def test_advice_is_said_once(content):
    speed = next(section for section in sections(content) if section.id == "speed")
    assert speed.leads.count("Use secateur (batch 1, 1 thread).") == 1
