"""Damaged results are told by file and key, never by a traceback."""

import pytest

from secateur.errors import ArtifactError
from secateur.report.fields import Fields

FIELDS = Fields(
    {"x": 1.5, "n": 3, "s": "text", "none": None, "nan": float("nan"), "yes": True, "rows": [{"a": 1}], "dims": [4, 3]},
    "result.json",
)


def test_values_of_the_right_type_are_given_back() -> None:
    assert FIELDS.number("x") == 1.5
    assert FIELDS.integer("n") == 3
    assert FIELDS.text("s") == "text"
    assert FIELDS.shape("dims") == (4, 3)
    assert FIELDS.optional_number("none") is None
    assert FIELDS.optional_text("absent") is None
    assert FIELDS.rows("absent") == []
    assert FIELDS.rows("rows")[0].integer("a") == 1
    assert "none" not in FIELDS


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        (lambda: FIELDS.number("absent"), "result.json: damaged: 'absent' is missing; run that stage again."),
        (lambda: FIELDS.number("s"), "'s' is 'text' and not a finite number"),
        (lambda: FIELDS.number("nan"), "'nan' is nan and not a finite number"),
        (lambda: FIELDS.number("yes"), "'yes' is True and not a finite number"),
        (lambda: FIELDS.integer("x"), "'x' is 1.5 and not a whole number"),
        (lambda: FIELDS.text("n"), "'n' is 3 and not a text"),
        (lambda: FIELDS.rows("s"), "'s' is 'text' and not a list"),
        (lambda: FIELDS.rows("dims"), r"result.json: dims\[0\]: damaged: a mapping is expected, found int"),
        (lambda: FIELDS.fields("n"), "result.json: n: damaged: a mapping is expected, found int"),
    ],
)
def test_anything_else_is_a_sentence(read: object, sentence: str) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        read()  # type: ignore[operator]
