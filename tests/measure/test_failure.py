"""What is kept of an error's text."""

from secateur.measure.failure import first_line


def test_the_first_line_that_says_something():
    assert first_line(RuntimeError("\n  shapes differ \nmore")) == "shapes differ"
    assert first_line(RuntimeError("")) == "RuntimeError"


def test_places_in_openvinos_source_say_nothing():
    text = "Exception from src/inference/src/cpp/core.cpp:117:\nException from src/x.cpp:1:\nArgument shapes differ"
    assert first_line(RuntimeError(text)) == "Argument shapes differ"
