"""The page of a job on an ONNX file: the same facts as of a run, from its one result."""

import json

import pytest

import secateur
import tiny_networks
from secateur.errors import ArtifactError
from secateur.export import export_onnx
from secateur.report import write_report
from secateur.report.collect_file import collect_file, is_file_job
from secateur.report.sections import sections

NORMAL = "mean .5 .5 .5 std .5 .5 .5 on 0..1"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    network = tiny_networks.network().eval()
    return export_onnx(network, tmp_path_factory.mktemp("file") / "tiny.onnx", (3, 16, 16))


@pytest.fixture(scope="module")
def sparse(file, tmp_path_factory):
    out = tmp_path_factory.mktemp("sparse") / "run"
    secateur.sparsify(
        file, tiny_networks.images(), out=out, preprocessing=NORMAL, sparsity=0.4, images_count=64, benchmark=True,
        command="secateur sparsify tiny.onnx",
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def quantized(file, tmp_path_factory):
    out = tmp_path_factory.mktemp("quantized") / "run"
    secateur.quantize(file, tiny_networks.images(), out=out, preprocessing=NORMAL, images_count=64, repeats=5)
    return out


def test_a_sparse_file_has_accuracy_speed_size_and_layers(sparse):
    content = collect_file(sparse)
    assert is_file_job(sparse) and content.finished
    assert content.title == "tiny.onnx on tiny" and content.command == "secateur sparsify tiny.onnx"
    assert content.accuracy.dense.images == content.accuracy.compressed.images == 32
    assert content.agreement.images == 19  # a fifth of the 96 images that there are
    assert content.compressed.sparsity == pytest.approx(0.4, abs=0.05) and content.dense.sparsity == 0
    assert {file.name for file in content.files} == {"model.onnx", "weights.safetensors"}
    assert all(file.dense for file in content.files)
    assert content.checks[0].top1_agreement == 100.0
    assert {row.runtime for row in content.latencies} >= {"onnxruntime", "openvino", "secateur"}
    assert content.layer_times and content.advice
    assert content.after_training.images == 64
    assert any(layer.skipped for layer in content.layers) and any(layer.level for layer in content.layers)
    shown = [section.id for section in sections(content)]
    assert shown == ["accuracy", "after-training", "speed", "size", "layers", "export", "run"]


def test_a_quantized_file_has_its_numbers(quantized):
    content = collect_file(quantized, title="Mine")
    assert content.title == "Mine"
    assert content.quantization.numbers == "int8" and content.quantization.timed
    assert [section.id for section in sections(content)] == ["quantization", "size", "layers", "run"]
    assert "stage: quantize" in content.recipe


@pytest.mark.parametrize("job", ["sparse", "quantized"])
def test_the_page_is_written_and_can_be_written_again(job, request):
    folder = request.getfixturevalue(job)
    before = {name: (folder / name).read_bytes() for name in ("report.html", "report.md", "report.json")}
    written = write_report(folder)
    assert written[0] == folder / "report.html"
    assert before == {name: (folder / name).read_bytes() for name in before}


@pytest.mark.parametrize(
    ("change", "said"),
    [({"verb": None}, "'verb' is missing"), ({"calibration": 3}, "a mapping is expected"),
     ({"census": {"compressed": {}}}, "census"), ({"plans": [{}]}, "'pattern' is missing"),
     ({"benchmark": {"benchmark": {"rows": [3]}}}, "a mapping is expected")],
)  # fmt: skip
def test_a_damaged_result_is_said(sparse, tmp_path, change, said):
    value = json.loads((sparse / "result.json").read_text()) | change
    (tmp_path / "result.json").write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=said):
        write_report(tmp_path)


def test_a_folder_with_neither_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"no run\.json"):
        write_report(tmp_path)
