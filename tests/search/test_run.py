"""The search as a whole, on objectives whose best table is known."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from secateur.errors import ArtifactError, RecipeError, SparsityError
from secateur.recipe import LevelSearch
from secateur.search import LevelDecision, LevelProblem, check_learner, search

SIZES = (400, 2000, 8000, 16000)
PROBLEM = LevelProblem(tuple(LevelDecision(f"l{i}", (8, 8, 3, 3), n) for i, n in enumerate(SIZES)), 0.6, "single")
# Whoever knows which layers are tender leaves them at the smallest level and takes the rest from the others.
TENDER = {"l0": 0.05, "l1": 0.3, "l2": 0.5, "l3": 0.75}


def accuracy(table):
    np.random.random(3), torch.rand(2), random.random()  # an evaluation may draw what it likes
    return math.exp(-sum(3 * (share - TENDER[name]) ** 2 for name, share in table.items()))


needs_ddpg = pytest.mark.skipif(
    any(__import__("importlib").util.find_spec(name) is None for name in ("stable_baselines3", "gymnasium")),
    reason="needs stable-baselines3 and gymnasium (pip install 'secateur[search]')",
)


def settings(**changes):
    return LevelSearch(**{"rollouts": 16, "warmup": 6, **changes})


def rows_of(folder):
    return [json.loads(path.read_text()) for path in sorted((folder / "rollouts").iterdir())]


@needs_ddpg
@pytest.mark.parametrize("noise", ["parameters", "adaptive", "actions"])
def test_ddpg_beats_chance_on_a_known_objective(tmp_path, noise):
    found = search(PROBLEM, accuracy, tmp_path, settings(rollouts=60, warmup=15, noise=noise), seed=1)
    assert len(found.rollouts) == 60 == len(rows_of(tmp_path))
    last = [row.accuracy for row in found.rollouts[-10:]]
    chance = [row.accuracy for row in found.rollouts[:15]]
    assert found.best.reward == max(row.reward for row in found.rollouts)
    assert np.mean(last) > np.mean(chance)
    assert found.table == found.best.table and list(found.table) == ["l0", "l1", "l2", "l3"]


@needs_ddpg
def test_the_same_seed_tries_the_same_tables_and_leaves_random_numbers_alone(tmp_path):
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = float(torch.rand(1)), np.random.random(), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    one = search(PROBLEM, accuracy, tmp_path / "one", settings(), seed=3)
    assert (float(torch.rand(1)), np.random.random(), random.random()) == expected
    two = search(PROBLEM, lambda table: accuracy(table), tmp_path / "two", settings(), seed=3)
    other = search(PROBLEM, accuracy, tmp_path / "other", settings(), seed=4)
    assert one.rollouts == two.rollouts != other.rollouts


class StopError(Exception):
    pass


@needs_ddpg
@pytest.mark.parametrize("stop", [0, 11])
def test_a_search_that_was_stopped_ends_like_one_that_was_not(tmp_path, stop):
    whole = search(PROBLEM, accuracy, tmp_path / "whole", settings(noise="adaptive"), seed=3)
    asked = []

    def until(table):
        if len(asked) == stop:
            raise StopError
        asked.append(table)
        return accuracy(table)

    with pytest.raises(StopError):
        search(PROBLEM, until, tmp_path / "part", settings(noise="adaptive"), seed=3)
    assert len(rows_of(tmp_path / "part")) == stop if stop else not (tmp_path / "part" / "rollouts").exists()
    again = []

    def counted(table):
        again.append(table)
        return accuracy(table)

    found = search(PROBLEM, counted, tmp_path / "part", settings(noise="adaptive"), seed=3)
    assert len(again) == 16 - stop
    assert found == whole


@needs_ddpg
def test_a_search_survives_kill_9(tmp_path):
    program = """
        import os, signal, sys
        sys.path.insert(0, os.path.dirname(sys.argv[2]))
        import test_run as job
        asked = []
        def accuracy(table):
            asked.append(table)
            if len(asked) == 10:
                os.kill(os.getpid(), signal.SIGKILL)
            return job.accuracy(table)
        job.search(job.PROBLEM, accuracy, sys.argv[1], job.settings(), seed=3)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "killed"), __file__]
    killed = subprocess.run(command, env=os.environ, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(rows_of(tmp_path / "killed")) == 9
    found = search(PROBLEM, accuracy, tmp_path / "killed", settings(), seed=3)
    assert found == search(PROBLEM, accuracy, tmp_path / "whole", settings(), seed=3)


def test_a_finished_search_asks_nobody(tmp_path):
    found = search(PROBLEM, accuracy, tmp_path, settings(learner="random"))
    assert search(PROBLEM, None, tmp_path, settings(learner="random")) == found  # type: ignore[arg-type]


def test_a_damaged_roll_out_is_tried_again(tmp_path):
    found = search(PROBLEM, accuracy, tmp_path, settings(learner="random"))
    (tmp_path / "rollouts" / "00015.json").write_text("{")
    (tmp_path / "rollouts" / "00009.json").write_text('{"number": 9}')
    assert search(PROBLEM, accuracy, tmp_path, settings(learner="random")) == found


def test_chance_is_a_learner_too(tmp_path):
    found = search(PROBLEM, accuracy, tmp_path, settings(learner="random"), seed=2)
    actions = np.array([row.actions for row in found.rollouts])
    assert actions.shape == (16, 4) and 0.4 < actions.mean() < 0.6
    total = sum(SIZES)
    for row in found.rollouts:
        assert sum(n * share for n, share in zip(SIZES, row.table.values(), strict=True)) >= 0.6 * total - 1e-6


def test_the_folder_of_another_search_is_left_alone(tmp_path):
    search(PROBLEM, accuracy, tmp_path, settings(learner="random"))
    for problem, seed, depends_on in ((PROBLEM, 1, None), (PROBLEM, 0, {"network": "other"})):
        with pytest.raises(ArtifactError, match="holds a search of another network"):
            search(problem, accuracy, tmp_path, settings(learner="random"), seed=seed, depends_on=depends_on)


@pytest.mark.parametrize("value", [float("nan"), 1.5, -0.1])
def test_an_accuracy_is_a_fraction(tmp_path, value):
    with pytest.raises(SparsityError, match="fraction from 0 to 1"):
        search(PROBLEM, lambda table: value, tmp_path, settings(learner="random"))


def test_a_process_that_does_not_write(tmp_path):
    search(PROBLEM, accuracy, tmp_path, settings(learner="random"), writes=False)
    assert not list(tmp_path.iterdir())


def test_the_extra_is_asked_for_in_a_sentence(monkeypatch):
    monkeypatch.setattr("secateur.search.run.PACKAGES", ("no_such_package",))
    with pytest.raises(RecipeError, match=r"pip install 'secateur\[search\]'"):
        check_learner(settings())
    check_learner(settings(learner="random"))


def test_the_room_is_imported_without_the_extra():
    script = "import sys, secateur.search; sys.exit(any(m in sys.modules for m in ('stable_baselines3', 'gymnasium')))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
