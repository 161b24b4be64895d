"""`secateur census`: what a network holds."""

import json
from typing import Annotated

import typer
from typer import Argument, Option


def census(
    target: Annotated[str, Argument(help="A run folder, an ONNX file, or a name that `secateur models` lists.")],
    input_size: Annotated[
        str | None, Option(help="Channels x height x width, such as 3x224x224.", metavar="CxHxW")
    ] = None,
    structure: Annotated[
        bool, Option("--structure", help="Also which filters, channels, kernels, rows and columns are zero.")
    ] = False,
    summary: Annotated[bool, Option("--summary", help="Also shapes, volumes and MACs of every layer.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count weights, nonzeros and multiply-accumulates, layer by layer.

    Every percentage names its base: the weights among which zeros are counted.

    `secateur census resnet50`

    `secateur census model.onnx --json`
    """
    from secateur import api
    from secateur.cli.values import shape

    counts = api.census(target, input_size=shape("--input-size", input_size))
    if as_json:
        typer.echo(json.dumps(counts.to_dict(), indent=2))
        return
    typer.echo(str(counts))
    if summary:
        typer.echo("\n" + counts.compute_summary())
    if structure:
        typer.echo("\n" + str(api.structure(target)))
