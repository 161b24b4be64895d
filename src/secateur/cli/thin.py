"""`secateur thin`: a network without the channels that it computes for nothing."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from secateur.cli.options import InputSize, OnnxOut


def thin(
    model: Annotated[str, Argument(help="An ONNX file from any tool, a run folder, or a weights file of a run.")],
    out: OnnxOut,
    input_size: InputSize = None,
    save_plan: Annotated[
        Path | None, Option(help="Also write what went, as JSON, to be replayed.", metavar="FILE")
    ] = None,
) -> None:
    """Take the channels out that are zero, or that nobody reads: the same function in a smaller file.

    Masked networks keep their shapes, so that runtimes compute every zero. Where a zero filter leaves a constant
    behind, it is folded into the biases of what reads it; where zero padding forbids that, the channel stays and the
    table says so.

    `secateur thin pruned.onnx -o thin.onnx`
    """
    from secateur import api
    from secateur.cli.values import shape
    from secateur.files import write_json

    plan = api.thin(model, out, input_size=shape("--input-size", input_size))
    if save_plan is not None:
        write_json(save_plan, plan.to_dict())
    typer.echo(str(plan))
    typer.echo(str(out))
