"""census, bench, report, models, data and doctor on the command line."""

import json
import subprocess
import sys

import pytest

import tiny_networks
from secateur import api
from secateur.cli import main
from secateur.recipe import parse_recipe


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    recipe = parse_recipe(tiny_networks.RECIPE)
    stages = (recipe.stages[2].model_copy(update={"training": recipe.stages[2].training.model_copy(
        update={"epochs": 0})}), recipe.stages[4])  # fmt: skip
    api.compress(recipe=recipe.model_copy(update={"stages": stages}), out=folder)
    return folder


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["secateur", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            assert not stop.code, capsys.readouterr().err
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["secateur", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        return capsys.readouterr().err

    return run


def test_census_of_a_run_an_onnx_file_and_a_name_agree_on_weights(call, run_folder):
    of_run = json.loads(call("census", run_folder, "--json"))["totals"]
    of_file = json.loads(call("census", run_folder / "model.onnx", "--json"))["totals"]
    assert of_run["nonzeros"] == of_file["nonzeros"] < of_run["weights"] == of_file["weights"]
    assert of_run["sparse_macs"] == of_file["sparse_macs"]


def test_census_prints_the_published_totals(call):
    out = call("census", "resnet50")
    assert "25,502,912" in out and "4,089,184,256" in out


def test_census_structure(call, run_folder):
    assert "2D" in call("census", run_folder, "--structure", "--summary")


def test_census_of_what_is_nothing(refused, tmp_path):
    assert "Did you mean 'resnet18'?" in refused("census", "resnet1818")
    assert "missing.onnx" in refused("census", tmp_path / "missing.onnx")
    assert "input-size" in refused("census", "resnet18", "--input-size", "224")
    assert "such as 3x224x224; found 'foo'" in refused("census", "resnet18", "--input-size", "foo")


def test_bench_times_dense_and_compressed_side_by_side(call, run_folder):
    out = call("bench", run_folder, "--against", "onnxruntime,torch", "--repeats", "3", "--warmup", "1",
               "--threads", "1", "--data", "tiny_networks:images")  # fmt: skip
    assert out.count("dense") >= 2 and out.count("compressed") >= 2
    assert "expected:" in out and "uses zeros: no" in out and "uses zeros: yes" in out
    assert "times faster" in out


def test_bench_of_an_onnx_file_as_json(call, run_folder):
    out = json.loads(call("bench", run_folder / "model.onnx", "--against", "onnxruntime", "--repeats", "3",
                          "--threads", "1", "--json"))  # fmt: skip
    assert out["speedups"] is None
    assert [row["runtime"] for row in out["benchmark"]["rows"]] == ["secateur", "onnxruntime"]
    assert out["benchmark"]["rows"][0]["timing"]["median_ms"] > 0


def test_bench_of_an_unknown_runtime(refused, run_folder):
    assert "Did you mean 'onnxruntime'?" in refused("bench", run_folder, "--against", "onnxruntim")


def test_report_is_written_again(call, run_folder):
    (run_folder / "report.html").unlink(missing_ok=True)
    assert str(run_folder / "report.html") in call("report", run_folder, "--title", "Mine")
    assert "Mine" in (run_folder / "report.html").read_text()


def test_report_of_what_is_no_run(refused, tmp_path):
    assert "not a run folder" in refused("report", tmp_path)


def test_models_and_data(call):
    assert "resnet20_cifar10" in call("models", "resnet20*")
    assert "1,437 training images, 360 test images, 10 classes" in call("data", "digits")
    assert "imagefolder" in call("data")


def test_unknown_models_are_a_sentence(refused):
    assert "no model is called 'xyz*'" in refused("models", "xyz*")


def test_doctor_names_cpu_runtimes_and_what_zeros_do_there(call):
    out = call("doctor")
    assert "CPU" in out and "onnxruntime" in out and "uses zeros: no" in out


def test_doctor_says_what_the_engine_has(call, monkeypatch, tmp_path):
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    assert f"kernel cache   usable: {tmp_path / 'cache'}" in call("doctor")
    monkeypatch.setenv("SECATEUR_CACHE", "off")
    out = call("doctor")
    assert "kernel cache   off: switched off" in out
    assert any(f"kernels        {isa}" in out for isa in ("avx512", "avx2", "neon"))


def test_version(call):
    import secateur

    assert call("--version").strip() == f"secateur {secateur.__version__}"


@pytest.mark.parametrize("command", ["compress", "census", "explain", "bench", "report", "models", "data", "doctor"])
def test_help_teaches(call, command):
    out = call(command, "--help")
    assert "Usage" in out and len(out) > 300


def test_help_needs_no_torch():
    script = (
        "import sys\nsys.argv = ['secateur', 'compress', '--help']\nfrom secateur.cli import main\n"
        "try: main()\nexcept SystemExit: pass\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0
