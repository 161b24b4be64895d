"""`secateur explain` on the command line."""

import json
import sys
from pathlib import Path

import onnx
import pytest

from engine.networks import classifier
from secateur.cli import main


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(classifier(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def explain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["secateur", "explain", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.err if code else captured.out

    return run


def test_every_layer_has_a_line(explain, model: Path) -> None:
    code, out = explain(model, "--threads", "1")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert {"stem", "body", "point", "fc"} <= set(lines)
    assert "16×16×3×3" in lines["body"] and "1x4" in lines["body"] and "direct" in lines["body"]
    assert all(word in out for word in ("GFLOP/s", "expected", "achieved", "whole network", "1 thread, batch 1"))
    assert max(map(len, out.splitlines())) <= 120


def test_a_run_folder_is_its_compressed_network(explain, model: Path) -> None:
    assert explain(model.parent, "--threads", "1", "--no-dense")[0] == 0


def test_primitive_batch_and_dense(explain, model: Path) -> None:
    code, out = explain(model, "--threads", "1", "--batch", "2", "--primitive", "gemm", "--no-dense")
    assert code == 0 and "batch 2" in out
    body = next(line for line in out.splitlines() if line.startswith("body"))
    assert " gemm " in body and body.split()[-1] == "-"


def test_kernels_and_dump(explain, model: Path, tmp_path: Path) -> None:
    code, out = explain(model, "--threads", "1", "--no-dense", "--kernels", "--dump", tmp_path / "kernels")
    assert code == 0 and "f32_" in out
    names = {path.stem for path in (tmp_path / "kernels").glob("*.s")}
    assert names == {path.stem for path in (tmp_path / "kernels").glob("*.ll")}
    assert any(name in out for name in names)


def test_json_to_a_file_and_to_the_terminal(explain, model: Path, tmp_path: Path) -> None:
    code, out = explain(model, "--threads", "1", "--json", tmp_path / "layers.json")
    assert code == 0 and "whole network" in out
    data = json.loads((tmp_path / "layers.json").read_text())
    assert {row["layer"] for row in data["layers"]} == {"stem", "body", "point", "fc"}
    assert all(row["ms"] >= 0 for row in data["layers"])
    code, out = explain(model, "--threads", "1", "--json", "-")
    assert set(json.loads(out)) == set(data)


def test_errors_are_sentences(explain, model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    for arguments, sentence in (
        ((tmp_path / "absent.onnx",), "absent.onnx"),
        ((tmp_path / "text.onnx",), "is not an ONNX model"),
        ((tmp_path / "..",), "holds no model.onnx"),
        ((model, "--threads", "0"), "0 threads are impossible"),
        ((model, "--batch", "0"), "A batch of 0"),
        ((model, "--dump", model), "cannot be written"),
    ):
        code, err = explain(*arguments)
        assert code == 2, arguments
        assert sentence in err and len(err.splitlines()) == 1, err


def test_open_sides_are_a_sentence(explain, tmp_path: Path) -> None:
    onnx.save(classifier(side="side"), tmp_path / "open.onnx")
    code, err = explain(tmp_path / "open.onnx")
    assert code == 2 and "leaves the shape of its inputs open" in err
