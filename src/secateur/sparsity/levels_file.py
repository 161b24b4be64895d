"""Levels of layers from a file, in the formats that other tools write. A file is data: nothing in it is run.

    list        numbers in the order of the layers, a line each or between commas (PocketFlow's ratio.list); # begins a
                comment
    mapping     YAML or JSON, name or glob: level
    folder      MSBench's saved analysis: dict_prun_table.txt holds {'module.layer': [level of every trial, ...], ...},
                lines 5 to 7 of desrie_prun_table.txt (sic) the chosen trials, what they achieved, and their Theta

Levels are fractions of zeros. PocketFlow's lists for channels say what is kept: `kept=True` turns them round.
"""

import ast
import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from secateur.errors import RecipeError, SparsityError
from secateur.recipe.document import parse_yaml

MOST_BYTES = 2**20
LEVELS_FILE, CHOSEN_FILE = "dict_prun_table.txt", "desrie_prun_table.txt"


def read_levels(
    path: Path | str, layers: Sequence[str] = (), *, target: float | None = None, kept: bool = False
) -> dict[str, float]:
    """Name or glob -> level.

    path      a list, a mapping, or a folder with MSBench's two tables
    layers    names in order: what the lines of a list mean
    target    which of an MSBench analysis' tables; the nearest is taken
    kept      the numbers of a list are shares that stay
    raises    SparsityError  the file is missing, damaged, too large, or does not fit the layers
    """
    found = Path(path)
    if found.is_dir():
        analysis = read_analysis(found)
        if target is None:
            raise SparsityError(f"{found}: holds tables for several targets; say which target is meant.")
        return analysis.levels(target)
    text = _text(found)
    words = [word.strip() for line in text.splitlines() for word in line.split("#")[0].split(",")]
    numbers = [_number(word) for word in words if word]
    if numbers and all(number is not None for number in numbers):
        return _from_list(found, cast(list[float], numbers), layers, kept)
    return _from_mapping(found, text)


@dataclass(frozen=True)
class Analysis:
    """The tables that MSBench saved.

    trials      layer -> level in every trial of its search
    chosen      (trial, achieved sparsity, Theta) of every target, ascending
    """

    trials: Mapping[str, tuple[float, ...]]
    chosen: tuple[tuple[int, float, float], ...]

    def levels(self, target: float) -> dict[str, float]:
        """The table whose total is nearest to `target`."""
        trial = min(self.chosen, key=lambda one: abs(one[1] - target))[0]
        return {name: levels[trial] for name, levels in self.trials.items()}


def read_analysis(folder: Path | str) -> Analysis:
    """The analysis that MSBench saved in a folder. raises SparsityError when it is damaged."""
    path, chosen_path = Path(folder) / LEVELS_FILE, Path(folder) / CHOSEN_FILE
    value = _literal(path, _text(path))
    if not isinstance(value, dict) or not value:
        raise SparsityError(f"{path}: must hold a dictionary from layers to lists of levels.")
    trials: dict[str, tuple[float, ...]] = {}
    for name, levels in cast(dict[Any, Any], value).items():
        if not isinstance(name, str) or not isinstance(levels, list):
            raise SparsityError(f"{path}: must hold a dictionary from layers to lists of levels.")
        trials[name.removeprefix("module.")] = tuple(_level(path, name, level) for level in cast(list[Any], levels))
    lines = _text(chosen_path).splitlines()
    rows = [_literal(chosen_path, line) for line in lines[4:7]]
    if len(rows) != 3 or not all(isinstance(row, list) for row in rows) or len({len(row) for row in rows}) != 1:
        raise SparsityError(f"{chosen_path}: lines 5 to 7 must be three lists of one length: trials, totals, energies.")
    chosen: list[tuple[int, float, float]] = []
    fewest = min(len(levels) for levels in trials.values())
    for trial, achieved, theta in zip(*cast(list[list[Any]], rows), strict=True):
        if not _is_whole(trial) or not 0 <= trial < fewest:
            raise SparsityError(f"{chosen_path}: {trial!r} is not one of the {fewest} trials in {LEVELS_FILE}.")
        number = _finite(theta)
        if number is None:
            raise SparsityError(f"{chosen_path}: {theta!r} is not a number.")
        chosen.append((trial, _level(chosen_path, "the total", achieved), number))
    if not chosen:
        raise SparsityError(f"{chosen_path}: names no trial.")
    return Analysis(trials, tuple(chosen))


def _from_list(path: Path, numbers: Sequence[float], layers: Sequence[str], kept: bool) -> dict[str, float]:
    if len(numbers) != len(layers):
        raise SparsityError(
            f"{path}: has {len(numbers)} levels for {len(layers)} layers; each number is one layer, in order."
        )
    levels = [_level(path, name, number) for name, number in zip(layers, numbers, strict=True)]
    return {name: 1.0 - level if kept else level for name, level in zip(layers, levels, strict=True)}


def _from_mapping(path: Path, text: str) -> dict[str, float]:
    try:
        if text.lstrip().startswith("{"):
            value = json.loads(text, object_pairs_hook=_once)
        else:
            value, _ = parse_yaml(text, str(path))
    except (RecipeError, ValueError, RecursionError) as error:
        first = str(error).splitlines()[0].removeprefix(f"{path}: ") if str(error) else type(error).__name__
        raise SparsityError(
            f"{path}: is neither a list of numbers nor a mapping from layers to levels: {first.rstrip('.')}."
        ) from error
    if not isinstance(value, dict) or not value:
        raise SparsityError(f"{path}: must hold one level a line, or layers with levels such as 'layer1.*: 0.5'.")
    levels: dict[str, float] = {}
    for name, level in cast(dict[Any, Any], value).items():
        if not isinstance(name, str):
            raise SparsityError(f"{path}: {name!r} is not the name of a layer.")
        layer = name.removeprefix("module.")
        if layer in levels:
            raise SparsityError(f"{path}: '{layer}' has two levels, once under the name 'module.{layer}'.")
        levels[layer] = _level(path, name, level)
    return levels


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. raises ValueError for a key given twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' is given twice")
    return found


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SparsityError(f"{path}: is larger than {MOST_BYTES // 2**20} MiB, too large for levels of layers.")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SparsityError(f"{path}: no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SparsityError(f"{path}: cannot be read as text: {error}.") from error


def _literal(path: Path, text: str) -> Any:
    """A Python literal: numbers, strings, lists and dictionaries, nothing that acts."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise SparsityError(f"{path}: is not a plain list or dictionary ({type(error).__name__}).") from error


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: Any) -> float | None:
    """The number that a value is, if it is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None


def _level(path: Path, name: str, value: Any) -> float:
    number = _finite(value)
    if number is None or not 0.0 <= number <= 1.0:
        shown = reprlib.repr(value)
        raise SparsityError(f"{path}: {name}: a level is a fraction from 0 to 1, not {shown}.")
    return number
