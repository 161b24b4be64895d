"""`secateur compress`: the main job."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from secateur.cli.options import (
    IMAGES,
    LAYERS,
    OUTPUT,
    ZEROS,
    Base,
    BaseOfZeros,
    Classes,
    ClassesFile,
    CropPct,
    DryRun,
    Exclude,
    Holdout,
    IncludeDepthwise,
    IncludeFirst,
    Kind,
    Out,
    Overwrite,
    Permute,
    Rearrange,
    Root,
    Seed,
    TestLimit,
    Weights,
    given_options,
)

CHANNELS, TRAINING = "Channels", "Training"


class Schedule(StrEnum):
    agp = "agp"
    agp_iterations = "agp_iterations"
    one_shot = "one_shot"


class ChannelsBase(StrEnum):
    macs = "macs"
    parameters = "parameters"
    channels = "channels"


class Optimizer(StrEnum):
    sgd = "sgd"
    adamw = "adamw"


def compress(
    context: typer.Context,
    model: Annotated[
        str | None, Argument(help="A name that `secateur models` lists, or package.module:callable.")
    ] = None,
    recipe: Annotated[
        Path | None, Option("--recipe", "-r", help="A YAML recipe; MODEL, --data and --weights replace what it names.")
    ] = None,
    out: Out = Path("run"),
    weights: Weights = None,
    classes: Classes = None,
    data: Annotated[
        str | None,
        Option("--data", "-d", help="digits, cifar10, imagefolder:DIR or module:callable.", rich_help_panel=IMAGES),
    ] = None,
    root: Root = None,
    classes_file: ClassesFile = None,
    holdout: Holdout = None,
    crop_pct: CropPct = None,
    workers: Annotated[int, Option(help="Loader processes.", rich_help_panel=IMAGES)] = 0,
    train_limit: Annotated[int | None, Option(help="Use so many training images.", rich_help_panel=IMAGES)] = None,
    test_limit: TestLimit = None,
    pattern: Annotated[
        str,
        Option(
            "--pattern",
            "-p",
            help="unstructured; 1xN: N output channels share their kept kernels; 1xN-fine: their kept positions, "
            "as fast and more accurate; 2:4; filter; kernel; block:1x8x1x1 ... (docs/vocabulary.md).",
            rich_help_panel=ZEROS,
        ),
    ] = "1x4",
    sparsity: Annotated[
        float | None,
        Option(
            "--sparsity",
            "-s",
            help="Fraction of zeros among the weights of --base; by default 0.8, or what the pattern fixes.",
            rich_help_panel=ZEROS,
        ),
    ] = None,
    levels: Annotated[
        str | None,
        Option(
            help="Several sparsities in one training, such as 0.3,0.5,0.7: an artifact of each, and the curve.",
            rich_help_panel=ZEROS,
        ),
    ] = None,
    base: BaseOfZeros = Base.conv_linear,
    criterion: Annotated[
        str, Option(help="magnitude, taylor, fpgm, random ... (docs/vocabulary.md).", rich_help_panel=ZEROS)
    ] = "magnitude",
    allocation: Annotated[
        str, Option(help="uniform, erk, global_magnitude, energy ... (docs/allocation.md).", rich_help_panel=ZEROS)
    ] = "uniform",
    permute: Permute = False,
    rearrange: Rearrange = False,
    schedule: Annotated[
        Schedule, Option(help="agp: rising while training; one_shot: at once.", rich_help_panel=ZEROS)
    ] = Schedule.agp,
    exclude: Exclude = None,
    include_first: IncludeFirst = False,
    include_depthwise: IncludeDepthwise = False,
    include_classifier: Annotated[bool, Option(help="Prune the classifier too.", rich_help_panel=LAYERS)] = False,
    remove_channels: Annotated[
        float | None,
        Option(
            help="Take out whole channels: this fraction of --channels-base. Zeros only if --sparsity asks for them.",
            rich_help_panel=CHANNELS,
        ),
    ] = None,
    channels_base: Annotated[
        ChannelsBase, Option(help="What --remove-channels is a fraction of.", rich_help_panel=CHANNELS)
    ] = ChannelsBase.macs,
    channels_criterion: Annotated[
        str,
        Option(
            help="l2, l1, fpgm, taylor, bn_scale ... (docs/vocabulary.md); lasso, feature_maps: by the layers that "
            "read the channels, which are then fitted (docs/channels.md).",
            rich_help_panel=CHANNELS,
        ),
    ] = "l2",
    round_to: Annotated[int, Option(help="Channels remain a multiple of this.", rich_help_panel=CHANNELS)] = 1,
    epochs: Annotated[
        int | None,
        Option(help="Of training while zeros are made: 10; 0 makes them at once.", rich_help_panel=TRAINING),
    ] = None,
    train_epochs: Annotated[
        int | None, Option(help="Of the dense network first: 15 if it has no weights.", rich_help_panel=TRAINING)
    ] = None,
    finetune_epochs: Annotated[int, Option(help="Afterwards, with fixed masks.", rich_help_panel=TRAINING)] = 0,
    batch_size: Annotated[int, Option(help="Images a step.", rich_help_panel=TRAINING)] = 128,
    optimizer: Annotated[Optimizer, Option(rich_help_panel=TRAINING)] = Optimizer.sgd,
    learning_rate: Annotated[
        float | None, Option(help="0.1 for the dense network, 0.02 for the sparse one.", rich_help_panel=TRAINING)
    ] = None,
    weight_decay: Annotated[float, Option(rich_help_panel=TRAINING)] = 1e-4,
    distill: Annotated[bool, Option(help="Learn from the dense network too.", rich_help_panel=TRAINING)] = True,
    quantize: Annotated[
        Kind | None,
        Option(help="Give the result these numbers too: model.int8.onnx and the like.", rich_help_panel=OUTPUT),
    ] = None,
    export_batch: Annotated[
        str, Option(help="Batch of model.onnx: 'dynamic' or a fixed number.", rich_help_panel=OUTPUT)
    ] = "dynamic",
    runtimes: Annotated[
        str | None, Option(help="To time, comma-separated; by default all installed.", rich_help_panel=OUTPUT)
    ] = None,
    batches: Annotated[str, Option(help="Batch sizes to time, comma-separated.", rich_help_panel=OUTPUT)] = "1",
    threads: Annotated[
        str | None, Option(help="Thread counts to time; by default one, and all cores.", rich_help_panel=OUTPUT)
    ] = None,
    repeats: Annotated[int, Option(help="Timed runs of each candidate.", rich_help_panel=OUTPUT)] = 100,
    seed: Seed = 0,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Make a network small, prove that it is the same function, and see how fast it is.

    Trains the network if it has no weights, removes weights while it learns from its dense copy, exports ONNX and
    compact weights, checks them on real images, times them in every runtime, and writes report.html. A run that was
    interrupted goes on when the same command is given again.

    `secateur compress resnet20_cifar10 --data digits --pattern 1x4-fine --sparsity 0.8 --out run`

    `secateur compress resnet50 --data imagefolder:DIR --pattern unstructured --sparsity 0.9 --epochs 10 --dry-run`

    `secateur compress resnet20_cifar10 --sparsity 0.7 --quantize int8 --out sparse-int8`

    `secateur compress resnet20_cifar10 --levels 0.3,0.5,0.7,0.9 --out levels`

    `secateur compress resnet20_cifar10 --remove-channels 0.5 --out thinner`

    `secateur compress --recipe recipe.yaml --out run`
    """
    from secateur import api
    from secateur.cli.values import fractions, numbers, words
    from secateur.training import distributed

    given = given_options(context, exclude=("recipe", "model", "data", "out", "dry_run", "overwrite", "export_batch"))
    given |= {"runtimes": words(runtimes)} if runtimes else {}
    given |= {"batch": numbers("--export-batch", export_batch)[0]} if export_batch != "dynamic" else {}
    given |= {"batches": numbers("--batches", batches)} if "batches" in given else {}
    given |= {"threads": numbers("--threads", threads)} if threads else {}
    given |= {"levels": fractions("--levels", levels)} if levels else {}
    if dry_run:
        typer.echo(api.plan(model, data, recipe, out=out, **given))
        return
    command = shlex.join(["secateur", *sys.argv[1:]])
    try:
        result = api.compress(model, data, recipe, out=out, overwrite=overwrite, command=command, **given)
        page = result.folder / "report.html"
        if distributed.is_main():
            typer.echo(str(page if page.is_file() else result.folder))
    finally:
        distributed.stop()
