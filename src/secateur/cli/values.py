"""Reading what was typed."""

from collections.abc import Iterable
from typing import Any

import typer

from secateur.errors import RecipeError


def chosen(context: typer.Context, exclude: tuple[str, ...]) -> dict[str, Any]:
    """The options that the user gave, without those that stand at their defaults."""
    given = {}
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if name not in exclude and source is not None and source.name != "DEFAULT":
            given[name] = value
    return given


def words(text: str) -> tuple[str, ...]:
    """Comma-separated words."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Comma-separated whole numbers. raises RecipeError."""
    try:
        found = tuple(int(word) for word in words(text))
    except ValueError as error:
        raise RecipeError(f"{option} takes whole numbers separated by commas, such as 1,8; found '{text}'.") from error
    if not found or min(found) < 1:
        raise RecipeError(f"{option} takes numbers of at least 1, found '{text}'.")
    return found


def fractions(option: str, text: str) -> tuple[float, ...]:
    """Comma-separated fractions of at least 0 and below 1. raises RecipeError."""
    try:
        found = tuple(float(word) for word in words(text))
    except ValueError as error:
        raise RecipeError(f"{option} takes fractions separated by commas, such as 0.3,0.5; found '{text}'.") from error
    if not found or not all(0.0 <= value < 1.0 for value in found):
        raise RecipeError(f"{option} takes fractions of at least 0 and below 1, such as 0.3,0.5; found '{text}'.")
    return found


def levels(option: str, text: str) -> tuple[float, ...]:
    """A range such as 0:0.95:0.05, its end included, or comma-separated fractions. raises RecipeError."""
    if ":" not in text:
        return fractions(option, text)
    wrong = RecipeError(f"{option} takes start:stop:step, such as 0:0.95:0.05; found '{text}'.")
    try:
        start, stop, step = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise wrong from error
    if not (0.0 <= start <= stop < 1.0 and step >= 0.001):
        raise wrong
    count = round((stop - start) / step)
    found = tuple(round(start + step * index, 6) for index in range(count + 1))
    return fractions(option, ",".join(str(level) for level in found if level <= stop + 1e-9))


def bits_of_layers(option: str, texts: Iterable[str]) -> dict[str, int]:
    """Bits by name, from texts such as fc=8. raises RecipeError."""
    found: dict[str, int] = {}
    for text in texts:
        name, _, bits = text.rpartition("=")
        if not name or not bits.isdigit():
            raise RecipeError(f"{option} takes a layer and its bits, such as fc=8 or 'layer4.*=4'; found '{text}'.")
        found[name] = int(bits)
    return found


def shape(option: str, text: str | None) -> tuple[int, ...] | None:
    """An image size such as 3x224x224. raises RecipeError."""
    if text is None:
        return None
    sides = text.lower().replace(",", "x").split("x")
    if len(sides) != 3 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise RecipeError(f"{option} takes channels x height x width, such as 3x224x224; found '{text}'.")
    return tuple(map(int, sides))
