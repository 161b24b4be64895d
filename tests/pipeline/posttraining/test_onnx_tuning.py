"""Tuned ONNX files: nearer to the dense one or as they were; zeros stay, only weights and biases of layers change."""

import copy
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from secateur import zoo
from secateur.errors import PosttrainingError, RecipeError
from secateur.export import export_onnx
from secateur.graph import read_model
from secateur.pipeline.posttraining import gradients, onnx_accuracy
from secateur.pipeline.posttraining.agreement import agreement_of
from secateur.pipeline.posttraining.gradients import TuningJob, tune_network_
from secateur.pipeline.posttraining.images import images_for
from secateur.pipeline.posttraining.jobs import OnnxJob
from secateur.pipeline.posttraining.onnx_file import preview_onnx, sparsify_onnx
from secateur.pipeline.posttraining.onnx_tuning import checked_twin, tune_onnx_
from secateur.pipeline.posttraining.steps import Steps
from secateur.pipeline.posttraining.time_box import TimeBox
from secateur.posttraining.calibration import Calibration
from secateur.posttraining.losses import Divergence
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.subject_torch import TorchSubject
from secateur.recipe import PosttrainingStage, Tuning
from secateur.sparsity import masks, sparsify_
from secateur.zoo.image_data import ArrayImages

SMALL = zoo.Preprocessing((3, 8, 8), (0.5,) * 3, (0.15,) * 3)
QUICK = Tuning(steps=100, batch_size=16, evaluations=5, learning_rate=0.03, checkpoint_seconds=1e-9)
# What is no weight and no bias of a layer.
FROZEN = ("scale", "shift", "mean", "var", "slope", "factor", "term", "sides", "four")


def photos(count=400, seed=0):
    generator = np.random.default_rng(seed)

    def split(count):
        noise = generator.integers(0, 255, (count, 8, 8, 3))
        smooth = (noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)) // 3
        return ArrayImages(smooth.astype(np.uint8), np.zeros(count, np.int64))

    return zoo.ImageData("photos", split(count), split(8), ("any",))


