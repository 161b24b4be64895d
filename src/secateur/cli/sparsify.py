"""`secateur sparsify`: zeros in a trained network, from a few images."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

MODEL, IMAGES, ZEROS, COSTS, LAYERS, WAY, OUTPUT = "Model", "Images", "Zeros", "Costs", "Layers", "Way", "Run"


class Base(StrEnum):
    conv_linear = "conv_linear"
    selected = "selected"


class Errors(StrEnum):
    loss = "loss"
    output = "output"
    absolute = "absolute"


def sparsify(
    context: typer.Context,
    model: Annotated[
        str,
        Argument(
            help="An ONNX file from any tool, a name that `secateur models` lists, a run folder, module:callable."
        ),
    ],
    images: Annotated[
        str | None,
        Option(
            "--images",
            "-i",
            help="They calibrate: a folder of images, no labels needed, or data such as cifar10, whose training "
            "images are taken. A folder with train/ and val/ gives accuracy too.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    out: Annotated[
        Path, Option("--out", "-o", help="The run folder; an interrupted run goes on.", rich_help_panel=OUTPUT)
    ] = Path("run"),
    data: Annotated[
        str | None,
        Option(
            "--data",
            "-d",
            help="Labelled images to measure accuracy on: a folder of class folders, or a name. They calibrate only "
            "without --images, and then their training images do.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    images_count: Annotated[int, Option(help="How many images calibrate.", rich_help_panel=IMAGES)] = 1024,
    classes_file: Annotated[
        str | None,
        Option(help="Class folders of --data in order, one a line.", rich_help_panel=IMAGES, metavar="FILE"),
    ] = None,
    root: Annotated[
        str | None, Option(help="Where torchvision keeps its data sets.", rich_help_panel=IMAGES, metavar="DIR")
    ] = None,
    holdout: Annotated[
        float | None, Option(help="Share of a folder without train/ and val/ to test on.", rich_help_panel=IMAGES)
    ] = None,
    crop_pct: Annotated[float | None, Option(help="Test-time centre crop.", rich_help_panel=IMAGES)] = None,
    test_limit: Annotated[int | None, Option(help="Use so many test images.", rich_help_panel=IMAGES)] = None,
    weights: Annotated[
        str | None,
        Option(
            help="Of a name: 'pretrained', a .safetensors or .pth file, or 'none'; by default the library's own.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    classes: Annotated[int | None, Option(help="By default those of the weights.", rich_help_panel=MODEL)] = None,
    preprocessing: Annotated[
        str | None,
        Option(
            help="How an ONNX file wants its images, where it does not say it itself: 'ImageNet mean/std on 0..1', "
            "'x/127.5-1', 'mean .5 std .5 on 0..1', JSON, a .json file, or the .safetensors file of its weights.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    model_name: Annotated[
        str | None,
        Option(help="Or the name of the network that the ONNX file holds.", rich_help_panel=MODEL),
    ] = None,
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
    base: Annotated[
        Base,
        Option(help="All conv and linear weights, or those of the layers that may lose any.", rich_help_panel=ZEROS),
    ] = Base.conv_linear,
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
    exclude: Annotated[
        list[str] | None, Option(help="Layers to leave dense: a name or glob; may be repeated.", rich_help_panel=LAYERS)
    ] = None,
    include_first: Annotated[
        bool, Option("--include-first", help="The first convolution too.", rich_help_panel=LAYERS)
    ] = False,
    include_depthwise: Annotated[
        bool, Option("--include-depthwise", help="Depthwise layers too.", rich_help_panel=LAYERS)
    ] = False,
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
    permute: Annotated[
        bool, Option("--permute", help="Reorder channels first, so that N:M removes less.", rich_help_panel=WAY)
    ] = False,
    rearrange: Annotated[
        bool, Option("--rearrange", help="Reorder filters first, so that 1xN removes less.", rich_help_panel=WAY)
    ] = False,
    second_pass: Annotated[
        bool,
        Option(
            "--second-pass/--no-second-pass",
            help="Compress layer by layer again, with what the sparse layers before give.",
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
            help="Tune the whole network on the images, towards the dense one's answers (torch only); by default in "
            "what is left of --budget.",
            rich_help_panel=WAY,
        ),
    ] = None,
    benchmark: Annotated[
        bool, Option("--benchmark", help="Time the result in every runtime.", rich_help_panel=OUTPUT)
    ] = False,
    seed: Annotated[int, Option(help="Same seed, same result.", rich_help_panel=OUTPUT)] = 0,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print what each layer may become and write nothing.", rich_help_panel=OUTPUT)
    ] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="The folder may hold something else.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Put zeros into a trained network, in minutes, with a few hundred images and no labels.

    Weights go where the layer's output changes least, and those that stay make up for them (second order, closed
    form). All levels of every layer are computed once; the best choice for the target is then found in seconds. The
    result is exported and checked. Without labels it says how near its answers are to the dense network's; with
    labels, accuracy too. An interrupted run goes on when the same command is given again; another target in the same
    folder needs --overwrite and keeps nothing.

    An ONNX file gives an ONNX file: no training code is needed.

    `secateur sparsify resnet50 --images photos --sparsity 0.6 --budget 10m`

    `secateur sparsify model.onnx --images photos --preprocessing "x/127.5-1" --pattern 1x4 --sparsity 0.5`

    `secateur sparsify resnet20_cifar10 --weights resnet20.safetensors --data cifar10 --macs 0.4 -p 1x4 -p unstructured`
    """
    from secateur import api
    from secateur.cli.values import chosen

    given = chosen(context, exclude=("model", "images", "out", "data", "dry_run", "overwrite", "bytes_"))
    given = {name: value.value if isinstance(value, StrEnum) else value for name, value in given.items()}
    given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    given |= {"bytes": bytes_} if bytes_ is not None else {}
    if dry_run:
        typer.echo(api.preview_sparsify(model, images, data=data, out=out, **given))
        return
    command = shlex.join(["secateur", *sys.argv[1:]])
    result = api.sparsify(model, images, data=data, out=out, overwrite=overwrite, command=command, **given)
    typer.echo(str(result))
    page = result.folder / "report.html"
    typer.echo(str(page if page.is_file() else result.folder))
