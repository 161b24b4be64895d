"""`secateur sparsify` on the command line: torch networks, ONNX files, resumed runs, one sentence for mistakes."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import secateur.api
import tiny_networks
from secateur.errors import RecipeError
from secateur.export import load_weights
from secateur.pipeline import load_record
from secateur.sparsity import LayerSeconds

TORCH = ("tiny_networks:network", "-p", "unstructured", "-s", "0.3", "--images-count", "16", "--errors", "output")
NORMAL = "mean .5 std .5 on 0..1"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Images without labels, some in sub-folders."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    (folder / "more").mkdir()
    for index in range(24):
        pixels = generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / ("more" if index % 3 else ".") / f"{index}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Class folders of four classes."""
    folder = tmp_path_factory.mktemp("labelled")
    images = tiny_networks.images().test
    for index in range(16):
        image, label = images[index]
        (folder / "abcd"[label]).mkdir(exist_ok=True)
        image.save(folder / "abcd"[label] / f"{index}.png")
    return folder


@pytest.fixture
def refused(call, tmp_path):
    """Run a command that must be refused; its one sentence."""

    def run(*arguments, out=None):
        code, _, err = call("sparsify", *arguments, "--out", out or tmp_path / "refused")
        lines = [line for line in err.splitlines() if line.startswith("secateur: ")]
        assert code == 2, err
        assert len(lines) == 1 and "Traceback" not in err
        return lines[0]

    return run


def onnx_command(file, photos, out, *more):
    return ("sparsify", file, "--images", photos, "--preprocessing", NORMAL, "-s", "0.3", "--images-count", "16",
            "--errors", "output", "--out", out, *more)  # fmt: skip


def test_help_teaches(call):
    code, out, _ = call("sparsify", "--help")
    assert code == 0
    said = " ".join(out.split())
    assert "no labels" in said and "secateur sparsify model.onnx" in said


# ------------------------------------------------------------------------------------------------------------- torch


def test_torch_without_labels_tells_agreement_and_no_accuracy(call, photos, tmp_path):
    code, out, err = call("sparsify", *TORCH, "--images", photos, "--out", tmp_path / "run")
    assert code == 0, err
    assert "KL distance to the dense network" in out and "no labels" in out and "top-1" not in out
    record = load_record(tmp_path / "run")
    assert [stage.kind for stage in record.stages] == ["posttraining", "export", "report"]
    made = record.results("posttraining")[0]
    assert made["agreement"]["images"] == 4 and made["tuning"] is None
    assert sum(plan["achieved"] for plan in made["plans"]) >= 0.3
    assert record.recipe.data.name == f"images:{photos}"
    page = (tmp_path / "run" / "report.md").read_text()
    assert "KL divergence" in page and "Top-1" not in page
    # The recipe alone does the same.
    code, _, err = call("compress", "--recipe", tmp_path / "run" / "recipe.yaml", "--out", tmp_path / "again")
    assert code == 0, err
    assert load_record(tmp_path / "again").results("posttraining")[0]["agreement"] == made["agreement"]


def test_torch_with_labels_reports_accuracy_and_takes_other_images(call, photos, tmp_path):
    code, out, err = call("sparsify", *TORCH, "--images", photos, "--data", "tiny_networks:images", "--out",
                          tmp_path / "run")  # fmt: skip
    assert code == 0, err
    assert "dense   top-1" in out and "sparse  top-1" in out
    recipe = load_record(tmp_path / "run").recipe
    assert [stage.stage for stage in recipe.stages] == ["evaluate", "posttraining", "evaluate", "export", "report"]
    assert recipe.stages[1].calibration == f"images:{photos}"


def test_a_budget_brings_tuning_unless_it_is_declined(photos):
    asked = {"images": photos, "pattern": "1x4", "sparsity": 0.2, "budget": "10m"}
    assert "tuned afterwards" in secateur.api.preview_sparsify("tiny_networks:network", **asked)
    assert "no tuning" in secateur.api.preview_sparsify("tiny_networks:network", **asked, tuning=False)


def test_dry_run_writes_nothing(call, photos, tmp_path):
    code, out, _ = call("sparsify", *TORCH, "--images", photos, "--out", tmp_path / "run", "--dry-run")
    assert code == 0
    assert "first convolution" in out and "no labels" in out
    assert not (tmp_path / "run").exists()


def test_a_folder_with_splits_has_labels(call, labelled, tmp_path):
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for name in "abcd":
            (tmp_path / "data" / split / name).symlink_to(labelled / name)
    code, out, err = call("sparsify", *TORCH, "--images", tmp_path / "data", "--dry-run")
    assert code == 0, err
    assert f"imagefolder:{tmp_path / 'data'}" in out and "evaluate" in out


