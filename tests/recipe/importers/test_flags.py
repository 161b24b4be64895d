"""Words of a command line become flags, in argparse's and absl's styles."""

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import RecipeError
from secateur.recipe.document import Document
from secateur.recipe.importers import Reading
from secateur.recipe.importers.flags import parse_command


def parse(text, **options):
    reading = Reading(Document("command", text, {}))
    return parse_command(shlex.split(text), reading, **options)


@pytest.mark.parametrize("text", ["x.py --lr 0.1 -b 32", "x.py --lr=0.1 -b=32", "x.py --lr=0.1 -b32"])
def test_values_stand_behind_a_space_an_equals_sign_or_nothing(text):
    assert parse(text, short={"b": "batch-size"}).flags.value == {"lr": "0.1", "batch-size": "32"}


def test_switches_take_no_word_and_positional_words_remain():
    found = parse("x.py --pretrained DIR --lr 1", switches=("pretrained",))
    assert found.flags.value == {"pretrained": True, "lr": "1"} and found.positional == ("DIR",)


def test_a_switch_may_be_told_true_or_false():
    assert parse("x.py --nesterov false", switches=("nesterov",)).flags.value == {"nesterov": "false"}


def test_absl_turns_switches_off_by_no():
    found = parse("x.py --noenbl_dst --nodes 3", switches=("enbl_dst",), absl=True)
    assert found.flags.value == {"enbl_dst": False, "nodes": "3"}


def test_flags_with_several_values_end_at_the_next_flag():
    assert parse("x.py --gpus 0 1 --lr 2", several=("gpus",)).flags.value == {"gpus": ["0", "1"], "lr": "2"}


def test_negative_numbers_are_values():
    assert parse("x.py --init -3200").flags.value == {"init": "-3200"}


@pytest.mark.parametrize("before", ["", "time python3 -u ", "CUDA_VISIBLE_DEVICES=0 python ", "./run_local.sh nets/"])
def test_what_stands_before_the_script_is_no_flag(before):
    found = parse(f"{before}train.py --lr 1")
    assert found.script == "train.py" and found.flags.value == {"lr": "1"} and not found.positional


def test_a_flag_given_twice_with_two_values_is_refused():
    with pytest.raises(RecipeError, match="'lr' is given twice, as 1 and as 2"):
        parse("x.py --lr 1 --lr 2")


def test_too_many_words_are_refused():
    with pytest.raises(RecipeError, match="too many"):
        parse("x.py " + "a " * 3000)


@given(st.lists(st.text("ab-=1.", min_size=1, max_size=6), max_size=8))
@settings(deadline=None, max_examples=200)
def test_any_words_are_sorted_or_refused_with_a_sentence(words):
    reading = Reading(Document("command", "", {}))
    try:
        found = parse_command(words, reading, switches=("a",), short={"b": "bb"}, absl=True)
    except RecipeError:
        return
    assert len(found.positional) <= len(words)
