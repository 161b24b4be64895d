"""`secateur compress` on the command line: what it prints, and one sentence with exit code 2 for every bad input."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import tiny_networks
from secateur.pipeline import load_record

QUICK = ["--epochs", "0", "--train-epochs", "0"]


@pytest.fixture
def refused(call, tmp_path):
    """Run a command that must be refused; its one sentence."""

    def run(*arguments, out=None):
        code, _, err = call("compress", *arguments, "--out", out or tmp_path / "refused")
        lines = [line for line in err.splitlines() if line.startswith("secateur: ")]
        assert code == 2, err
        assert len(lines) == 1 and "Traceback" not in err
        return lines[0]

    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """An image folder of two classes with train/ and test/."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 4)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


def test_dry_run_prints_the_plan_per_layer_and_writes_nothing(call, tmp_path):
    code, out, _ = call("compress", "tiny_networks:network", "--data", "tiny_networks:images", "--sparsity", "0.5",
                        "--base", "selected", "--dry-run", "--out", tmp_path / "run")  # fmt: skip
    assert code == 0
    assert "[1/7] train" in out and "sparsity by epoch:" in out
    assert all(layer in out for layer in ("stem", "body", "depthwise", "point", "classifier"))
    assert not (tmp_path / "run").exists()


def test_compress_from_flags_gives_a_report(call, tmp_path):
    code, out, err = call("compress", "tiny_networks:network", "-d", "tiny_networks:images", "-p", "unstructured",
                          "-s", "0.5", "--base", "selected", "--epochs", "1", "--train-epochs", "1", "--batch-size",
                          "16", "--runtimes", "onnxruntime", "--repeats", "2", "-o", tmp_path / "run")  # fmt: skip
    assert code == 0, err
    assert out.strip() == str(tmp_path / "run" / "report.html")
    record = load_record(tmp_path / "run")
    assert record.finished
    assert record.command.startswith("secateur compress tiny_networks:network -d tiny_networks:images -p unstructured")


def test_missing_folder(refused, tmp_path):
    assert "nowhere" in refused("resnet20_cifar10", "--data", f"imagefolder:{tmp_path / 'nowhere'}")


def test_unknown_model_names_the_nearest(refused):
    assert "unknown model 'resnet20_cifar'. Did you mean 'resnet20_cifar10'?" in refused("resnet20_cifar")


def test_unknown_data_names_the_nearest(refused):
    assert "Did you mean 'digits'?" in refused("resnet20_cifar10", "--data", "digit")


def test_unknown_pattern_criterion_and_allocation(refused):
    model = ("tiny_networks:network", "--data", "tiny_networks:images", *QUICK)
    assert "1x33" in refused(*model, "--pattern", "1x33")
    assert "Did you mean 'magnitude'?" in refused(*model, "--criterion", "magnitud")
    assert "Did you mean 'uniform'?" in refused(*model, "--allocation", "unifrom")


def test_unknown_key_in_a_recipe_names_line_and_key(refused, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {name: resnet20_cifar10}\nstages:\n  - stage: sparsify\n    sparisty: 0.5\n")
    assert "recipe.yaml:4: unknown key 'sparisty' in stage 'sparsify'. Did you mean 'sparsity'?" in refused(
        "-r", recipe
    )


def test_recipe_and_contradicting_option(refused, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_networks.RECIPE)
    assert "contradict" in refused("-r", recipe, "--sparsity", "0.7")


def test_corrupt_image_is_named(refused, photos, tmp_path):
    import shutil

    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "test" / "dog" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
    sentence = refused("resnet20_cifar10", "--data", f"imagefolder:{folder}", *QUICK, out=tmp_path / "run")
    assert "dog/2.png" in sentence


def test_wrong_class_count_names_both(refused, photos):
    sentence = refused("tiny_networks:network", "--data", f"imagefolder:{photos}", "--classes", "7", *QUICK)
    assert "2 classes" in sentence and "7" in sentence


def test_weights_of_another_model(refused, photos, tmp_path):
    save_file({"stem.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "other.safetensors")
    sentence = refused(
        "resnet20_cifar10", "--data", f"imagefolder:{photos}", "--weights", tmp_path / "other.safetensors"
    )
    assert "other.safetensors" in sentence and "resnet20_cifar10" in sentence


def test_weights_that_are_not_numbers(refused, tmp_path):
    from secateur import zoo

    state = zoo.model("resnet20_cifar10").state_dict()
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    sentence = refused("resnet20_cifar10", "--weights", tmp_path / "nan.safetensors")
    assert "layer2.0.conv1.weight" in sentence


def test_pretrained_weights_that_nobody_publishes(refused):
    assert "no weights are published" in refused("resnet20_cifar10", "--weights", "pretrained")


def test_bad_numbers_are_sentences(refused):
    model = ("tiny_networks:network", "--data", "tiny_networks:images")
    assert "--batches takes whole numbers" in refused(*model, "--batches", "1,x")
    assert "'sparsity'" in refused(*model, "--sparsity", "1.5")


def test_a_refused_run_leaves_earlier_results_intact(call, refused, tmp_path):
    out = tmp_path / "run"
    command = ("tiny_networks:network", "-d", "tiny_networks:images", *QUICK, "-s", "0.5", "--base", "selected",
               "--runtimes", "onnxruntime", "--repeats", "2")  # fmt: skip
    assert call("compress", *command, "-o", out)[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    refused("resnet20_cifar", out=out)
    assert "another recipe" in refused(*command[:-6], "-s", "0.25", "--base", "selected", out=out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs to mount a small file system (root)")
def test_a_disk_that_fills_up_is_a_sentence(tmp_path):
    """A file system of 300 KiB: the run stops with one sentence, what it had finished stays readable."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(tiny_networks.RECIPE)
        command = [sys.executable, "-m", "secateur", "compress", "-r", recipe, "-o", disk / "run"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 2, done.stderr
        assert "No space left on device" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert [stage.name for stage in load_record(disk / "run").stages][:1] in ([], ["01-train"])
    finally:
        subprocess.run(["umount", disk], check=True)