def test_mistakes_of_torch_are_one_sentence(refused, photos, tmp_path):
    for arguments, sentence in (
        ((*TORCH, "--images", tmp_path / "nowhere"), "no such folder"),
        (TORCH, "nothing to calibrate with"),
        ((*TORCH, "--data", f"images:{photos}"), "has no labels to measure accuracy with"),
        (("resnet20_cifar10", "--images", photos), "no weights are published for it"),
        (("resnet20_cifar", "--images", photos), "Did you mean 'resnet20_cifar10'?"),
        ((*TORCH, "--images", photos, "--budget", "soon"), "is no duration"),
        ((*TORCH, "--images", photos, "--macs", "0.5"), "two targets"),
        (("tiny_networks:network", "--images", photos, "-s", "0.99"), "at most"),
        (("tiny_networks:network", "--images", photos, "-p", "1x3x"), "1x3x"),
        (("tiny_networks:network", "--images", photos, "--exclude", "nothing"), "nothing"),
        (("tiny_networks:network", "--images", photos, "-p", "unstructured", "--permute"), "N:M"),
        ((*TORCH, "--images", photos, "--preprocessing", NORMAL), "is for ONNX files"),
        ((tmp_path, "--images", photos), "no such file"),
    ):
        assert sentence in refused(*arguments), arguments


def test_damaged_images_are_one_sentence(refused, tmp_path):
    (tmp_path / "bad").mkdir()
    for index in range(6):
        (tmp_path / "bad" / f"{index}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    assert "cannot be read as an image" in refused(*TORCH, "--images", tmp_path / "bad")


# -------------------------------------------------------------------------------------------------------------- ONNX


def test_onnx_file_becomes_a_sparse_onnx_file(call, file, photos, tmp_path):
    out = tmp_path / "run"
    code, said, err = call(*onnx_command(file, photos, out))
    assert code == 0, err
    assert "KL distance" in said and "no labels" in said and str(out) in said
    report = json.loads((out / "result.json").read_text())
    assert sum(plan["achieved"] for plan in report["plans"]) >= 0.3
    assert report["check"]["max_rel_error"] < 1e-3 and report["accuracy"] is None
    assert (out / "dense" / "model.onnx").is_file()
    assert said.rstrip().endswith("report.html") and "model.onnx" in (out / "report.md").read_text()
    assert secateur.census(out / "model.onnx").sparsity >= 0.3
    stored, _ = load_weights(out / "weights.safetensors")
    assert {tensor.name for tensor in onnx.load(out / "model.onnx").graph.initializer} == set(stored)
    feed = {"input": np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)}
    sparse, dense = (
        onnxruntime.InferenceSession(path).run(None, feed)[0] for path in (out / "model.onnx", out / "dense/model.onnx")
    )
    assert sparse.shape == dense.shape and not np.array_equal(sparse, dense)
    # The file now says how its images are prepared, so that it needs no option any more.
    code, _, err = call("sparsify", out / "model.onnx", "--images", photos, "--dry-run")
    assert code == 0, err
    # Given again, the same command keeps what is there; another one is refused, unless it may overwrite.
    before = (out / "result.json").read_bytes()
    assert call(*onnx_command(file, photos, out))[0] == 0
    assert (out / "result.json").read_bytes() == before
    code, _, err = call(*onnx_command(file, photos, out, "--seed", "7"))
    assert code == 2 and "--overwrite" in err
    assert call(*onnx_command(file, photos, out, "--seed", "7", "--overwrite"))[0] == 0
    assert (out / "result.json").read_bytes() != before


@pytest.mark.slow
def test_a_budget_tunes_an_onnx_file(call, file, photos, tmp_path):
    code, out, err = call(*onnx_command(file, photos, tmp_path / "run", "--budget", "20s"))
    assert code == 0, err
    assert "tuning: KL distance" in out
    report = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [row["step"] for row in report["steps"]] == ["closed form", "tuning"]
    assert report["tuning"]["rows"][-1]["share"] == 1.0 and report["check"]["max_rel_error"] < 1e-3
    code, out, _ = call(*onnx_command(file, photos, tmp_path / "other", "--budget", "20s", "--no-tuning", "--dry-run"))
    assert code == 0 and "no tuning" in out


def test_onnx_with_labels_reports_accuracy(call, file, photos, labelled, tmp_path):
    code, out, err = call(*onnx_command(file, photos, tmp_path / "run", "--data", labelled))
    assert code == 0, err
    assert "dense   top-1" in out and "sparse  top-1" in out and "16 images" in out


def test_a_target_in_seconds_is_measured_where_no_table_is_given(call, file, photos, tmp_path, monkeypatch):
    """The times are those of the engine, once: a run that goes on chooses by the same ones."""
    from secateur.pipeline import layer_seconds

    monkeypatch.setattr(layer_seconds, "LEVELS", (0.5, 0.9))
    out = tmp_path / "run"
    arguments = [word for word in onnx_command(file, photos, out) if word not in ("-s", "0.3")]
    code, _, err = call(*arguments, "--seconds", "0.999")
    assert code == 0 and "measures how long every layer takes with unstructured zeros" in err, err
    table = LayerSeconds.read(out / "work" / "seconds-unstructured.json")
    assert set(table.layers) == {"stem", "body", "depthwise", "point", "classifier"}
    levels = json.loads((out / "result.json").read_text())["levels"]
    # No less than everything at its fastest can be asked for; a layer that zeros do not make faster stays dense.
    assert levels["cost"] <= 0.999 * levels["dense"]


