"""`secateur prune-weights`: zeros without any image."""

from enum import StrEnum
from typing import Annotated

import typer
from typer import Option

from secateur.cli.options import (
    Base,
    BaseOfZeros,
    Exclude,
    FileOrName,
    IncludeDepthwise,
    IncludeFirst,
    InputSize,
    OnnxOut,
    WeightsOfName,
)


class Correction(StrEnum):
    msb = "msb"
    exact = "exact"
    none = "none"


def prune_weights(
    context: typer.Context,
    model: FileOrName,
    out: OnnxOut,
    sparsity: Annotated[
        float | None,
        Option("--sparsity", "-s", help="Fraction of zeros; by default what the pattern fixes, or 0.5."),
    ] = None,
    pattern: Annotated[
        str, Option("--pattern", "-p", help="unstructured, 1xN, 1xN-fine, 2:4, filter ... (docs/vocabulary.md)")
    ] = "unstructured",
    allocation: Annotated[
        str | None, Option(help="lamp, erk, uniform, global_magnitude ... (docs/allocation.md). By default lamp.")
    ] = None,
    base: BaseOfZeros = Base.conv_linear,
    exclude: Exclude = None,
    include_first: IncludeFirst = False,
    include_depthwise: IncludeDepthwise = False,
    include_classifier: Annotated[bool, Option("--include-classifier", help="The classifier too.")] = False,
    correction: Annotated[
        Correction, Option(help="Weights that stay get mean and variance of the whole filter, or stay as they are.")
    ] = Correction.msb,
    weights: WeightsOfName = None,
    input_size: InputSize = None,
) -> None:
    """Take the smallest weights out of a network, without any image: for mild sparsity, or a first look.

    What is left of every filter gets the mean and variance that it had. A few hundred images, without labels, keep far
    more of the accuracy: `secateur sparsify`.

    `secateur prune-weights model.onnx -o sparse.onnx --sparsity 0.4`
    """
    from secateur import api
    from secateur.cli.options import given_options
    from secateur.cli.values import shape

    given = given_options(context, exclude=("model", "out", "input_size", "correction"))
    plan = api.prune_weights(
        model,
        out,
        input_size=shape("--input-size", input_size),
        correction=None if correction is Correction.none else correction.value,
        **given,
    )
    typer.echo(str(plan))
    typer.echo(str(out))
