"""The search around the dynamic programme: never worse than it, the same for a seed, resumed without measuring."""

import json

import pytest
import torch

import small_database as small
from secateur.errors import PosttrainingError
from secateur.posttraining.coefficients import SearchSettings, search_coefficients
from secateur.posttraining.losses import Divergence
from secateur.posttraining.stitch import StitchSettings, apply_, solve
from secateur.posttraining.target import Target

TARGET = Target("sparsity", 0.8)
SHORT = SearchSettings(trials=16, random=5, patience=3)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return small.database(tmp_path_factory.mktemp("db"), levels=(0.2, 0.4, 0.6, 0.8, 0.9))


@pytest.fixture(scope="module")
def found(database):
    return search_coefficients(small.subject(), database, TARGET, small.batches, settings=SHORT)


def test_the_best_choice_is_at_least_as_good_as_the_plain_one(database, found):
    plain = solve(database, TARGET)
    subject = small.subject()
    divergence = Divergence(subject, small.batches)
    apply_(subject, database, plain, masks=False)
    assert found.plain == divergence() and found.trials[0].divergence == found.plain
    apply_(subject, database, found.stitched, masks=False)
    assert found.divergence == divergence() < found.plain, "this network leaves something to be found"
    assert found.divergence == min(trial.divergence for trial in found.trials)
    assert found.stitched.cost <= found.stitched.budget and found.stitched.sparsity >= 0.8
    again = solve(database, TARGET, settings=StitchSettings(coefficients=found.coefficients))
    assert again.choice == found.stitched.choice


def test_the_network_holds_the_best_choice(database, tmp_path):
    subject, other = small.subject(), small.subject()
    found = search_coefficients(subject, database, TARGET, small.batches, settings=SHORT)
    apply_(other, database, found.stitched, masks=False)
    assert torch.equal(subject.run(small.batches()[0]), other.run(small.batches()[0]))


def test_the_same_seed_is_the_same_search(database, found, tmp_path):
    again = search_coefficients(small.subject(), database, TARGET, small.batches, settings=SHORT, folder=tmp_path)
    assert again == found
    other = SearchSettings(trials=16, random=5, patience=3, seed=1)
    assert search_coefficients(small.subject(), database, TARGET, small.batches, settings=other) != found


def test_a_stopped_search_goes_on_without_measuring_again(database, found, tmp_path, monkeypatch):
    measure, calls = Divergence.__call__, []

    def stopping(self):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return measure(self)

    monkeypatch.setattr(Divergence, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        search_coefficients(small.subject(), database, TARGET, small.batches, settings=SHORT, folder=tmp_path)
    again = search_coefficients(small.subject(), database, TARGET, small.batches, settings=SHORT, folder=tmp_path)
    assert again == found
    assert len(calls) == 6 + found.measured - 5, "five had been measured; equal choices are measured once"
    assert found.measured <= len(found.trials) == 16


def test_a_time_box_ends_with_the_best_so_far(database, tmp_path):
    none = SearchSettings(trials=50, seconds=0.0)
    found = search_coefficients(small.subject(), database, TARGET, small.batches, settings=none, folder=tmp_path)
    assert len(found.trials) >= 1 and found.measured == 1
    assert found.stitched.choice == solve(database, TARGET).choice and found.divergence == found.plain


def test_statistics_are_prepared_before_every_measurement(database, tmp_path):
    subject, calls = small.subject(), []
    found = search_coefficients(
        subject, database, TARGET, small.batches, settings=SHORT, prepare=lambda: calls.append(1), folder=tmp_path
    )  # fmt: skip
    assert len(calls) == found.measured + 1, "and once for the choice that stays"


def test_excluded_layers_stay_dense(database):
    held = StitchSettings(excluded={"stem": "first"})
    found = search_coefficients(small.subject(), database, Target("sparsity", 0.5), small.batches, held, SHORT)
    assert found.stitched.levels["stem"] == 0.0 and "stem" not in found.coefficients


def test_it_is_plain_data(found):
    value = json.loads(json.dumps(found.to_dict()))
    assert value["divergence"] == found.divergence and len(value["trials"]) == 16
    assert "with all coefficients 1; 16 trials" in str(found)


@pytest.mark.parametrize("bad", [{"trials": 0}, {"share": 0.0}, {"share": 1.1}, {"patience": 0}, {"random": -1}])
def test_settings_that_make_no_sense(bad):
    with pytest.raises(PosttrainingError, match="at least 1 trial"):
        SearchSettings(**bad)
