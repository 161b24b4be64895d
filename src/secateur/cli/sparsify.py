"""`secateur sparsify`: zeros in a trained network, from a few images."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from secateur.cli.options import (
    LAYERS,
    OUTPUT,
    WAY,
    ZEROS,
    AnyModel,
    Base,
    BaseOfZeros,
    CalibrationImages,
    Classes,
    ClassesFile,
    CropPct,
    DryRun,
    Exclude,
    Holdout,
    ImagesCount,
    IncludeDepthwise,
    IncludeFirst,
    LabelledImages,
    NameOfFile,
    Out,
    Overwrite,
    Permute,
    PreprocessingOfFile,
    Rearrange,
    Root,
    Seed,
    TestLimit,
    Weights,
    given_options,
)

COSTS = "Costs"


class Errors(StrEnum):
    loss = "loss"
    output = "output"
    absolute = "absolute"


def sparsify(
    context: typer.Context,
    model: AnyModel,
    images: CalibrationImages = None,
    out: Out = Path("run"),
    data: LabelledImages = None,
    images_count: ImagesCount = 1024,
    classes_file: ClassesFile = None,
    root: Root = None,
    holdout: Holdout = None,
    crop_pct: CropPct = None,
    test_limit: TestLimit = None,
    weights: Weights = None,
    classes: Classes = None,
    preprocessing: PreprocessingOfFile = None,
    model_name: NameOfFile = None,
    pattern: Annotated[
        list[str] | None,
        Option(
            "--pattern",
            "-p",
            help="unstructured (default), 1xN, 1xN-fine, 2:4, filter ... (docs/vocabulary.md). Repeated: every layer "
            "gets the one that suits it best.",
            rich_help_panel=ZEROS,
        ),
    ] = None,
    sparsity: Annotated[
        float | None,
        Option(
            "--sparsity",
            "-s",
            help="Fraction of zeros among the weights of --base; by default what the pattern fixes, or 0.5.",
            rich_help_panel=ZEROS,
        ),
    ] = None,
    base: BaseOfZeros = Base.conv_linear,
    macs: Annotated[
        float | None,
        Option(help="In place of --sparsity: the share of the MACs that may remain.", rich_help_panel=COSTS),
    ] = None,
    parameters: Annotated[
        float | None, Option(help="The share of the parameters that may remain.", rich_help_panel=COSTS)
    ] = None,
    bytes_: Annotated[
        float | None, Option("--bytes", help="The share of the file's bytes that may remain.", rich_help_panel=COSTS)
    ] = None,
    seconds: Annotated[
        float | None,
        Option(help="The share of our engine's time, as measured layer by layer.", rich_help_panel=COSTS),
    ] = None,
    hardware: Annotated[
        list[str] | None,
        Option(
            help="Measured times of layers for --seconds, a file for each pattern; by default they are measured now.",
            rich_help_panel=COSTS,
            metavar="FILE",
        ),
    ] = None,
    exclude: Exclude = None,
    include_first: IncludeFirst = False,
    include_depthwise: IncludeDepthwise = False,
    include_classifier: Annotated[
        bool, Option("--include-classifier/--no-classifier", help="The classifier too.", rich_help_panel=LAYERS)
    ] = True,
    allocation: Annotated[
        str,
        Option(
            help="database: all levels of all layers are computed once, then the best choice is found in seconds; or "
            "uniform, erk ... (docs/allocation.md).",
            rich_help_panel=WAY,
        ),
    ] = "database",
    errors: Annotated[
        Errors,
        Option(help="What the choice minimises: divergence of answers, or errors of layers.", rich_help_panel=WAY),
    ] = Errors.loss,
    search: Annotated[int, Option(help="Networks tried around the best choice.", rich_help_panel=WAY)] = 0,
    permute: Permute = False,
    rearrange: Rearrange = False,
    weigh_outputs: Annotated[
        bool,
        Option(
            "--weigh-outputs/--outputs-alike",
            help="Choose masks where they cost the network least: outputs of a layer count as its answers depend on "
            "them; or all alike.",
            rich_help_panel=WAY,
        ),
    ] = True,
    second_pass: Annotated[
        bool,
        Option(
            "--second-pass/--no-second-pass",
            help="Compress layer by layer again, with what the sparse layers before give; kept where that helps.",
            rich_help_panel=WAY,
        ),
    ] = True,
    budget: Annotated[
        str | None,
        Option(help="Time box: 90s, 10m, 1h. It always ends with the best result so far.", rich_help_panel=WAY),
    ] = None,
    tuning: Annotated[
        bool | None,
        Option(
            "--tuning/--no-tuning",
            help="Tune the whole network on the images, towards the dense one's answers; by default in what is left of "
            "--budget.",
            rich_help_panel=WAY,
        ),
    ] = None,
    benchmark: Annotated[
        bool, Option("--benchmark", help="Time the result in every runtime.", rich_help_panel=OUTPUT)
    ] = False,
    seed: Seed = 0,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Put zeros into a trained network, in minutes, with a few hundred images and no labels.

    Weights go where the layer's output changes least, and those that stay make up for them (second order, closed
    form). All levels of every layer are computed once; the best choice for the target is then found in seconds. The
    result is exported and checked. Without labels it says how near its answers are to the dense network's; with
    labels, accuracy too. An interrupted run goes on when the same command is given again; another target in the same
    folder needs --overwrite and keeps nothing.

    An ONNX file gives an ONNX file: no training code is needed.

    `secateur sparsify resnet50 --images photos --sparsity 0.6 --budget 10m`

    `secateur sparsify model.onnx --images photos --preprocessing "x/127.5-1" --pattern 1x4-fine --sparsity 0.5`

    `secateur sparsify resnet20_cifar10 --weights net.safetensors --data cifar10 --macs 0.4 -p 1x4-fine -p unstructured`
    """
    from secateur import api

    given = given_options(context, exclude=("model", "images", "out", "data", "dry_run", "overwrite", "bytes_"))
    given |= {"bytes": bytes_} if bytes_ is not None else {}
    if dry_run:
        typer.echo(api.preview_sparsify(model, images, data=data, out=out, **given))
        return
    command = shlex.join(["secateur", *sys.argv[1:]])
    result = api.sparsify(model, images, data=data, out=out, overwrite=overwrite, command=command, **given)
    typer.echo(str(result))
    page = result.folder / "report.html"
    typer.echo(str(page if page.is_file() else result.folder))
