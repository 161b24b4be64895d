"""A YAML text as plain data, with the line of every key; what would be expensive to read is refused."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from secateur.errors import RecipeError

# A run writes its recipe with every default, a thousand bytes for each part of a stage; people write far less.
MAX_BYTES = 4 << 20
MAX_DEPTH = 20
# In C where PyYAML was built with it: ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Location = tuple[int | str, ...]


@dataclass(frozen=True)
class Document:
    """What a YAML text says.

    source    names it in sentences: its path
    lines     path of keys and indices -> line, counted from 1
    folder    where the file lies, if it is one
    """

    source: str
    text: str
    value: dict[str, Any]
    lines: dict[Location, int] = field(default_factory=dict)
    folder: Path | None = None

    def line(self, at: Location = ()) -> int | None:
        """The line of a key, or of the nearest thing around it that has one."""
        return next((self.lines[at[:n]] for n in range(len(at), -1, -1) if at[:n] in self.lines), None)

    def place(self, at: Location = ()) -> str:
        """What sentences begin with: file.yaml:12."""
        line = self.line(at)
        return f"{self.source}:{line}" if line else self.source


def read_document(path: Path | str) -> Document:
    """The YAML file at `path`. raises RecipeError with file and line."""
    path = Path(path)
    return parse_document(read_text(path), str(path), path.parent)


def read_text(path: Path) -> str:
    """The text of a file of a size that people write. raises RecipeError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{path}: the recipe cannot be read: {error.strerror}.") from error
    if len(raw) > MAX_BYTES:
        raise RecipeError(f"{path}: is too large for a recipe (at most {MAX_BYTES} bytes).")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: a recipe is UTF-8 text; byte {error.start} is not.") from error


def parse_document(text: str, source: str = "recipe", folder: Path | None = None) -> Document:
    """A YAML text whose root is a mapping. raises RecipeError."""
    value, lines = parse_yaml(text, source)
    if not isinstance(value, dict):
        raise RecipeError(f"{source}: a recipe is a mapping with the keys version, model, data, seed, stages.")
    return Document(source, text, cast(dict[str, Any], value), lines, folder)


def parse_yaml(text: str, source: str, aliases: bool = False) -> tuple[Any, dict[Location, int]]:
    """(what a YAML text says, the line of every key and item); the text may be hostile.

    aliases    a program wrote the text, and its parts may be one object; there are no lines then
    raises     RecipeError  not YAML, aliases or the keys that merge them, keys given twice, more than MAX_DEPTH levels
    """
    lines: dict[Location, int] = {}
    try:
        _refuse_bombs(text, source, aliases)
        loader = _LOADER(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None, lines
            if not aliases:
                _note_lines(root, (), lines, source)
            return loader.construct_document(root), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{source}:{line}: not valid YAML: {error.problem}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{source}: not valid YAML: {error}.") from error


def _refuse_bombs(text: str, source: str, aliases: bool) -> None:
    """Refuse what makes a small file expensive: aliases and merged keys that expand, and nesting without end."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1
        if aliases and isinstance(event, yaml.ScalarEvent) and event.value == "<<":
            raise RecipeError(f"{source}:{line}: YAML's merge key (<<) is not allowed.")
        if isinstance(event, yaml.AliasEvent) and not aliases:
            raise RecipeError(f"{source}:{line}: YAML aliases (*{event.anchor}) are not allowed.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise RecipeError(f"{source}:{line}: nested deeper than {MAX_DEPTH} levels; a recipe needs four.")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _note_lines(node: yaml.Node, at: Location, lines: dict[Location, int], source: str) -> None:
    """Fill `lines` with the line of every key and list item, and refuse keys given twice."""
    lines[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, child in node.value:
            name = str(key.value)
            if name in seen:
                raise RecipeError(f"{source}:{key.start_mark.line + 1}: the key '{name}' is given twice.")
            seen.add(name)
            _note_lines(child, (*at, name), lines, source)
            lines[(*at, name)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _note_lines(child, (*at, index), lines, source)
