"""The registry of importers, and the verbs: a file or a command line of another tool becomes a recipe.

An importer of files is one class under `@importers.register("name")`, with `recognises` (is the file its own, from the
keys at its root) and `read` (a plain recipe as a dict, and where it comes from). An importer of command lines is the
same under `@command_lines`, and gets words. What it cannot express it notes in the reading; what contradicts itself it
refuses there, with the line.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from secateur.errors import RecipeError
from secateur.recipe.build import build_recipe
from secateur.recipe.document import Document, parse_document, read_document
from secateur.recipe.importers.provenance import Provenance
from secateur.recipe.importers.reading import Note, Reading
from secateur.recipe.schema import Recipe
from secateur.recipe.schema.sparsify import SparsifyPart
from secateur.registry import Registry


@dataclass(frozen=True)
class Imported:
    """A recipe, what its user must know, and where it comes from."""

    recipe: Recipe
    notes: tuple[Note, ...]
    provenance: Provenance


@dataclass(frozen=True)
class Draft:
    """What an importer makes: the recipe as plain data."""

    value: dict[str, Any]
    provenance: Provenance


class FileImporter(Protocol):
    """An importer of YAML files."""

    @staticmethod
    def recognises(value: dict[str, Any]) -> bool: ...
    @staticmethod
    def read(reading: Reading) -> Draft: ...


class CommandImporter(Protocol):
    """An importer of command lines."""

    @staticmethod
    def recognises(words: Sequence[str]) -> bool: ...
    @staticmethod
    def read(words: Sequence[str], reading: Reading) -> Draft: ...


# Pipes, redirections, the next command, a comment.
SHELL = re.compile(r"#|\|\|?$|&&?$|;$|[012&]?>")

USUAL_CAP: float = SparsifyPart.model_fields["cap"].default

importers: Registry[type[FileImporter]] = Registry("file format")
command_lines: Registry[type[CommandImporter]] = Registry("tool")


def is_foreign(document: Document) -> bool:
    """Whether the document is one of another tool, to judge by the keys at its root."""
    return any(importer.recognises(document.value) for importer in importers.values())


def import_recipe(
    path: Path | str, model: str | None = None, data: str | None = None, weights: str | None = None
) -> Imported:
    """The recipe that a file of Distiller or MSBench stands for.

    model, data, weights    in place of what the file names, or does not name
    raises                  RecipeError  with file and line: unknown or contradictory keys, neither model nor images
    """
    return import_document(read_document(path), model, data, weights)


def import_text(
    text: str,
    source: str = "recipe",
    model: str | None = None,
    data: str | None = None,
    weights: str | None = None,
) -> Imported:
    """The same from a YAML text."""
    return import_document(parse_document(text, source), model, data, weights)


def import_document(
    document: Document, model: str | None = None, data: str | None = None, weights: str | None = None
) -> Imported:
    """The same from a document that was read already."""
    importer = next((entry for entry in importers.values() if entry.recognises(document.value)), None)
    if importer is None:
        raise RecipeError(f"{document.source}: is a file of none of the tools that are read: {', '.join(importers)}.")
    reading = Reading(document, model, data, weights)
    return _finished(importer.read(reading), reading)


def import_command(
    command: str,
    tool: str | None = None,
    source: str = "command",
    model: str | None = None,
    data: str | None = None,
    weights: str | None = None,
) -> Imported:
    """The recipe that a command line of 1xN, PocketFlow or Distiller stands for.

    command    as it would be typed into a shell; line ends after a backslash are fine
    tool       1xn, pocketflow or distiller; by default the one whose script or flags these are
    raises     RecipeError  an unknown flag or tool, and flags that contradict each other
    """
    words = words_of(command, source)
    if tool is None:
        tool = tool_of(words)
    if tool is None:
        raise RecipeError(
            f"{source}: is no command of {', '.join(command_lines)}, by its script and flags; say which with --from."
        )
    reading = Reading(Document(source, command, {}), model, data, weights)
    return _finished(command_lines[tool].read(words, reading), reading)


def words_of(command: str, source: str = "command") -> list[str]:
    """The words of a command, as a shell would cut it; lines that begin with # are left out. raises RecipeError."""
    lines = [line for line in command.splitlines() if not line.lstrip().startswith("#")]
    try:
        words = shlex.split("\n".join(lines).replace("\\\n", ""))  # shlex keeps ends of lines behind a backslash
    except ValueError as error:
        raise RecipeError(f"{source}: cannot be read as a shell would: {str(error).lower()}.") from error
    words = words[1:] if words[:1] == ["$"] else words
    # What the shell does with the output, and the commands behind, are none of the program's flags.
    end = next((i for i, word in enumerate(words) if SHELL.match(word)), len(words))
    return words[:end]


def tool_of(words: Sequence[str]) -> str | None:
    """The tool whose script or flags these are."""
    return next((name for name, entry in command_lines.items() if entry.recognises(words)), None)


def _finished(draft: Draft, reading: Reading) -> Imported:
    document = reading.document
    if draft.value["data"].get("name") is None:
        raise RecipeError(f"{document.source}: does not say which images; give --data, such as imagefolder:DIR.")
    for stage in draft.value["stages"]:
        for part in (stage, *stage.get("parts", ())):
            _lift_cap(part)
    recipe = build_recipe(draft.value, f"{document.source}, imported")
    return Imported(recipe, tuple(reading.notes), draft.provenance)


def _lift_cap(part: dict[str, Any]) -> None:
    """Other tools have no bound on what one layer may lose; ours stays wherever the levels are below it."""
    levels = [part.get("sparsity"), *part.get("levels", {}).values(), *part.get("table", ())]
    if any(level is not None and level > USUAL_CAP for level in levels):
        part.setdefault("cap", 1.0)
