"""Recipes of other tools, read as they are: Distiller, MSBench, 1xN and PocketFlow."""

import secateur.recipe.importers.distiller
import secateur.recipe.importers.msbench
import secateur.recipe.importers.one_by_n
import secateur.recipe.importers.pocketflow  # noqa: F401  (the imports register what they read)
from secateur.recipe.importers.importing import (
    CommandImporter,
    Draft,
    FileImporter,
    Imported,
    command_lines,
    import_command,
    import_document,
    import_recipe,
    import_text,
    importers,
    is_foreign,
    tool_of,
    words_of,
)
from secateur.recipe.importers.provenance import Check, ExpectedLayer, Provenance, check_against
from secateur.recipe.importers.reading import Fields, Note, Reading

__all__ = [
    "Check",
    "CommandImporter",
    "Draft",
    "ExpectedLayer",
    "Fields",
    "FileImporter",
    "Imported",
    "Note",
    "Provenance",
    "Reading",
    "check_against",
    "command_lines",
    "import_command",
    "import_document",
    "import_recipe",
    "import_text",
    "importers",
    "is_foreign",
    "tool_of",
    "words_of",
]
