"""A run: stages in order, kept when finished, resumed when killed, never destroying what is not its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

import secateur
import tiny_networks
from secateur import api
from secateur.errors import ArtifactError, DataError, RecipeError, SecateurError
from secateur.export import load_weights, open_artifact
from secateur.measure import runtimes
from secateur.pipeline import Context, load_artifact_network, load_record, run_recipe
from secateur.pipeline.stage_keys import stage_keys
from secateur.recipe import parse_recipe
from secateur.sparsity import census, masks

RECIPE = parse_recipe(tiny_networks.RECIPE)


def start(folder, recipe=RECIPE, **options):
    context = Context.of(recipe, folder)
    return context, run_recipe(context, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("run")
    context, record = start(folder)
    return folder, context, record


def without_times(value):
    """A result without the seconds that it took."""
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if key != "seconds"}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def numbers(record):
    """The results that a repeated run must give again: all but what was timed."""
    return [(stage.name, without_times(stage.result)) for stage in record.stages if stage.kind != "benchmark"]


def test_every_stage_leaves_its_result(finished):
    folder, _, record = finished
    assert record.finished
    assert [stage.name for stage in record.stages] == [
        "01-train", "02-evaluate", "03-sparsify", "04-evaluate", "05-export", "06-benchmark", "07-report",
    ]  # fmt: skip
    assert load_record(folder).stages == record.stages
    assert len(record.results("sparsify")[0]["history"]) == 3
    assert record.results("evaluate")[0]["images"] == 32
    assert (folder / "report.html").stat().st_size > 10_000


def test_artifact_is_the_masked_network(finished):
    folder, context, _ = finished
    artifact = open_artifact(folder)
    network = load_artifact_network(artifact.weights)
    image = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(network(image), context.network(image))
    assert not masks(network)
    for name, mask in masks(context.network).items():
        assert not (network.get_submodule(name).weight[~mask]).any()
    assert census(network).nonzeros == census(context.network).nonzeros


def test_chosen_layers_have_the_asked_zeros(finished):
    _, context, record = finished
    plan = record.results("sparsify")[0]["plans"][0]
    assert {layer["name"] for layer in plan["layers"] if layer["level"] is not None} == {"body", "point"}
    # body: 4 blocks of 4 filters x 8 channels = 32 kernels; point: 4 blocks and one of 2 filters, x 16 = 80
    zeros = {name: int((~mask).sum()) for name, mask in masks(context.network).items()}
    assert zeros["body"] == 16 * 4 * 9
    assert 40 * 2 <= zeros["point"] <= 40 * 4


def test_torch_runtime_gives_the_networks_outputs(finished):
    folder, context, _ = finished
    from secateur.measure import Subject

    run = runtimes["torch"]().load(Subject("compressed", artifact=folder), 1, 2)
    image = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        expected = context.network(image).numpy()
    assert abs(run(image.numpy()) - expected).max() < 1e-5


def test_same_recipe_again_runs_nothing(finished):
    folder, _, record = finished
    before = {path: path.stat().st_mtime_ns for path in (folder / "stages").rglob("*") if path.is_file()}
    _, again = start(folder)
    assert again.stages == record.stages
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "stages").rglob("*") if path.is_file()}


def test_another_recipe_is_refused_and_the_difference_named(finished):
    folder, _, record = finished
    other = parse_recipe(tiny_networks.RECIPE.replace("sparsity: 0.5", "sparsity: 0.75"))
    with pytest.raises(ArtifactError, match=r"another recipe.*stages\.2\.sparsity: 0\.5 there, 0\.75 here"):
        start(folder, other)
    assert load_record(folder).stages == record.stages


def test_a_file_that_a_stage_reads_counts_by_what_it_holds(tmp_path):
    levels = tmp_path / "levels.yaml"
    text = tiny_networks.RECIPE.split("  - {stage: export")[0]
    recipe = parse_recipe(text.replace("sparsity: 0.5", f"allocation: listed\n    levels_file: {levels}"))
    context = Context.of(recipe, tmp_path / "run")
    layer = next(name for name, module in context.network.named_modules() if isinstance(module, torch.nn.Conv2d))
    levels.write_text(f"{layer}: 0.25\n")
    before = stage_keys(context)
    assert stage_keys(context) == before
    levels.write_text(f"{layer}: 0.5\n")
    after = stage_keys(context)
    first = next(index for index, stage in enumerate(recipe.stages) if stage.stage == "sparsify")
    assert after[:first] == before[:first] and not set(after[first:]) & set(before)


def test_overwriting_keeps_the_stages_that_are_the_same(finished, tmp_path):
    stages = RECIPE.stages[:4]
    _, first = start(tmp_path, RECIPE.model_copy(update={"stages": stages}))
    changed = stages[2].model_copy(update={"sparsity": 0.25})
    other = RECIPE.model_copy(update={"stages": (*stages[:2], changed, stages[3])})
    _, second = start(tmp_path, other, overwrite=True)
    assert second.stages[:2] == first.stages[:2]
    assert second.results("sparsify")[0]["plans"][0]["sparsity"] == 0.25


def test_a_longer_recipe_goes_on(tmp_path):
    _, first = start(tmp_path, RECIPE.model_copy(update={"stages": RECIPE.stages[:2]}))
    _, second = start(tmp_path, RECIPE.model_copy(update={"stages": RECIPE.stages[:4]}))
    assert second.stages[:2] == first.stages
    assert len(second.stages) == 4


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(ArtifactError, match=r"holds other files \(thesis\.txt\)"):
        start(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "important"


def test_a_folder_in_use_is_refused(tmp_path):
    import fcntl

    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArtifactError, match="another process is working on this run"):
            start(tmp_path)


def test_benchmark_without_export_is_a_sentence(tmp_path):
    with pytest.raises(RecipeError, match="a stage 'export' must come first"):
        start(tmp_path, RECIPE.model_copy(update={"stages": (RECIPE.stages[5],)}))


def test_unreadable_image_keeps_earlier_results(tmp_path):
    broken = parse_recipe(tiny_networks.RECIPE.replace("tiny_networks:images", "tiny_networks:broken_images"))
    train = broken.stages[0].model_copy(update={"training": broken.stages[0].training.model_copy(update={"epochs": 0})})
    with pytest.raises(DataError, match=r"images/a/7\.png"):
        start(tmp_path, broken.model_copy(update={"stages": (train, *broken.stages[1:])}))
    assert [stage.name for stage in load_record(tmp_path).stages] == ["01-train"]


def test_overwriting_leaves_no_old_artifact_beside_new_results(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    changed = RECIPE.stages[2].model_copy(update={"sparsity": 0.25})
    start(folder, RECIPE.model_copy(update={"stages": (*RECIPE.stages[:2], changed)}), overwrite=True)
    with pytest.raises(ArtifactError, match="not a finished artifact"):
        open_artifact(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("damage", ["missing", "garbage", "run.json"])
def test_a_damaged_run_says_so_and_can_be_overwritten(finished, tmp_path, damage):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    short = RECIPE.model_copy(update={"stages": RECIPE.stages[:2]})
    if damage == "missing":
        shutil.rmtree(folder / "stages")
    elif damage == "garbage":
        (folder / "stages" / "03-sparsify" / "result.json").write_text("{")
    else:
        (folder / "run.json").write_text('{"version": 1, "stages": 3}')
    with pytest.raises(ArtifactError, match=r"Start the run anew with --overwrite\."):
        start(folder)
    assert start(folder, short, overwrite=True)[1].finished


@pytest.mark.parametrize("file", ["model.onnx", "dense/weights.safetensors", "report.html"])
def test_a_finished_run_that_lost_a_file_makes_it_again(finished, tmp_path, file):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / file).unlink()
    _, record = start(folder)
    assert (folder / file).is_file()
    assert numbers(record) == numbers(finished[2])


def test_other_options_of_the_same_tensors_are_another_run(tmp_path):
    recipe = "model: {name: mobilenet_v1_025_imagenet, classes: 4, options: {input_size: 32, padding: PAD}}\n"
    recipe += (
        "data: {name: 'tiny_networks:images'}\nstages: [{stage: sparsify, training: {epochs: 0}, base: selected}]\n"
    )
    start(tmp_path, parse_recipe(recipe.replace("PAD", "tensorflow")))
    with pytest.raises(ArtifactError, match="another recipe"):
        start(tmp_path, parse_recipe(recipe.replace("PAD", "torch")))


def test_faults_are_found_before_anything_is_trained(tmp_path):
    for old, new, sentence in (
        ("pattern: 1x4", "pattern: 3x3", "3x3"),
        ("runtimes: [onnxruntime]", "runtimes: [onnx]", "unknown runtime 'onnx'"),
    ):
        with pytest.raises(SecateurError, match=sentence):
            start(tmp_path / "run", parse_recipe(tiny_networks.RECIPE.replace(old, new)))
        assert not (tmp_path / "run").exists()


def test_a_network_given_as_an_object_stays_as_it_is(tmp_path):
    network = tiny_networks.network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = api.compress(network, tiny_networks.images(), out=tmp_path, epochs=0, sparsity=0.5, base="selected",
                          runtimes=("onnxruntime",), repeats=1)  # fmt: skip
    assert "train" not in [stage.kind for stage in result.record.stages]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_diverged_network_is_a_sentence(tmp_path):
    network = tiny_networks.network()
    network.classifier.bias.data[0] = float("inf")
    with pytest.raises(SecateurError, match="outputs are no numbers"):
        api.compress(network, tiny_networks.images(), {"model": {"name": "x"}, "stages": [{"stage": "evaluate"}]},
                     out=tmp_path)  # fmt: skip


def test_a_network_given_as_an_object_is_counted_and_timed_by_its_onnx_file(tmp_path):
    stages = [stage.model_dump() for stage in (RECIPE.stages[2], RECIPE.stages[4])]
    stages[0]["training"]["epochs"] = 0
    recipe = {"model": {"name": "any"}, "stages": stages}
    api.compress(tiny_networks.network(), tiny_networks.images(), recipe, out=tmp_path)
    counts = api.census(tmp_path)
    assert 0 < counts.nonzeros < counts.weights
    result = secateur.benchmark(tmp_path, runtimes=["onnxruntime"], threads=[1], repeats=2, warmup=1)
    assert [row.subject for row in result.rows] == ["dense", "compressed"]


KILLER = """
import os, signal, sys
from pathlib import Path
wanted, folder = int(sys.argv[1]), Path(sys.argv[2])
count, replace = 0, Path.replace
def counted(self, target):
    global count
    if count == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    return replace(self, target)
