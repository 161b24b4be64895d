"""Checkpoints: what they hold, and that one that cannot be trusted stops the run with a sentence."""

import json
import resource

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from secateur.errors import DiskError, TrainingError
from secateur.files import sha256_of
from secateur.recipe import Distillation
from secateur.training import fit
from secateur.training.checkpoint import Place, load_checkpoint_, save_checkpoint
from secateur.training.history import History, Row
from secateur.training.optimizer import build_optimizer, optimizer_tensors

RUN = {"seed": 0, "config": {"epochs": 3, "momentum": 0.9}, "teacher": None}
PLACE = Place(
    epoch=1,
    batch=4,
    loss_sum=0.1 + 0.2,
    correct=3,
    images=32,
    seconds=1.5,
    history=History((Row(0, 0.1, 1 / 3, 50.0, None, 99.0, 0.7, 0.25, 2.0),)),
)


@pytest.fixture
def trained(job):
    """A model and an optimiser that remembers a step."""
    model = job.network().to(memory_format=torch.channels_last)
    job.sparsifier(model).update_(15)
    optimizer = build_optimizer(model, job.settings(optimizer="adamw"))
    model(torch.randn(4, 3, job.SIDE, job.SIDE)).sum().backward()
    optimizer.step()
    return model, optimizer


def fresh(job):
    model = job.network().to(memory_format=torch.channels_last)
    job.sparsifier(model)
    return model, build_optimizer(model, job.settings(optimizer="adamw"))


def test_everything_comes_back(job, trained, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, PLACE, *trained, RUN)
    model, optimizer = fresh(job)
    assert load_checkpoint_(path, model, optimizer, RUN) == PLACE
    for name, value in trained[0].state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    memory, expected = optimizer_tensors(optimizer), optimizer_tensors(trained[1])
    assert memory.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(memory[name], value) and memory[name].stride() == value.stride(), name
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_no_file_is_the_beginning(job, tmp_path):
    assert load_checkpoint_(tmp_path / "none", *fresh(job), RUN) == Place()


def test_every_flipped_byte_is_noticed(job, trained, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, PLACE, *trained, RUN)
    whole = path.read_bytes()
    for position in range(0, len(whole), len(whole) // 60):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(TrainingError, match=r"Delete checkpoint.safetensors to train from the beginning"):
            load_checkpoint_(path, *fresh(job), RUN)


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, -1])
def test_a_truncated_file(job, trained, tmp_path, kept):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, PLACE, *trained, RUN)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(TrainingError, match="is damaged or no checkpoint"):
        load_checkpoint_(path, *fresh(job), RUN)


def test_a_folder_in_its_place(job, tmp_path):
    with pytest.raises(TrainingError, match="is damaged or no checkpoint"):
        load_checkpoint_(tmp_path, *fresh(job), RUN)


def test_weights_of_a_model_are_no_checkpoint(job, trained, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_file({"weight": torch.ones(3)}, path)
    with pytest.raises(TrainingError, match="is damaged or no checkpoint"):
        load_checkpoint_(path, *fresh(job), RUN)


def test_a_later_version(job, trained, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, PLACE, *trained, RUN)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    record = json.loads(metadata["secateur"]) | {"version": 2}
    save_file(load_file(path), path, metadata | {"secateur": json.dumps(record)})
    with pytest.raises(TrainingError, match="has checkpoint version 2; this Secateur reads 1"):
        load_checkpoint_(path, *fresh(job), RUN)


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (RUN | {"seed": 1}, "belongs to another run: seed was 0 there and is 1 now"),
        (RUN | {"config": {"epochs": 3, "momentum": 0.8}}, r"config\.momentum was 0\.9 there and is 0\.8 now"),
        (RUN | {"teacher": "abc"}, "its teacher had other weights"),
        (RUN | {"sparsifier": {"seed": 1}}, "sparsifier was None there"),
    ],
)
def test_another_run(job, trained, tmp_path, run, sentence):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, PLACE, *trained, RUN)
    model, optimizer = fresh(job)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TrainingError, match=sentence):
        load_checkpoint_(path, model, optimizer, run)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not optimizer_tensors(optimizer)


def test_another_model(job, trained, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, PLACE, *trained, RUN)
    wider = job.network(width=12)
    job.sparsifier(wider)
    with pytest.raises(
        TrainingError, match=r"another model: '0\.weight' is float32 \(8, 3, 3, 3\) there and float32 \(12"
    ):
        load_checkpoint_(path, wider, build_optimizer(wider, job.settings()), RUN)
    unmasked = job.network()
    with pytest.raises(TrainingError, match=r"belongs to another model: the file has no tensor"):
        load_checkpoint_(path, unmasked, build_optimizer(unmasked, job.settings()), RUN)
    longer, optimizer = fresh(job)
    longer.append(nn.Linear(6, 6))
    with pytest.raises(TrainingError, match=r"the file has no tensor '9\.weight'"):
        load_checkpoint_(path, longer, optimizer, RUN)


def test_fit_refuses_the_checkpoint_of_other_settings_and_leaves_it(job, tmp_path):
    def run(teacher=None, **settings):
        distillation = Distillation.model_validate({}) if teacher else None
        options = {"folder": tmp_path, "preprocessing": job.PREPROCESSING, "distillation": distillation}
        return fit(job.network(), job.images(), job.settings(epochs=1, **settings), teacher=teacher, **options)

    run()
    path = tmp_path / "checkpoint.safetensors"
    before = sha256_of(path)
    with pytest.raises(TrainingError, match=r"config\.learning_rate was 0\.05 there and is 0\.06 now\. Delete"):
        run(learning_rate=0.06)
    with pytest.raises(TrainingError, match=r"distillation was None there"):
        run(teacher=job.network())
    assert sha256_of(path) == before
    run(checkpoint_seconds=7.0)
    assert sha256_of(path) == before, "how often it is written is no part of the run"


def test_a_full_disk_leaves_the_checkpoint_before(job, trained, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, PLACE, *trained, RUN)
    before = sha256_of(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, hard))
    try:
        with pytest.raises(DiskError, match=r"checkpoint\.safetensors: cannot be written: File too large"):
            save_checkpoint(path, Place(epoch=2), *trained, RUN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sha256_of(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
