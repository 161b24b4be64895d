"""`secateur quantize`: numbers of fewer bits for a trained network, from a few images."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from secateur.cli.options import (
    IMAGES,
    LAYERS,
    OUTPUT,
    WAY,
    AnyModel,
    CalibrationImages,
    Classes,
    ClassesFile,
    CropPct,
    DryRun,
    Holdout,
    ImagesCount,
    Kind,
    LabelledImages,
    NameOfFile,
    Out,
    Overwrite,
    PreprocessingOfFile,
    Root,
    Seed,
    TestLimit,
    Weights,
    given_options,
)

NUMBERS, TRAINING = "Numbers", "Training"


class Compute(StrEnum):
    numbers = "numbers"
    float = "float"
    dynamic = "dynamic"


class Activations(StrEnum):
    asymmetric = "asymmetric"
    symmetric = "symmetric"
    signed = "signed"


class Per(StrEnum):
    channel = "channel"
    tensor = "tensor"


class Ranges(StrEnum):
    images = "images"
    bn = "bn"
    random = "random"
    globally = "global"


class Rounding(StrEnum):
    nearest = "nearest"
    learned = "learned"
    columns = "columns"


def quantize(
    context: typer.Context,
    model: AnyModel,
    images: CalibrationImages = None,
    out: Out = Path("run"),
    data: LabelledImages = None,
    images_count: ImagesCount = 512,
    judge_images: Annotated[
        int, Option(help="Test images that every runtime runs both files on; 0 for none.", rich_help_panel=IMAGES)
    ] = 2048,
    classes_file: ClassesFile = None,
    root: Root = None,
    holdout: Holdout = None,
    crop_pct: CropPct = None,
    test_limit: TestLimit = None,
    weights: Weights = None,
    classes: Classes = None,
    preprocessing: PreprocessingOfFile = None,
    model_name: NameOfFile = None,
    numbers: Annotated[
        Kind, Option(help="int8: integers of up to 8 bits; fp16, bf16: halves.", rich_help_panel=NUMBERS)
    ] = Kind.int8,
    bits: Annotated[
        int, Option("--bits", "-b", help="Of weights: 2 to 8. Runtimes compute with 8.", rich_help_panel=NUMBERS)
    ] = 8,
    layer_bits: Annotated[
        list[str] | None,
        Option(help="Bits of some layers: NAME=BITS, with a name or glob; may be repeated.", rich_help_panel=NUMBERS),
    ] = None,
    mixed: Annotated[
        float | None,
        Option(help="In place of --bits: mean bits of all weights; layers get 4 or 8.", rich_help_panel=NUMBERS),
    ] = None,
    activation_bits: Annotated[int, Option(help="Of activations: 2 to 16.", rich_help_panel=NUMBERS)] = 8,
    activations: Annotated[
        Activations,
        Option(help="Unsigned with a zero point, as CPUs want it; signed around 0; signed.", rich_help_panel=NUMBERS),
    ] = Activations.asymmetric,
    per: Annotated[Per, Option(help="A step for each output channel of a weight, or one.", rich_help_panel=NUMBERS)] = (
        Per.channel
    ),
    reduce_range: Annotated[
        bool, Option("--reduce-range", help="Weights of 7 bits: for CPUs without VNNI.", rich_help_panel=NUMBERS)
    ] = False,
    compute: Annotated[
        Compute,
        Option(
            help="In these numbers; float: they are only stored; dynamic: ranges of activations from every batch.",
            rich_help_panel=NUMBERS,
        ),
    ] = Compute.numbers,
    observer: Annotated[
        str,
        Option(
            help="What chooses the range of an activation: minmax, moving, average, n_std, gauss, laplace, percentile, "
            "mse, entropy (docs/quantization.md).",
            rich_help_panel=WAY,
        ),
    ] = "mse",
    ranges: Annotated[
        Ranges,
        Option(help="Where ranges are from; all but images are baselines that collapse.", rich_help_panel=WAY),
    ] = Ranges.images,
    rounding: Annotated[
        Rounding,
        Option(
            help="Of weights: nearest; learned: fitted to the layer's output; columns: the rest of a filter makes up "
            "for every error.",
            rich_help_panel=WAY,
        ),
    ] = Rounding.nearest,
    equalize: Annotated[
        bool, Option("--equalize", help="First make the ranges of channels alike.", rich_help_panel=WAY)
    ] = False,
    correct_bias: Annotated[
        bool,
        Option("--correct-bias/--no-correct-bias", help="Biases take the mean error of rounding.", rich_help_panel=WAY),
    ] = True,
    guard: Annotated[
        float,
        Option(
            help="Layers go back to float, noisiest first, until at most this percentage of the images gets another "
            "class; 0 turns it off.",
            rich_help_panel=LAYERS,
        ),
    ] = 3.0,
    keep_float: Annotated[
        list[str] | None,
        Option(
            help="Layers that stay float: a name or glob, a kind (depthwise, linear, ...), first or last; may be "
            "repeated.",
            rich_help_panel=LAYERS,
        ),
    ] = None,
    epochs: Annotated[
        int,
        Option(help="Train with these numbers (torch networks, labelled --data).", rich_help_panel=TRAINING),
    ] = 0,
    learning_rate: Annotated[float, Option(help="Of that training.", rich_help_panel=TRAINING)] = 0.001,
    scheme: Annotated[
        str, Option(help="affine, lsq, pact, dorefa ... (docs/quantization.md).", rich_help_panel=TRAINING)
    ] = "affine",
    tflite: Annotated[
        bool, Option("--tflite", help="TensorFlow Lite files too (pip install litert-torch).", rich_help_panel=OUTPUT)
    ] = False,
    benchmark: Annotated[
        bool, Option("--benchmark/--no-benchmark", help="Time both files in every runtime.", rich_help_panel=OUTPUT)
    ] = True,
    repeats: Annotated[int, Option(help="Timed runs of each file.", rich_help_panel=OUTPUT)] = 50,
    max_seconds: Annotated[
        float, Option(help="Time limit of one batch and thread count.", rich_help_panel=OUTPUT)
    ] = 20.0,
    seed: Seed = 0,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Make a trained network compute with 8-bit integers, and see what every runtime makes of it.

    A few hundred images show the range of every activation; no labels are needed. Weights get a step for each channel,
    rounding errors move into the biases, and layers that cannot bear 8 bits stay float: the table says which and why.
    The result is a QDQ ONNX file that ONNX Runtime, OpenVINO and Secateur's engine compute in integers. All of them run
    the float and the quantized file on the same images: the accuracy that counts is the one that a runtime gives, and
    the simulated one stands beside it. Zeros of a sparse network stay zeros.

    `secateur quantize resnet50 --images photos`

    `secateur quantize model.onnx --images photos --preprocessing "x/127.5-1" --observer entropy`

    `secateur quantize run --data cifar10 --rounding learned --out run-int8`

    `secateur quantize resnet20_cifar10 --weights resnet20.safetensors --data cifar10 --epochs 5`
    """
    from secateur import api
    from secateur.cli.values import bits_of_layers

    given = given_options(
        context, exclude=("model", "images", "out", "data", "dry_run", "overwrite", "layer_bits", "keep_float")
    )
    given |= {"layer_bits": bits_of_layers("--layer-bits", layer_bits)} if layer_bits else {}
    given |= {"float_layers": tuple(keep_float)} if keep_float else {}
    if dry_run:
        typer.echo(api.preview_quantize(model, images, data=data, out=out, **given))
        return
    command = shlex.join(["secateur", *sys.argv[1:]])
    result = api.quantize(model, images, data=data, out=out, overwrite=overwrite, command=command, **given)
    typer.echo(str(result))
    page = result.folder / "report.html"
    typer.echo(str(page if page.is_file() else result.folder))