Path.replace = counted
import tiny_networks
import secateur
from secateur import api
from secateur.recipe import parse_recipe
api.compress(recipe=parse_recipe(tiny_networks.RECIPE), out=folder)
print(count)
"""


def run_until(folder, write):
    """A run in its own process that kills itself with -9 just before its write number `write`."""
    command = [sys.executable, "-c", textwrap.dedent(KILLER), str(write), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_killed_runs_end_with_the_same_numbers(finished, tmp_path):
    """Killed in training, in sparsify, in the middle of the export and of the report, one after another."""
    undisturbed, _, record = finished
    in_training = run_until(tmp_path, 8)
    assert in_training.returncode == -signal.SIGKILL, in_training.stderr
    assert load_record(tmp_path).stages == ()
    reached = []
    # Every sitting gets a bit further: a number of writes, then kill -9.
    for writes in (40, 52, 8, 30):
        done = run_until(tmp_path, writes)
        reached.append([stage.name for stage in load_record(tmp_path).stages])
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(map(len, reached)) == list(map(len, reached))
    last = run_until(tmp_path, -1)
    assert last.returncode == 0, last.stderr
    assert numbers(load_record(tmp_path)) == numbers(record)
    ours, _ = load_weights(tmp_path / "weights.safetensors")
    theirs, _ = load_weights(undisturbed / "weights.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.onnx", "weights.safetensors", "report.json"])
def test_killed_while_one_file_is_written(finished, tmp_path, file):
    """kill -9 in the middle of export and report: nothing half-written is left, and the same command finishes."""
    undisturbed, _, record = finished
    shutil.copytree(undisturbed, tmp_path / "run")
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    keep = 4 if file in ("model.onnx", "weights.safetensors", "plan.json") else 6
    state["stages"] = state["stages"][:keep]
    (tmp_path / "run" / "run.json").write_text(json.dumps(state))
    (tmp_path / "run" / file).unlink()
    script = textwrap.dedent(KILLER).replace(
        "if count == wanted:", f"if Path(target) == folder / {file!r} and wanted >= 0:"
    )
    command = [sys.executable, "-c", script, "0", str(tmp_path / "run")]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "run" / file).exists()
    again = subprocess.run([*command[:3], "-1", *command[4:]], capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert numbers(load_record(tmp_path / "run")) == numbers(record)
    assert (tmp_path / "run" / file).stat().st_size > 0


@pytest.mark.slow
def test_two_processes_give_one_run(tmp_path):
    """torchrun with two gloo processes: both train, one writes, and the artifact is whole."""
    script = tmp_path / "job.py"
    script.write_text(
        "import sys, tiny_networks\nfrom secateur import api\nfrom secateur.recipe import parse_recipe\n"
        f"api.compress(recipe=parse_recipe(tiny_networks.RECIPE), out={str(tmp_path / 'run')!r})\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    record = load_record(tmp_path / "run")
    assert record.finished
    assert record.results("export")[0]["check"]["passed"]
