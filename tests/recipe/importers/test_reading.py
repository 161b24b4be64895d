"""Keys are read by name and kind; what is wrong is told with line, key and the nearest known key."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe.document import parse_document
from secateur.recipe.importers import Reading

TEXT = "a: 1e-5\nb: text\nc: [x, y]\nd: {inner: 3}\ne: true\nf: 2.5\ng: .nan\nh: .inf\n"


def fields():
    return Reading(parse_document(TEXT, "f.yaml")).fields()


def test_numbers_of_yaml_that_are_texts_are_numbers():
    assert fields().number("a") == 1e-5


def test_values_by_kind():
    found = fields()
    assert found.text("b") == "text" and found.texts("c") == ("x", "y") and found.flag("e")
    assert found.section("d").whole("inner") == 3


def test_defaults_hold_where_a_key_is_missing():
    assert fields().number("z", 0.5) == 0.5 and fields().text("z", None) is None and not fields().flag("z")


@pytest.mark.parametrize(
    ("ask", "line", "words"),
    [
        (lambda f: f.number("b"), 2, "'b' in the file is a number, found 'text'"),
        (lambda f: f.whole("f"), 6, "is a whole number, found 2.5"),
        (lambda f: f.whole("h"), 8, "is a number, found inf"),
        (lambda f: f.number("g"), 7, "is a number, found nan"),
        (lambda f: f.number("f", low=0.0, high=1.0), 6, "is from 0 to 1, found 2.5"),
        (lambda f: f.text("c"), 3, "is a text"),
        (lambda f: f.texts("b"), 2, "is a list of names"),
        (lambda f: f.numbers("c"), 3, "is a list of numbers"),
        (lambda f: f.flag("f"), 6, "is true or false"),
        (lambda f: f.section("b"), 2, "is a mapping of keys"),
        (lambda f: f.text("b", choices=("test", "best")), 2, "Did you mean 'test'?"),
        (lambda f: f.number("z"), 1, "needs the key 'z'"),
    ],
)
def test_a_wrong_value_is_a_sentence_with_its_line(ask, line, words):
    with pytest.raises(RecipeError) as caught:
        ask(fields())
    assert str(caught.value).startswith(f"f.yaml:{line}: ") and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_that_nobody_asked_for_is_an_error_with_the_nearest_known_one():
    found = Reading(parse_document("levle: 1\nother: 2\n", "f.yaml")).fields()
    found.ignore("level", "other")
    with pytest.raises(RecipeError, match=r"f\.yaml:1: unknown key 'levle' in the file\. Did you mean 'level'\?"):
        found.finish()


def test_a_note_is_remembered_once_with_its_line():
    reading = Reading(parse_document(TEXT, "f.yaml"))
    for _ in range(2):
        reading.note(("b",), "Something.")
    assert [str(note) for note in reading.notes] == ["f.yaml:2: Something."]


def test_ignored_keys_are_noted_only_where_a_reason_is_given():
    found = fields()
    found.ignore("a")
    found.ignore("b", "absent", because="there is none here")
    assert [note.text for note in found.reading.notes] == ["'b' is not imported: there is none here."]
