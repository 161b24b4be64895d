"""Options that several commands have: declared once, so that they mean and say the same everywhere.

    def compress(context: typer.Context, weights: Weights = None, out: Out = Path("run"), ...) -> None:
        given = given_options(context, exclude=("out",))

A command declares by itself what only it has, or what it explains or presets differently.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from secateur.cli.values import chosen

# Panels of --help.
MODEL, IMAGES, ZEROS, LAYERS, WAY, OUTPUT = "Model", "Images", "Zeros", "Layers", "Way", "Run"


class Base(StrEnum):
    conv_linear = "conv_linear"
    selected = "selected"


class Kind(StrEnum):
    """Of numbers."""

    int8 = "int8"
    fp16 = "fp16"
    bf16 = "bf16"


AnyModel = Annotated[
    str,
    Argument(help="An ONNX file from any tool, a name that `secateur models` lists, a run folder, module:callable."),
]
Weights = Annotated[
    str | None,
    Option(
        help="Of a name: 'pretrained', a .safetensors or .pth file, or 'none'; by default the library's own.",
        rich_help_panel=MODEL,
    ),
]
Classes = Annotated[int | None, Option(help="By default those of the weights, or the images.", rich_help_panel=MODEL)]
PreprocessingOfFile = Annotated[
    str | None,
    Option(
        "--preprocessing",
        help="How an ONNX file wants its images, where it does not say it itself: 'ImageNet mean/std on 0..1', "
        "'x/127.5-1', 'mean .5 std .5 on 0..1', JSON, a .json file, or the .safetensors file of its weights.",
        rich_help_panel=MODEL,
    ),
]
NameOfFile = Annotated[
    str | None,
    Option("--model-name", help="Or the name of the network that the ONNX file holds.", rich_help_panel=MODEL),
]

CalibrationImages = Annotated[
    str | None,
    Option(
        "--images",
        "-i",
        help="They calibrate: a folder of images, no labels needed, or data such as cifar10, whose training images are "
        "taken. A folder with train/ and val/ gives accuracy too.",
        rich_help_panel=IMAGES,
    ),
]
LabelledImages = Annotated[
    str | None,
    Option(
        "--data",
        "-d",
        help="Labelled images to measure accuracy on: a folder of class folders, or a name. They calibrate only "
        "without --images, and then their training images do.",
        rich_help_panel=IMAGES,
    ),
]
ImagesCount = Annotated[int, Option("--images-count", help="How many images calibrate.", rich_help_panel=IMAGES)]
Root = Annotated[
    str | None, Option(help="Where torchvision keeps its data sets.", rich_help_panel=IMAGES, metavar="DIR")
]
ClassesFile = Annotated[
    str | None, Option(help="Class folders of --data in order, one a line.", rich_help_panel=IMAGES, metavar="FILE")
]
Holdout = Annotated[
    float | None, Option(help="Share of a folder without train/ and val/ to test on.", rich_help_panel=IMAGES)
]
CropPct = Annotated[float | None, Option(help="Test-time centre crop.", rich_help_panel=IMAGES)]
TestLimit = Annotated[int | None, Option(help="Use so many test images.", rich_help_panel=IMAGES)]

BaseOfZeros = Annotated[
    Base,
    Option(
        "--base",
        help="All conv and linear weights, or those of the layers that may lose any.",
        rich_help_panel=ZEROS,
    ),
]
Permute = Annotated[
    bool, Option("--permute", help="Reorder channels first, so that N:M removes less.", rich_help_panel=ZEROS)
]
Rearrange = Annotated[
    bool, Option("--rearrange", help="Reorder filters first, so that 1xN removes less.", rich_help_panel=ZEROS)
]

Exclude = Annotated[
    list[str] | None,
    Option("--exclude", help="Layers to leave dense: a name or glob; may be repeated.", rich_help_panel=LAYERS),
]
IncludeFirst = Annotated[bool, Option("--include-first", help="The first convolution too.", rich_help_panel=LAYERS)]
IncludeDepthwise = Annotated[bool, Option("--include-depthwise", help="Depthwise layers too.", rich_help_panel=LAYERS)]

# Of the commands that write one ONNX file.
FileOrName = Annotated[
    str, Argument(help="An ONNX file from any tool, a run folder, or a name that `secateur models` lists.")
]
OnnxOut = Annotated[Path, Option("--out", "-o", help="The ONNX file to write.", metavar="FILE")]
WeightsOfName = Annotated[
    str | None,
    Option(help="Of a name: 'pretrained', a .safetensors or .pth file, or 'none'. By default the library's own."),
]
InputSize = Annotated[
    str | None, Option(help="Channels x height x width, such as 3x224x224, where the model leaves it open.")
]

Out = Annotated[Path, Option("--out", "-o", help="The run folder; an interrupted run goes on.", rich_help_panel=OUTPUT)]
Seed = Annotated[int, Option(help="Same seed, same result.", rich_help_panel=OUTPUT)]
DryRun = Annotated[
    bool, Option("--dry-run", help="Print the plan per layer and write nothing.", rich_help_panel=OUTPUT)
]
Overwrite = Annotated[bool, Option("--overwrite", help="The folder may hold something else.", rich_help_panel=OUTPUT)]


def given_options(context: typer.Context, exclude: tuple[str, ...]) -> dict[str, Any]:
    """The options that the user gave, as the verbs take them: enumerations by value, lists as tuples."""
    given: dict[str, Any] = {}
    for name, value in chosen(context, exclude).items():
        plain = value.value if isinstance(value, StrEnum) else value
        given[name] = tuple(plain) if isinstance(plain, list) else plain
    return given
