"""Reading what another tool wrote: every key is asked for by name and kind; what nobody asked for is an error.

fields = reading.fields(("pruners", "conv"), "pruner 'conv'")
level = fields.number("final_sparsity", low=0.0, high=1.0)
fields.finish()        # schedule.yaml:9: unknown key 'finl_sparsity' in pruner 'conv'. Did you mean ...
"""

import contextlib
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeGuard

from secateur.errors import RecipeError
from secateur.recipe.document import Document, Location
from secateur.registry import unknown


@dataclass(frozen=True)
class Note:
    """Something that a user of the import must know: a sentence, and where it comes from."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass
class Reading:
    """One import on its way: the document, what the user wants instead of what it says, and the notes so far."""

    document: Document
    model: str | None = None
    data: str | None = None
    weights: str | None = None
    notes: list[Note] = field(default_factory=list)

    def within(self, document: Document) -> "Reading":
        """The same import, reading another document: a file that a command line names, or the other way round."""
        return Reading(document, self.model, self.data, self.weights, self.notes)

    def weights_for(self, model: str, named: str | None) -> str | None:
        """The user's weights, or else those that the document names; a note where there are none."""
        if self.weights is None and named is None:
            self.note((), f"no weights are named for {model}: it starts from random ones unless --weights is given.")
        return self.weights or named

    def note(self, at: Location, text: str) -> None:
        """Remember a sentence, once."""
        note = Note(self.document.place(at), text)
        if note not in self.notes:
            self.notes.append(note)

    def fail(self, at: Location, text: str) -> NoReturn:
        """raises    RecipeError  the sentence with its place"""
        raise RecipeError(f"{self.document.place(at)}: {text}")

    def fields(self, at: Location = (), where: str = "the file", kind: str = "key") -> "Fields":
        """The mapping at `at`; a key without a value counts as an empty one."""
        value: Any = self.document.value
        for part in at:
            value = value[part]
        if value is None:
            value = {}
        if not isinstance(value, dict):
            self.fail(at, f"{where} is a mapping of keys, found {_short(value)}.")
        return Fields(self, at, value, where, kind)


MISSING: Any = object()
# No setting of any tool is near this; beyond it arithmetic overflows.
LARGEST = 1e18


class Fields:
    """The keys of one mapping, each read once."""

    def __init__(self, reading: Reading, at: Location, value: dict[Any, Any], where: str, kind: str) -> None:
        self.reading, self.at, self.value, self.where, self.kind = reading, at, value, where, kind
        self.known: dict[str, None] = {}

    def __contains__(self, name: str) -> bool:
        self.known[name] = None
        return name in self.value

    def raw(self, name: str, default: Any = MISSING) -> Any:
        """The value as it stands. Without a default the key is required."""
        if name in self:
            return self.value[name]
        if default is MISSING:
            self.fail(None, f"{self.where} needs the {self.kind} '{name}'.")
        return default

    def text(self, name: str, default: Any = MISSING, choices: tuple[str, ...] = ()) -> Any:
        value = self.raw(name, default)
        if name not in self.value:
            return value
        if not isinstance(value, str):
            self.fail(name, f"'{name}' in {self.where} is a text, found {_short(value)}.")
        if choices and value not in choices:
            self.fail(name, unknown(name, value, choices))
        return value

    def number(self, name: str, default: Any = MISSING, low: float | None = None, high: float | None = None) -> Any:
        """A number; 1e-5, which YAML takes for a text, is one too."""
        value = self.raw(name, default)
        if name not in self.value:
            return value
        value = as_number(value)
        if not is_number(value):
            self.fail(name, f"'{name}' in {self.where} is a number, found {_short(self.value[name])}.")
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = f"from {low:g} to {high:g}" if high is not None and low is not None else f"at least {low:g}"
            self.fail(name, f"'{name}' in {self.where} is {bounds}, found {_short(self.value[name])}.")
        return value

    def whole(self, name: str, default: Any = MISSING, low: int = 0, high: int | None = None) -> Any:
        """A whole number."""
        value = self.number(name, default, low, high)
        if name not in self.value:
            return value
        if value != int(value):
            self.fail(name, f"'{name}' in {self.where} is a whole number, found {_short(self.value[name])}.")
        return int(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.raw(name, default)
        if not isinstance(value, bool):
            words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            value = words.get(str(value).lower(), value)
        if not isinstance(value, bool):
            self.fail(name, f"'{name}' in {self.where} is true or false, found {_short(value)}.")
        return value

    def texts(self, name: str, default: Any = MISSING) -> tuple[str, ...]:
        """A list of texts."""
        value = self.raw(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            self.fail(name, f"'{name}' in {self.where} is a list of names, found {_short(value)}.")
        return tuple(value)

    def numbers(self, name: str, default: Any = MISSING) -> tuple[float, ...]:
        """A list of numbers."""
        value = self.raw(name, default)
        if not isinstance(value, list | tuple) or not all(is_number(item) for item in value):
            self.fail(name, f"'{name}' in {self.where} is a list of numbers, found {_short(value)}.")
        return tuple(value)

    def section(self, name: str, where: str | None = None) -> "Fields":
        """The mapping under a key; an empty one where the key is missing."""
        if name not in self:
            return Fields(self.reading, self.at, {}, where or f"'{name}'", self.kind)
        return self.reading.fields((*self.at, name), where or f"'{name}'", self.kind)

    def ignore(self, *names: str, because: str | None = None) -> None:
        """Keys that mean nothing here; where a reason is given, those that stand in the file get a note."""
        for name in names:
            if name in self and because is not None:
                self.reading.note((*self.at, name), f"'{name}' is not imported: {because}.")

    def fail(self, name: str | None, text: str) -> NoReturn:
        self.reading.fail(self.at if name is None else (*self.at, name), text)

    def note(self, name: str | None, text: str) -> None:
        self.reading.note(self.at if name is None else (*self.at, name), text)

    def finish(self) -> None:
        """raises    RecipeError  a key that was never asked for, with the nearest that was"""
        for name in self.value:
            if name not in self.known:
                sentence = unknown(self.kind, str(name), self.known)
                self.fail(name, sentence.replace(".", f" in {self.where}.", 1) if "." not in str(name) else sentence)


def as_number(value: Any) -> Any:
    """The number that a text is (YAML takes 1e-5 for one); anything else as it is."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number of a size that a setting can have."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
