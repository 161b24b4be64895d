"""`secateur frontier`: what zeros cost, along many targets."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from secateur.cli.options import NameOfFile, PreprocessingOfFile

KINDS = "sparsity, parameters, macs, bytes, seconds"


def frontier(
    model: Annotated[
        str,
        Argument(help="A name that `secateur models` lists, a run folder, its weights file, or an ONNX file."),
    ],
    images: Annotated[
        str | None,
        Option("--images", "-i", help="They calibrate: a folder of images without labels, or data such as cifar10."),
    ] = None,
    data: Annotated[
        str | None,
        Option("--data", "-d", help="Labelled images to measure on; they calibrate too without --images."),
    ] = None,
    against: Annotated[
        str, Option("--against", "-a", help=f"Costs, separated by commas: {KINDS} (measured here).")
    ] = "sparsity,macs",
    pattern: Annotated[
        list[str] | None,
        Option("--pattern", "-p", help="unstructured, 1x4-fine, 2:4, ...; repeated: each layer gets what suits it."),
    ] = None,
    zeros: Annotated[
        str, Option("--zeros", help="Points: fractions of zeros, or of a cost that goes; start:stop:step or commas.")
    ] = "0.3:0.9:0.1",
    second_pass: Annotated[
        bool,
        Option(
            "--second-pass", help="Compress every point again with the inputs that pruned layers give: better, slower."
        ),
    ] = False,
    weights: Annotated[
        str | None, Option(help="'pretrained', a .safetensors or .pth file, or 'none'. By default the library's own.")
    ] = None,
    preprocessing: PreprocessingOfFile = None,
    model_name: NameOfFile = None,
    images_count: Annotated[int, Option(help="How many images calibrate.")] = 1024,
    test_limit: Annotated[int | None, Option(help="Use so many test images.")] = None,
    exclude: Annotated[list[str] | None, Option(help="Not this layer: a name or glob; may be repeated.")] = None,
    include_first: Annotated[bool, Option("--include-first", help="The first convolution too.")] = False,
    include_depthwise: Annotated[bool, Option("--include-depthwise", help="Depthwise convolutions too.")] = False,
    seed: Annotated[int, Option(help="Same seed, same result.")] = 0,
    out: Annotated[Path, Option("--out", "-o", help="A stopped call goes on, more points too.")] = Path("frontier"),
) -> None:
    """Draw accuracy against sparsity, MACs, bytes or seconds: one database, then a network for every target.

    Nothing is trained and no labels are needed; without them the distance to the dense network's answers is drawn.
    Writes frontier.json, frontier.png and frontier.svg.

    `secateur frontier resnet20_cifar10 --weights resnet20.safetensors --data cifar10 --against sparsity,macs,seconds`

    `secateur frontier model.onnx --images photos --preprocessing "x/127.5-1" --against seconds`

    `secateur frontier mobilenet_v2 --images photos --pattern 1x4-fine --against macs --zeros 0.2,0.4,0.6`
    """
    from secateur import api
    from secateur.cli.values import levels as read_levels

    found = api.frontier(
        model,
        images,
        data=data,
        out=out,
        against=tuple(kind.strip() for kind in against.split(",") if kind.strip()),
        zeros=tuple(read_levels("--zeros", zeros)),
        pattern=tuple(pattern or ("unstructured",)),
        second_pass=second_pass,
        weights=weights,
        model_name=model_name,
        preprocessing=preprocessing,
        images_count=images_count,
        test_limit=test_limit,
        exclude=tuple(exclude or ()),
        include_first=include_first,
        include_depthwise=include_depthwise,
        seed=seed,
    )
    typer.echo(str(found))
    typer.echo(str(out / "frontier.png"))
