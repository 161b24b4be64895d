"""A stage that makes zeros without labels, killed anywhere, goes on and ends as if nothing had been."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import tiny_networks
from secateur.pipeline import Context
from secateur.pipeline.stages.posttraining import posttraining_stage
from secateur.recipe import PosttrainingStage, parse_recipe


def job(folder, stage):
    """One run, in this process or in one that will be killed; the state that it ends with."""
    torch.manual_seed(0)
    context = Context(
        parse_recipe(tiny_networks.RECIPE), folder, tiny_networks.images(), tiny_networks.Tiny(), stage_folder=folder
    )
    posttraining_stage(context, PosttrainingStage.model_validate(stage))
    (folder / "end").touch()
    return context.network.state_dict()


JOB = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
import torch
import test_posttraining_resumes
torch.set_num_threads(1)
test_posttraining_resumes.job(Path({folder!r}), {stage!r})
"""
KILLED = {
    "images": 24,
    "held_out": 8,
    "batch_size": 12,
    "sparsity": 0.6,
    "budget": 600,
    "tuning": {"steps": 40, "batch_size": 8, "checkpoint_seconds": 1e-9, "augment": False},
    "reconstruction": {"steps": 60, "unit": "layer"},
}


@pytest.fixture(scope="module")
def one_thread():
    """Sums in another order differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def undisturbed(one_thread, tmp_path_factory):
    return job(tmp_path_factory.mktemp("whole"), KILLED)


@pytest.mark.parametrize("mark", ["database/index.json", "second", "units", "tuning/tuning.safetensors"])
def test_kill_9_and_on(tmp_path, undisturbed, mark):
    """Killed when `mark` has appeared; the next start ends with the network of a run that nothing disturbed."""
    paths = [str(Path(__file__).parent), *sys.path]
    code = JOB.format(paths=paths, folder=str(tmp_path), stage=KILLED)
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / mark).exists() and process.poll() is None:
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / mark).exists() and not (tmp_path / "end").exists()
    ended = job(tmp_path, KILLED)
    assert ended.keys() == undisturbed.keys()
    assert all(torch.equal(value, undisturbed[key]) for key, value in ended.items())