def test_mistakes_with_onnx_are_one_sentence(refused, file, photos, labelled, tmp_path):
    given = (file, "--images", photos, "--preprocessing", NORMAL)
    (tmp_path / "cut.onnx").write_bytes(file.read_bytes()[:500])
    (tmp_path / "empty").mkdir()
    (tmp_path / "three").mkdir()
    for name in "abc":
        (tmp_path / "three" / name).symlink_to(labelled / name)
    for arguments, sentence in (
        ((file, "--images", photos), "does not say how its images are prepared"),
        ((file, "--images", photos, "--preprocessing", "as usual"), "is not understood"),
        ((file, "--images", photos, "--preprocessing", "{"), "no JSON"),
        ((file, "--images", photos, "--preprocessing", '{"mean": "x"}'), "mean"),
        ((*given, "--model-name", "resnet20_cifar10"), "give one of them"),
        ((file, "--images", photos, "--model-name", "resnet20_cifar10"), "takes images of"),
        ((*given, "--pattern", "2:4", "--permute"), "order of channels"),
        ((*given, "--weights", "pretrained"), "its own weights"),
        ((*given, "--sparsity", "1.5"), "sparsity"),
        ((*given, "--data", tmp_path / "three"), "has 3 classes, but the model has 4 outputs"),
        ((tmp_path / "cut.onnx", *given[1:]), "cut.onnx"),
        ((tmp_path / "missing.onnx", *given[1:]), "missing.onnx"),
        ((file, "--images", tmp_path / "empty", *given[3:]), "holds no images"),
    ):
        assert sentence in refused(*arguments), arguments


def test_a_folder_of_others_is_left_alone(refused, file, photos, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    said = refused(file, "--images", photos, "--preprocessing", NORMAL, out=tmp_path / "mine")
    assert "thesis.txt" in said and (tmp_path / "mine" / "thesis.txt").is_file()


def test_damaged_records_are_told(call, file, photos, tmp_path):
    out = tmp_path / "run"
    assert call(*onnx_command(file, photos, out))[0] == 0
    (out / "result.json").write_text('{"plans": [], "agreement": {"divergence": 1}}')
    code, _, err = call(*onnx_command(file, photos, out))
    assert code == 2 and "is damaged" in err
    (out / "result.json").unlink()
    (out / "work" / "time.json").write_text("[]")
    code, _, err = call(*onnx_command(file, photos, out, "--overwrite"))
    assert code == 2 and "time" in err


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_killed_and_resumed_gives_the_same_network(call, file, photos, tmp_path, kind):
    """kill -9 while the second pass works; what it had done is not done again, and the result is the same."""
    model = (file, "--preprocessing", NORMAL) if kind == "onnx" else ("tiny_networks:network",)
    common = (*model, "--images", photos, "-s", "0.3", "--images-count", "16", "--errors", "output")
    arguments = [sys.executable, "-m", "secateur", "sparsify", *map(str, common), "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    until = time.monotonic() + 600  # a busy machine needs minutes to import torch
    try:
        while not list((tmp_path / "killed").rglob("second/*.safetensors")) and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("second/*.safetensors")}
    assert kept
    assert call("sparsify", *common, "--out", tmp_path / "killed")[0] == 0
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert call("sparsify", *common, "--out", tmp_path / "whole")[0] == 0
    ours, theirs = (load_weights(tmp_path / name / "weights.safetensors")[0] for name in ("killed", "whole"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# --------------------------------------------------------------------------------------------------------------- API


def test_the_verb_takes_networks_and_images_in_memory(tmp_path):
    torch.manual_seed(0)
    network = tiny_networks.network().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = secateur.sparsify(network, tiny_networks.images(), out=tmp_path / "run", sparsity=0.3, errors="output",
                               images_count=32)  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert result.accuracy is not None and result.dense_accuracy is not None and result.network is not None
    assert "top-1" in str(result) and result.record is not None and result.record.finished
    with pytest.raises(RecipeError, match="Did you mean 'sparsity'"):
        secateur.sparsify(network, tiny_networks.images(), sparcity=0.3)


def test_a_run_folder_is_a_network_too(call, photos, tmp_path):
    assert call("sparsify", *TORCH, "--images", photos, "--out", tmp_path / "first")[0] == 0
    code, out, err = call("sparsify", tmp_path / "first", "--images", photos, "-s", "0.5", "--dry-run")
    assert code == 0, err
    assert "tiny_networks:network" in out and "target sparsity 0.5" in out
