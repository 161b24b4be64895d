"""`secateur sensitivity`: which layers can be pruned, and how far."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

# What a granularity is called as a pattern.
PATTERNS = {"element": "unstructured", "filter": "filter", "channel": "channel"}


class Granularity(StrEnum):
    element = "element"
    filter = "filter"
    channel = "channel"


def sensitivity(
    model: Annotated[str, Argument(help="A name that `secateur models` lists, a run folder, or its weights file.")],
    data: Annotated[
        str, Option("--data", "-d", help="digits, cifar10, imagefolder:DIR or module:callable.")
    ] = "digits",
    weights: Annotated[
        str | None, Option(help="'pretrained', a .safetensors or .pth file, or 'none'. By default the library's own.")
    ] = None,
    pattern: Annotated[
        str | None, Option("--pattern", "-p", help="unstructured, 1x4-fine, 2:4, filter, ...; by default unstructured.")
    ] = None,
    granularity: Annotated[
        Granularity | None, Option(help="In place of a pattern: single weights, filters or input channels.")
    ] = None,
    levels: Annotated[
        str, Option(help="Of every layer alone: start:stop:step, or fractions separated by commas.")
    ] = "0:0.95:0.05",
    criterion: Annotated[str, Option(help="magnitude, l2, taylor, ...: what decides which weights go.")] = "magnitude",
    output_error: Annotated[
        bool, Option("--output-error", help="Measure how the outputs change, not accuracy: needs no labels.")
    ] = False,
    images: Annotated[int, Option(help="So many test images, evenly spread.")] = 512,
    only: Annotated[
        list[str] | None, Option("--layer", help="Only this layer: a name or glob; may be repeated.")
    ] = None,
    exclude: Annotated[list[str] | None, Option(help="Not this layer: a name or glob; may be repeated.")] = None,
    seed: Annotated[int, Option(help="Same seed, same result.")] = 0,
    out: Annotated[Path, Option("--out", "-o", help="The folder; a stopped analysis goes on.")] = Path("sensitivity"),
    overwrite: Annotated[bool, Option("--overwrite", help="The folder may hold another analysis.")] = False,
) -> None:
    """Prune one layer at a time and see what it costs; nothing is retrained.

    Writes a table (csv, json) and a picture (png, svg): every layer at every level, and the curves of the layers that
    hurt most. The json is what `allocation: sensitivity` chooses the levels of a whole network from.

    `secateur sensitivity resnet20_cifar10 --weights resnet20.safetensors --data cifar10 --out sensitivity`

    `secateur sensitivity run --data imagefolder:DIR --granularity filter --levels 0.25,0.5,0.75 --output-error`
    """
    from secateur import api
    from secateur.cli.values import levels as read_levels
    from secateur.errors import RecipeError

    if pattern is not None and granularity is not None:
        raise RecipeError("--pattern and --granularity say the same thing; give one of them.")
    table = api.sensitivity(
        model,
        data,
        out=out,
        weights=weights,
        overwrite=overwrite,
        pattern=pattern or PATTERNS[(granularity or Granularity.element).value],
        criterion=criterion,
        levels=read_levels("--levels", levels),
        measure="output_error" if output_error else "top1",
        images=images,
        only=tuple(only or ()),
        exclude=tuple(exclude or ()),
        seed=seed,
    )
    typer.echo(str(table))
    typer.echo(str(out / "sensitivity.png"))
