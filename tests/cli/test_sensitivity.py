"""`secateur sensitivity`: the files it writes, and sentences for what cannot be."""

import pytest
from typer.testing import CliRunner

import secateur
from secateur.cli.app import app
from secateur.cli.values import levels
from secateur.errors import RecipeError
from secateur.report import write_sensitivity_chart
from secateur.sparsity import SensitivityRow, SensitivityTable


def run(*arguments):
    return CliRunner().invoke(app, ["sensitivity", *arguments])


def test_the_table_is_printed_and_the_files_are_written(tmp_path):
    options = ["tiny_networks:network", "--data", "tiny_networks:images", "--levels", "0:0.9:0.3", "--images", "8"]
    result = run(*options, "--layer", "body", "--layer", "point", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "points of top-1 lost" in result.stdout and "body" in result.stdout
    names = {path.name for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert names == {"sensitivity.json", "sensitivity.csv", "sensitivity.png", "sensitivity.svg", "settings.json"}
    assert (tmp_path / "out" / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    assert SensitivityTable.read(tmp_path / "out" / "sensitivity.json").layers == ("body", "point")


def test_filters_without_labels(tmp_path):
    options = ["tiny_networks:network", "--data", "tiny_networks:images", "--levels", "0.5", "--images", "8"]
    result = run(*options, "--granularity", "filter", "--output-error", "--layer", "body", "--out", str(tmp_path))
    assert result.exit_code == 0 and "relative change of the output" in result.stdout and "filter" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet20_cifar10"], "no weights are published for it"),
        (["net.onnx"], "an ONNX file cannot be analysed"),
        (["tiny_networks:network", "--data", "tiny_networks:images", "--exclude", "*"], "no layer is left to analyse"),
        (["tiny_networks:network", "--pattern", "1x4", "--granularity", "filter"], "say the same thing"),
        (["tiny_networks:network", "--levels", "0:2:0.1"], "start:stop:step"),
        (["tiny_networks:network", "--levels", "half"], "fractions"),
        (["tiny_networks:network", "--data", "tiny_networks:images", "--layer", "boddy"], "Did you mean 'body'"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments, words, tmp_path):
    result = run(*arguments, "--out", str(tmp_path / "out"))
    assert isinstance(result.exception, secateur.SecateurError) and words in str(result.exception)


def test_levels_are_a_range_with_its_end_or_a_list():
    assert levels("--levels", "0:0.95:0.05")[-2:] == (0.9, 0.95) and len(levels("--levels", "0:0.95:0.05")) == 20
    assert levels("--levels", "0.1:0.5:0.3") == (0.1, 0.4)
    assert levels("--levels", "0.5,0.8") == (0.5, 0.8)
    for text in ("0:1:0.1", "0.5:0.1:0.1", "0:0.5:0", "a:b:c", "0:0.5", "0:0.5:nan", "0:0.9:1e-9"):
        with pytest.raises(RecipeError, match="start:stop:step"):
            levels("--levels", text)


@pytest.mark.parametrize("count", [0, 1, 3, 60])
def test_the_picture_is_the_same_every_time_and_harmless_with_any_name(tmp_path, count):
    names = ["$x^2$ <script>", "a" * 200, *(f"layer{i}" for i in range(58))][:count]
    rows = tuple(
        SensitivityRow(name, level, level, None, None, None, level**2) for name in names for level in (0.0, 0.5, 0.9)
    )
    dense = SensitivityRow("", 0.0, 0.0, None, None, None, 0.0)
    table = SensitivityTable("output_error", "filter", "l2", 4, dense, rows, {})
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    write_sensitivity_chart(table, first, tmp_path / "a.png")
    write_sensitivity_chart(table, second)
    assert first.read_bytes() == second.read_bytes()
    assert "<script>" not in first.read_text() and ("$x^2$" in first.read_text()) == (count > 0)
