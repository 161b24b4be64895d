"""`secateur translate`: what another tool was told, as a recipe."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from secateur.errors import RecipeError

if TYPE_CHECKING:
    from secateur.recipe.importers import Imported

YAML_SUFFIXES = (".yaml", ".yml")


def translate(
    source: Annotated[
        str,
        Argument(
            help="A YAML file of Distiller or MSBench, a command line in quotes, a file with one, or - for stdin."
        ),
    ],
    tool: Annotated[
        str | None, Option("--from", help="1xn, pocketflow or distiller, where a command line does not show it.")
    ] = None,
    model: Annotated[str | None, Option(help="In place of the network that it names.")] = None,
    data: Annotated[str | None, Option("--data", "-d", help="In place of the images that it names.")] = None,
    weights: Annotated[str | None, Option(help="'pretrained', a .safetensors or .pth file.")] = None,
    out: Annotated[Path | None, Option("--out", "-o", help="Write the recipe here and not to stdout.")] = None,
    check: Annotated[
        str | None,
        Option(
            help="Compare a run folder or network with the table of nonzeros in the file's comments instead; "
            "exit code 1 where they differ."
        ),
    ] = None,
) -> None:
    """Turn a schedule, configuration or command line of Distiller, MSBench, 1xN or PocketFlow into a recipe.

    What it cannot express, or what is different here, is said on stderr. `secateur compress` runs YAML files of these
    tools as they are.

    `secateur translate resnet50_pruned_85_schedule.yaml -o recipe.yaml`

    `secateur translate 'python imagenet.py --conv_type BlockL1Conv --N 4 --data_path DIR'`
    """
    from secateur.progress import say
    from secateur.recipe import recipe_to_yaml
    from secateur.recipe.importers import check_against

    imported = _imported(source, tool, model, data, weights)
    if check is not None:
        from secateur import api

        if out is not None:
            raise RecipeError("--check compares and writes no recipe; leave --out out.")
        compared = check_against(imported.provenance, api.census(check))
        typer.echo(str(compared))
        if not compared.agrees:
            raise typer.Exit(1)
        return
    for note in imported.notes:
        say(str(note))
    text = recipe_to_yaml(imported.recipe, short=True)
    if out is None:
        typer.echo(text, nl=False)
    else:
        from secateur.files import write_text

        write_text(out, text)


def _imported(source: str, tool: str | None, *wanted: str | None) -> "Imported":
    from secateur.recipe.document import MAX_BYTES, read_text
    from secateur.recipe.importers import command_lines, import_command, import_recipe, import_text, importers

    name, text, yaml = "command", source, False
    if source == "-":
        name, text = "stdin", sys.stdin.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise RecipeError(f"stdin: is too large for a recipe (at most {MAX_BYTES} bytes).")
    elif not source.strip():
        raise RecipeError("nothing to translate: the source is empty.")
    elif Path(source).is_file() or (" " not in source.strip() and not source.startswith("-")):
        name, yaml = source, Path(source).suffix in YAML_SUFFIXES
        text = "" if yaml else read_text(Path(source))
    yaml = yaml or _is_yaml(text)
    if not yaml:
        return import_command(text, tool, name, *wanted)
    if tool is not None and tool in command_lines and tool not in importers:
        raise RecipeError(f"{name}: is YAML, but {tool} is told what to do by its command line; leave --from out.")
    found = import_text(text, name, *wanted) if text else import_recipe(name, *wanted)
    if tool is not None and tool != found.provenance.tool:
        raise RecipeError(f"{name}: is a file of {found.provenance.tool}, not of {tool}; leave --from out.")
    return found


def _is_yaml(text: str) -> bool:
    """Whether a text looks like YAML and not like a command: its first line of content is `key:`."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines) and lines[0].split("#")[0].split(" ")[0].endswith(":")
