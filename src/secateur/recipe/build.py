"""A recipe from plain dicts, with errors that name the line, the key and the nearest valid key.

recipe.yaml:14: unknown key 'sparisty' in stage 'sparsify'. Did you mean 'sparsity'?
"""

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from secateur.errors import RecipeError
from secateur.recipe import schema
from secateur.recipe.document import Location
from secateur.recipe.expand import expanded
from secateur.recipe.schema import Recipe, Section
from secateur.registry import unknown


def build_recipe(value: dict[str, Any], source: str = "recipe", lines: dict[Location, int] | None = None) -> Recipe:
    """The recipe in plain dicts and lists. raises RecipeError with the first fault as a sentence."""
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        raise RecipeError(_first_fault(error, value, source, lines or {})) from error
    try:
        return expanded(recipe)
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from error


def _first_fault(error: ValidationError, value: Any, source: str, lines: dict[Location, int]) -> str:
    faults = error.errors(include_url=False)
    # A container is called too short when its only item is faulty: the fault inside is the one to tell.
    places = [fault["loc"] for fault in faults]
    faults = [
        f for f in faults if not any(len(at) > len(f["loc"]) and at[: len(f["loc"])] == f["loc"] for at in places)
    ]
    # An unknown key explains most other faults (a missing one, say): it comes first.
    faults.sort(key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    place, where, section = _walk(fault["loc"], value)
    line = next((lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in lines), None)
    prefix = f"{source}:{line}" if line else source
    key = str(place[-1]) if place else "recipe"
    kind, more = fault["type"], f" ({len(faults) - 1} more after this one.)" if len(faults) > 1 else ""
    if kind == "extra_forbidden":
        return f"{prefix}: {unknown('key', key, section)[:-1].replace('.', f' in {where}.', 1)}.{more}"
    if kind == "missing":
        return f"{prefix}: {where} needs the key '{key}'.{more}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = str(fault.get("ctx", {}).get("discriminator", "'stage'")).strip("'")
        given = fault["input"].get(tag) if isinstance(fault["input"], dict) else None
        known = _tags(tag)
        if given is None:
            return f"{prefix}: {where} needs the key '{tag}', one of {_listed(known)}.{more}"
        return f"{prefix}: {unknown(tag, str(given), known)}{more}"
    problem = fault["msg"].removeprefix("Value error, ")
    # A whole section is at fault, not a value: what is in it tells nothing, nor does its number among the stages.
    found = "" if isinstance(fault["input"], dict) else f", found {_short(fault['input'])}"
    named = where if found == "" and place and isinstance(place[-1], int) else f"'{key}' in {where}"
    return f"{prefix}: {named}: {problem[0].lower()}{problem[1:]}{found}.{more}"


def _walk(loc: Location, value: Any) -> tuple[Location, str, tuple[str, ...]]:
    """(path in the file, name of the section, its valid keys) of pydantic's location, which also holds union tags."""
    path: list[int | str] = []
    where, model = "the recipe", Recipe
    keys: tuple[str, ...] = tuple(Recipe.model_fields)
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        if isinstance(part, int) and isinstance(value, list | tuple) and part < len(value):
            path.append(part)
            value = value[part]
            continue
        if isinstance(value, dict) and part in value and not (part in _SECTIONS and not last):
            path.append(part)
            value = value[part]
            field = model.model_fields.get(str(part))
            inner = _section_of(field.annotation) if field else None
            if inner and not last:
                model, keys, where = inner, tuple(inner.model_fields), f"section '{part}'"
            continue
        if part in _SECTIONS:  # a union's tag: names the section, is no key of the file
            model = _SECTIONS[str(part)]
            keys = tuple(model.model_fields)
            where = f"stage '{part}'" if "stage" in model.model_fields else f"{where}, {part}"
            continue
        if last:
            path.append(part)
    return tuple(path), where, keys


def _section_of(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = [s for s in map(_section_of, get_args(annotation)) if s]
    return found[0] if len(found) == 1 else None


def _tagged_sections() -> dict[str, type[Section]]:
    """Every section that a tag selects (`stage: sparsify`, `kind: agp`) or that a union names by its class."""
    found: dict[str, type[Section]] = {}
    for section in vars(schema).values():
        if isinstance(section, type) and issubclass(section, BaseModel):
            found[section.__name__] = section  # type: ignore[assignment]
            for tag in ("stage", "kind"):
                if tag in section.model_fields:
                    values = get_args(section.model_fields[tag].annotation)
                    found |= dict.fromkeys(map(str, values), section)  # type: ignore[arg-type]
    return found


_SECTIONS = _tagged_sections()


def _tags(key: str) -> tuple[str, ...]:
    return tuple(name for name, section in _SECTIONS.items() if key in section.model_fields and name.islower())


def _listed(names: Any) -> str:
    return ", ".join(str(name) for name in names)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
