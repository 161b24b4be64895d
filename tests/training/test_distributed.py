"""Two Gloo processes on this machine train the same network, and without batch norm that of one process."""

import pytest
import torch
from safetensors.torch import load_file

from secateur.errors import TrainingError
from secateur.files import read_json
from secateur.training import History, distributed, fit


def run(run_job, *arguments):
    process = run_job(*arguments, processes=2)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def assert_equal_ranks(folder):
    ranks = [load_file(folder / f"final.{rank}.safetensors") for rank in range(2)]
    for name, value in ranks[0].items():
        if "running" not in name:  # each process saw its own images; the main one's statistics count
            assert torch.equal(ranks[1][name], value), name
    return ranks[0]


def test_two_processes_equal_one_without_batch_norm(job, run_job, tmp_path):
    run(run_job, tmp_path / "two", "--dropout", 0)
    two = assert_equal_ranks(tmp_path / "two")

    model = job.network(norm=False, dropout=0.0)
    one = fit(model, job.images(), job.settings(), folder=tmp_path / "one", preprocessing=job.PREPROCESSING)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)
    history = History.from_dict(read_json(tmp_path / "two" / "history.json"))
    for found, expected in zip(history.rows, one.rows, strict=True):
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert found.test_loss == pytest.approx(expected.test_loss, rel=1e-5)
        assert (found.train_accuracy, found.top1, found.top5) == (expected.train_accuracy, expected.top1, expected.top5)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        "checkpoint.safetensors", "final.0.safetensors", "final.1.safetensors", "history.json", "tensorboard",
    ]  # fmt: skip
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1, "one process writes"


@pytest.mark.slow
def test_masks_norms_and_teacher_on_two_processes_resume_exactly(run_job, tmp_path):
    flags = ("--norm", "--sparse", "--teacher")
    run(run_job, tmp_path / "whole", *flags)
    whole = assert_equal_ranks(tmp_path / "whole")
    masks = {name: value for name, value in whole.items() if name.endswith(".mask")}
    assert masks and all(0.3 < value.float().mean() < 0.7 for value in masks.values())

    process = run_job(tmp_path / "broken", *flags, "--stop", 17, processes=2)
    process.communicate(timeout=300)
    assert process.returncode != 0
    run(run_job, tmp_path / "broken", *flags)
    broken = assert_equal_ranks(tmp_path / "broken")
    assert all(torch.equal(broken[name], value) for name, value in whole.items())


def test_alone_it_is_a_group_of_one():
    distributed.start()
    assert not distributed.started()
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    distributed.barrier()
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(distributed.sum_over_group(values), torch.tensor([1.0, 2.0]))
    assert distributed.share_of(7) == 7


def test_a_batch_that_cannot_be_shared_is_a_sentence(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    assert distributed.share_of(64) == 16
    sentence = r"a batch of 66 images cannot be divided among 4 processes; .* multiple of 4"
    with pytest.raises(TrainingError, match=sentence):
        distributed.share_of(66)
