"""Recipes from YAML, our own and those of other tools, and back."""

from pathlib import Path

import yaml

from secateur.files import write_text
from secateur.progress import say
from secateur.recipe.build import build_recipe
from secateur.recipe.document import Document, parse_document, read_document
from secateur.recipe.importers import import_document, is_foreign
from secateur.recipe.schema import Recipe


def load_recipe(
    path: Path | str, model: str | None = None, data: str | None = None, weights: str | None = None
) -> Recipe:
    """The recipe in a YAML file, ours or one of Distiller or MSBench; what an import has to say goes to stderr.

    model, data, weights    for files of other tools: in place of what they name, or do not name
    raises                  RecipeError  with file, line and key
    """
    document = read_document(path)
    return _imported(document, model, data, weights) if is_foreign(document) else _own(document)


def parse_recipe(text: str, source: str = "recipe") -> Recipe:
    """The recipe in a YAML text, as `load_recipe`; `source` names it in errors. raises RecipeError."""
    document = parse_document(text, source)
    return _imported(document) if is_foreign(document) else _own(document)


def _own(document: Document) -> Recipe:
    return build_recipe(document.value, document.source, document.lines)


def _imported(
    document: Document, model: str | None = None, data: str | None = None, weights: str | None = None
) -> Recipe:
    imported = import_document(document, model, data, weights)
    for note in imported.notes:
        say(str(note))
    return imported.recipe


def recipe_to_yaml(recipe: Recipe, short: bool = False) -> str:
    """The recipe as YAML that `parse_recipe` reads back to an equal recipe.

    short    only what was given when it was made; otherwise every default is written out
    """
    value = recipe.model_dump(mode="json", exclude_unset=short)
    value["stages"] = [{"stage": stage["stage"], **stage} for stage in value["stages"]]
    return yaml.safe_dump(value, sort_keys=False, width=110, default_flow_style=None if short else False)


def save_recipe(recipe: Recipe, path: Path | str) -> None:
    """Write the recipe as YAML, atomically."""
    write_text(path, recipe_to_yaml(recipe))
