"""`secateur quantize`: torch networks and ONNX files, with labels and without; one sentence for a mistake."""

import json

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import secateur
import tiny_networks
from secateur.errors import ArtifactError, RecipeError
from secateur.export import load_packed_onnx
from secateur.pipeline import load_record
from secateur.pipeline.quantization import preview

NORMAL = "mean .5 std .5 on 0..1"
QUICK = ("--images-count", "16", "--judge-images", "8", "--no-benchmark")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Images without labels."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for index in range(24):
        Image.fromarray(generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


def onnx_command(file, photos, out, *more):
    return ("quantize", file, "--images", photos, "--preprocessing", NORMAL, *QUICK, "--out", out, *more)


@pytest.fixture
def refused(call, tmp_path):
    """Run a command that must be refused; its one sentence."""

    def run(*arguments):
        code, _, err = call("quantize", *arguments, "--out", tmp_path / "refused")
        lines = [line for line in err.splitlines() if line.startswith("secateur: ")]
        assert code == 2, err
        assert len(lines) == 1 and "Traceback" not in err
        return lines[0]

    return run


def test_help_teaches(call):
    code, out, _ = call("quantize", "--help")
    said = " ".join(out.split())
    assert code == 0 and "no labels are needed" in said and "secateur quantize model.onnx" in said
    assert "simulated" in said and "--keep-float" in said


def test_a_torch_network_without_labels(call, photos, tmp_path):
    out = tmp_path / "run"
    code, said, err = call("quantize", "tiny_networks:network", "--images", photos, *QUICK, "--out", out)
    assert code == 0, err
    assert "simulated" in said and "no labels" in said and "model.int8.onnx" in said
    record = load_record(out)
    assert [stage.kind for stage in record.stages] == ["quantize", "export", "report"]
    assert record.recipe.data.name == f"images:{photos}"
    assert (out / "model.int8.onnx").is_file() and (out / "weights.int8.safetensors").is_file()
    page = (out / "report.md").read_text()
    assert "Same class as float" in page and "Top-1" not in page


def test_an_onnx_file_gives_the_same_files_and_is_kept(call, file, photos, tmp_path):
    out = tmp_path / "run"
    code, said, err = call(*onnx_command(file, photos, out))
    assert code == 0, err
    assert "simulated" in said and "no labels" in said
    model = onnx.load(out / "model.int8.onnx")
    assert load_packed_onnx(out / "weights.int8.safetensors").SerializeToString() == model.SerializeToString()
    assert {entry.key for entry in model.metadata_props} >= {"preprocessing"}
    report = json.loads((out / "result.json").read_text())
    assert report["numbers"] == "int8" and report["runtimes"]["rows"] and report["verification"]["agreement"] >= 50
    assert json.loads((out / "plan.json").read_text())["quantize"]["layers"]
    before = (out / "model.int8.onnx").stat().st_mtime_ns
    code, again, err = call(*onnx_command(file, photos, out))
    assert code == 0 and "finished before" in err and again == said
    assert (out / "model.int8.onnx").stat().st_mtime_ns == before
    code, _, err = call(*onnx_command(file, photos, out, "--bits", "4"))
    assert code == 2 and "--overwrite" in err


@pytest.mark.parametrize(
    "way",
    [
        ("--numbers", "fp16", "--compute", "float"),
        ("--compute", "dynamic"),
        ("--compute", "float"),
        ("--mixed", "6"),
        ("--ranges", "global"),
        ("--ranges", "random"),
    ],
)
def test_other_numbers_and_ways(call, file, photos, tmp_path, way):
    out = tmp_path / "run"
    code, _, err = call(*onnx_command(file, photos, out, *way))
    assert code == 0, err
    rows = json.loads((out / "result.json").read_text())["runtimes"]["rows"]
    row = next(row for row in rows if row["runtime"] == "onnxruntime" and row["subject"] != "float")
    assert row["failure"] is None and row["same_class"] >= (0 if "--ranges" in way else 50)
    if "--mixed" in way:
        layers = json.loads((out / "result.json").read_text())["layers"]
        assert {layer["bits"] for layer in layers} == {4, 8}


def test_nothing_is_written_by_a_dry_run(call, file, photos, tmp_path):
    for model, more in ((file, ("--preprocessing", NORMAL)), ("tiny_networks:network", ())):
        code, said, err = call("quantize", model, "--images", photos, *more, "--dry-run", "--out", tmp_path / "no")
        assert code == 0, err
        assert "weights with 8 bits" in said and not (tmp_path / "no").exists()


def test_mistakes_are_one_sentence(refused, file, photos):
    assert "give images" in refused("tiny_networks:network")
    assert "no such folder" in refused("tiny_networks:network", "--images", "nowhere")
    assert "Did you mean 'entropy'" in refused("tiny_networks:network", "--images", photos, "--observer", "entropi")
    assert "such as fc=8" in refused("tiny_networks:network", "--images", photos, "--layer-bits", "fc")
    assert "cannot be trained" in refused(file, "--images", photos, "--preprocessing", NORMAL, "--epochs", "2")
    assert "own weights" in refused(file, "--images", photos, "--weights", "none")
    assert "is for ONNX files" in refused("tiny_networks:network", "--images", photos, "--model-name", "resnet18")
    assert "no batch norms" in refused(file, "--images", photos, "--preprocessing", NORMAL, "--ranges", "bn")
    assert "greater than or equal to 2" in refused("tiny_networks:network", "--images", photos, "--bits", "1")
    onnx_file = (file, "--images", photos, "--preprocessing", NORMAL, *QUICK, "--overwrite")
    assert "name, glob or kind of no layer" in refused(*onnx_file, "--keep-float", "nothing*")
    assert "'bits' would do nothing: mixed" in refused(*onnx_file, "--mixed", "6", "--bits", "4")
    assert "'observer' would do nothing: no ranges" in refused(
        *onnx_file, "--compute", "dynamic", "--observer", "entropy"
    )


def test_numbers_that_the_runtime_does_not_compute_with_are_told_before_any_work(refused, file, photos, monkeypatch):
    monkeypatch.setattr(preview, "computes", lambda kind: kind != "bf16")
    for more in ((), ("--dry-run",)):
        said = refused(file, "--images", photos, "--preprocessing", NORMAL, *QUICK, "--numbers", "bf16", *more)
        assert "does not compute in bf16" in said and "--compute float" in said


def test_bf16_is_stored(call, file, photos, tmp_path):
    code, _, err = call(*onnx_command(file, photos, tmp_path / "b", "--numbers", "bf16", "--compute", "float"))
    assert code == 0, err
    assert (tmp_path / "b" / "model.bf16.onnx").is_file()


def test_the_verb_takes_networks_and_images_in_memory(tmp_path):
    torch.manual_seed(0)
    network = tiny_networks.network().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    asked = {"images_count": 16, "judge_images": 8, "benchmark": False}
    found = secateur.quantize(network, tiny_networks.images(), out=tmp_path / "run", **asked)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert found.runtimes.row("int8", "onnxruntime").accuracy is not None
    assert {row["name"] for row in found.layers} == {"stem", "body", "depthwise", "point", "classifier"}
    with pytest.raises(ArtifactError, match="--overwrite"):
        secateur.quantize(network, tiny_networks.images(), out=tmp_path / "run", **asked, bits=4)


def test_the_verb_in_place_makes_a_network_round_while_it_is_trained():
    torch.manual_seed(0)
    network = tiny_networks.network().eval()
    image = torch.randn(1, 3, 16, 16)
    before = network(image)
    prepared = secateur.quantize_(network, tiny_networks.images(), weight_bits=4, scheme="affine")
    assert len(prepared.weights) == 5 and prepared.config.weight_bits == 4
    assert not torch.allclose(network.body.weight, network.body.parametrizations.weight.original)
    prepared.close_()
    assert torch.equal(network(image), before)
    with pytest.raises(RecipeError, match="wieght_bits"):
        secateur.quantize_(network, wieght_bits=4)