def model_of(operator="Relu", named=True):
    """Convolutions, one depthwise, one used twice, a norm, a slope, a bound that an operator holds, both products."""
    generator = np.random.default_rng(3)

    def tensor(name, *shape, like=1.0):
        fan = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
        array = like * np.sqrt(2 / fan) * generator.standard_normal(shape)
        array = array - array.mean(0) if name == "last" else array  # so that no class wins always
        return numpy_helper.from_array(array.astype(np.float32), name)

    def node(op, inputs, output, **attributes):
        return helper.make_node(op, inputs, [output], name=f"{op}_{output}" if named else "", **attributes)

    sides = 12 * 4 * 4
    nodes = [
        node("Conv", ["x", "stem"], "a", pads=[1] * 4),
        node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], "b"),
        node("PRelu", ["b", "slope"], "c"),
        node("Conv", ["c", "twice", "twice_bias"], "d", pads=[1] * 4),
        node("Constant", [], "zero", value=numpy_helper.from_array(np.array(0.0, np.float32))),
        node("Clip", ["d", "zero", "four"], "e"),
        node("Conv", ["e", "twice", "other_bias"], "f", pads=[1] * 4),
        node("Conv", ["f", "depthwise"], "g", pads=[1] * 4, group=12, strides=[2, 2]),
        node("Mul", ["g", "factor"], "h"),
        node(operator, ["h"], "i"),
        node("Reshape", ["i", "sides"], "j"),
        node("MatMul", ["j", "product"], "k"),
        node("Relu", ["k"], "l"),
        node("Add", ["l", "term"], "m"),
        node("Gemm", ["m", "last", "last_bias"], "y"),
    ]
    tensors = [
        tensor("stem", 12, 3, 3, 3), tensor("scale", 12), tensor("shift", 12), tensor("mean", 12, like=0.1),
        numpy_helper.from_array(np.full(12, 0.5, np.float32), "var"),
        numpy_helper.from_array(np.full((12, 1, 1), 0.2, np.float32), "slope"),
        tensor("twice", 12, 12, 3, 3), tensor("twice_bias", 12, like=0.3), tensor("other_bias", 12, like=0.3),
        numpy_helper.from_array(np.array(4.0, np.float32), "four"),
        tensor("depthwise", 12, 1, 3, 3), tensor("factor", 1, 12, 1, 1, like=4.0),
        numpy_helper.from_array(np.array([-1, sides], np.int64), "sides"),
        tensor("product", sides, 24), tensor("term", 24, like=0.1), tensor("last", 24, 6, like=2.0),
        tensor("last_bias", 6, like=0.1),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def job(model, tuning=QUICK, asked=False, **stage):
    stage = {
        "sparsity": 0.85,
        "base": "selected",
        "images": 320,
        "held_out": 80,
        "errors": "output",
        # What tuning is to mend.
        "weigh_outputs": False,
        "second_pass": False,
    } | stage
    return OnnxJob("file.onnx", model, SMALL, photos(), PosttrainingStage(tuning=tuning, **stage), tuning_asked=asked)


def tensors_of(file):
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(folder of the closed form alone, that with tuning, what it says)"""
    plain, tuned = tmp_path_factory.mktemp("plain") / "run", tmp_path_factory.mktemp("tuned") / "run"
    sparsify_onnx(job(model_of(), None), plain)
    return plain, tuned, sparsify_onnx(job(model_of()), tuned)


def test_a_tuned_file_is_nearer_on_images_that_nobody_has_seen(runs):
    plain, tuned, found = runs
    subjects = [OnnxSubject(read_model(folder / "model.onnx"), SMALL) for folder in (plain, tuned)]
    dense = OnnxSubject(model_of(), SMALL)
    images = next(Calibration(tuple(range(128)), 0, photos(seed=5)).batches(SMALL, 128))

    def far(subject):
        return agreement_of(subject, dense, lambda: [images]).divergence

    assert far(subjects[1]) < 0.9 * far(subjects[0])
    report = json.loads((tuned / "result.json").read_text())
    assert [row["step"] for row in report["steps"]] == ["closed form", "tuning"] and report["steps"][1]["kept"]
    assert report["tuning"]["rows"][-1]["step"] == 100
    assert report["agreement"]["divergence"] == pytest.approx(report["steps"][1]["distance"], rel=1e-3)
    assert report["check"]["max_rel_error"] < 1e-5
    assert "tuning: KL distance" in str(found) and "undone" not in str(found)
    before = json.loads((plain / "result.json").read_text())
    assert before["steps"] == [] and before["tuning"] is None
    assert report["plans"] == before["plans"]


def test_zeros_stay_and_nothing_else_becomes_zero(runs):
    plain, tuned, _ = runs
    subjects = [OnnxSubject(read_model(folder / "model.onnx"), SMALL) for folder in (plain, tuned)]
    zeros = 0
    for name in (layer.name for layer in subjects[0].layers):
        before, after = (subject.weight(name) for subject in subjects)
        assert torch.equal(before == 0, after == 0) and not torch.equal(before, after), name
        zeros += int((after == 0).sum())
    assert zeros >= 0.85 * (12 * 12 * 9 + 12 * 16 * 24)


def test_what_is_no_weight_and_no_bias_stays(runs):
    plain, tuned, _ = runs
    before, after = tensors_of(plain / "model.onnx"), tensors_of(tuned / "model.onnx")
    assert before.keys() == after.keys()
    for name in FROZEN:
        assert np.array_equal(before[name], after[name]), name
    assert not np.array_equal(before["last_bias"], after["last_bias"])
    # Two biases beside one weight: the layer could not tell which of them moved.
    for name in ("twice_bias", "other_bias"):
        assert np.array_equal(before[name], after[name]), name
    nodes = [[(n.op_type, *n.output) for n in onnx.load(f / "model.onnx").graph.node] for f in (plain, tuned)]
    assert nodes[0] == nodes[1]


def test_a_broken_tuning_goes_on_to_the_same_file(runs, tmp_path, monkeypatch):
    real, calls = gradients.cut_mixed, []

    def breaking(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(gradients, "cut_mixed", breaking)
    with pytest.raises(KeyboardInterrupt):
        sparsify_onnx(job(model_of()), tmp_path / "run")
    assert (tmp_path / "run" / "work" / "tuning" / "tuning.safetensors").is_file()
    sparsify_onnx(job(model_of()), tmp_path / "run")
    # Five epochs, and one to see that the steps are over: the second start begins at the end of the third.
    assert len(calls) == 4 + 4
    for file in ("model.onnx", "weights.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (runs[1] / file).read_bytes()


# Torch's last bits depend on the number of threads.
KILLED_JOB = """
import sys
sys.path[:0] = {paths!r}
import torch
torch.set_num_threads({threads})
from pathlib import Path
from test_onnx_tuning import job, model_of
from secateur.pipeline.posttraining.onnx_file import sparsify_onnx
sparsify_onnx(job(model_of()), Path({out!r}))
"""


def test_kill_9_and_on(runs, tmp_path):
    """Killed while it is tuned; the next start ends with the file of a run that nothing disturbed."""
    out, mark = tmp_path / "run", tmp_path / "run" / "work" / "tuning" / "tuning.safetensors"
    paths = [str(Path(__file__).parent), *sys.path]
    code = KILLED_JOB.format(paths=paths, threads=torch.get_num_threads(), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        while not mark.exists() and process.poll() is None:
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    assert mark.exists() and not (out / "result.json").exists()
    sparsify_onnx(job(model_of()), out)
    for file in ("model.onnx", "weights.safetensors"):
        assert (out / file).read_bytes() == (runs[1] / file).read_bytes()


def test_a_tuning_that_does_not_help_is_undone(runs, tmp_path):
    wild = Tuning(optimizer="sgd", learning_rate=1e6, adapt_rate=False, warmup=0.0, steps=2)
    found = sparsify_onnx(job(model_of(), wild), tmp_path / "run")
    assert "undone" in str(found)
    assert (tmp_path / "run" / "model.onnx").read_bytes() == (runs[0] / "model.onnx").read_bytes()


def test_a_time_box_that_is_used_up_leaves_the_closed_form(tmp_path):
    found = sparsify_onnx(job(model_of(), Tuning(), budget=0.01), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "result.json").read_text())
    assert report["tuning"] is None and "tuning" not in str(found)
    assert report["budget"]["seconds"] == 0.01


def test_measuring_accuracy_is_not_what_the_budget_is_for(tmp_path, monkeypatch):
    """As of torch networks, where it is a stage of its own."""
    real, slow = onnx_accuracy.evaluate, 100.0

    def evaluate(*arguments, **more):
        clock[0] += slow
        return real(*arguments, **more)

    clock, now = [0.0], time.monotonic
    monkeypatch.setattr(onnx_accuracy, "evaluate", evaluate)
    monkeypatch.setattr(time, "monotonic", lambda: now() + clock[0])
    data = zoo.ImageData("labelled", photos().train, photos().test, tuple("abcdef"))
    sparsify_onnx(replace(job(model_of(), None, budget=60), data=data), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "result.json").read_text())
    assert clock[0] == 2 * slow and report["budget"]["spent"] < slow


def test_operators_without_names_are_tuned_too(tmp_path):
    found = sparsify_onnx(job(model_of(named=False)), tmp_path / "run")
    assert "tuning: KL distance" in str(found) and "undone" not in str(found)


def test_a_file_that_cannot_be_tuned_is_closed_form_with_a_sentence(tmp_path, capsys):
    """onnx2torch has no Shrink."""
    strange = model_of("Shrink")
    assert "no tuning" in preview_onnx(job(strange)) and "Shrink" in preview_onnx(job(strange))
    assert "tuned afterwards" in preview_onnx(job(model_of()))
    found = sparsify_onnx(job(strange), tmp_path / "run")
    (note,) = [note for note in found.notes if "Shrink" in note]
    assert note.startswith("not tuned, the closed form is the result: ") and note in str(found)
    assert note in capsys.readouterr().err
    sparsify_onnx(job(strange, None), tmp_path / "plain")
    for file in ("model.onnx", "plan.json"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()
    with pytest.raises(PosttrainingError, match=r"^file\.onnx: cannot be tuned: .*Shrink"):
        sparsify_onnx(job(strange, asked=True), tmp_path / "asked")
    assert not (tmp_path / "asked" / "work" / "grams").exists()


@pytest.mark.parametrize("keys", [{"norms": "train"}, {"masks": "learned"}, {"features": {"*": 1.0}}])
def test_what_a_file_cannot_have_is_refused(tmp_path, keys):
    with pytest.raises(RecipeError, match=f"tuning: an ONNX file cannot have {next(iter(keys))}"):
        sparsify_onnx(job(model_of(), Tuning(**keys)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_torch_network_and_its_file_end_alike(tmp_path):
    """The same zeros, images and settings; sums in another order are all that differs."""
    torch.manual_seed(0)
    dense = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6),
    ).eval()  # fmt: skip
    dense[-1].weight.data *= 8
    dense.preprocessing = SMALL
    file = OnnxSubject(read_model(export_onnx(dense, tmp_path / "dense.onnx", (3, 8, 8))), SMALL)
    sparse = copy.deepcopy(dense)
    sparsify_(sparse, 0.7, "unstructured", base="selected", include_classifier=True)
    subject, own = OnnxSubject(file.model, SMALL), TorchSubject(sparse)
    for name, mask in masks(sparse).items():
        for each in (subject, own):
            each.store_(name, own.weight(name), mask=mask)
    config = Tuning(steps=40, batch_size=16, norms="frozen")
    stage = PosttrainingStage(images=96, held_out=32, tuning=config)
    calibration, batches, held_out = images_for(photos(), stage, 0, SMALL)
    distance = Divergence(TorchSubject(dense), held_out)
    distance.subject = own
    steps = Steps(sparse, dense, distance, tmp_path / "torch" / "steps")
    steps.begin("closed form")
    job = TuningJob(config, calibration, held_out, (), TimeBox(None, tmp_path), tmp_path / "torch" / "tuning", 0)
    tune_network_(steps, job)
    student, teacher = checked_twin(subject, batches), checked_twin(file, batches)
    tuned = tune_onnx_(subject, student, teacher, replace(job, folder=tmp_path / "onnx"))
    assert steps.rows[1]["kept"] and tuned.steps[1]["kept"]
    assert steps.rows[1]["distance"] < 0.8 * steps.rows[0]["distance"]
    assert [row["distance"] for row in tuned.steps] == pytest.approx([row["distance"] for row in steps.rows], rel=1e-2)
    for name in (layer.name for layer in subject.layers):
        mine, theirs = subject.weight(name), own.weight(name)
        assert torch.equal(mine == 0, theirs == 0)
        assert torch.allclose(mine, theirs, atol=2e-3), (name, float((mine - theirs).abs().max()))
        assert torch.allclose(subject.bias(name), own.bias(name), atol=2e-3)
