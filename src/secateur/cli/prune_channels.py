"""`secateur prune-channels`: a network without its least important channels."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from secateur.cli.options import FileOrName, InputSize, OnnxOut, WeightsOfName


class Base(StrEnum):
    macs = "macs"
    parameters = "parameters"
    channels = "channels"


class Scope(StrEnum):
    uniform = "uniform"
    everywhere = "global"


def prune_channels(
    context: typer.Context,
    model: FileOrName,
    out: OnnxOut,
    weights: WeightsOfName = None,
    target: Annotated[float, Option(help="Fraction of --base that goes.")] = 0.5,
    base: Annotated[Base, Option(help="What --target is a fraction of.")] = Base.macs,
    scope: Annotated[
        Scope, Option(help="The same share of every group, or the lowest scores of the whole network.")
    ] = Scope.uniform,
    criterion: Annotated[str, Option(help="How filters are scored: l1, l2, fpgm, random, ...")] = "l2",
    round_to: Annotated[int, Option(help="Channels that stay are a multiple of this.")] = 1,
    min_channels: Annotated[int | None, Option(help="Fewest channels that stay; by default --round-to.")] = None,
    exclude: Annotated[str, Option(help="Layers that stay whole: names or globs, separated by commas.")] = "",
    input_size: InputSize = None,
    plan: Annotated[
        Path | None, Option(help="A plan that was saved before: it is carried out, nothing is chosen.", metavar="FILE")
    ] = None,
    save_plan: Annotated[Path | None, Option(help="Also write the plan as JSON.", metavar="FILE")] = None,
) -> None:
    """Take the channels out that matter least. Accuracy falls; train again, or start from `secateur compress`.

    Channels that are added, joined or shuffled go together: the table says which layers make each group, and why a
    group stays whole. A plan made on a torch network can be replayed on the ONNX file that was exported from it.

    `secateur prune-channels model.onnx -o half.onnx --target 0.5 --base macs --round-to 8`
    """
    from secateur import api
    from secateur.channels import RemovalPlan
    from secateur.cli.options import given_options
    from secateur.cli.values import shape, words
    from secateur.errors import RecipeError
    from secateur.files import read_json, write_json

    options = given_options(context, exclude=("model", "out", "weights", "input_size", "plan", "save_plan"))
    if plan is not None and options:
        raise RecipeError(f"--plan says what goes; leave --{min(options).replace('_', '-')} out.")
    options |= {"exclude": words(exclude)} if "exclude" in options else {}
    found = api.prune_channels(
        model,
        out,
        options.pop("target", target),
        plan=RemovalPlan.from_dict(read_json(plan)) if plan is not None else None,
        input_size=shape("--input-size", input_size),
        weights=weights,
        **options,
    )
    if save_plan is not None:
        write_json(save_plan, found.to_dict())
    typer.echo(str(found))
    typer.echo(str(out))
