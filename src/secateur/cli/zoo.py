"""`secateur models` and `secateur data`: what is known by name."""

from typing import Annotated

import typer
from typer import Argument, Option


def models(
    pattern: Annotated[str, Argument(help="A glob such as 'resnet*'.")] = "*",
) -> None:
    """List the networks that are known by name, where they come from, and whether weights are published.

    `secateur models 'resnet*'`
    """
    from secateur import zoo
    from secateur.errors import ModelError

    rows = zoo.model_sources(pattern)
    if not rows:
        raise ModelError(f"no model is called '{pattern}'; `secateur models` lists all.")
    width = max(len(name) for name, _, _ in rows)
    for name, source, pretrained in rows:
        typer.echo(f"{name:<{width}}  {source:<12}  {'pretrained' if pretrained else ''}".rstrip())


def data(
    name: Annotated[str | None, Argument(help="digits, cifar10, imagefolder:DIR or module:callable.")] = None,
    root: Annotated[str | None, Option(help="Where torchvision keeps its data sets.", metavar="DIR")] = None,
    classes_file: Annotated[str | None, Option(help="Class folders in order, one a line.", metavar="FILE")] = None,
    holdout: Annotated[float | None, Option(help="Share of a folder without splits to test on.")] = None,
) -> None:
    """Say what a set of images holds; without a name list the sets that are known.

    `secateur data digits`

    `secateur data imagefolder:photos`
    """
    from secateur import zoo
    from secateur.zoo.image_data import datasets

    if name is None:
        for kind in datasets:
            first = (datasets[kind].__doc__ or "").strip().splitlines()
            typer.echo(f"{kind:<15}  {first[0].partition(' raises ')[0] if first else ''}")
        typer.echo("module:callable  your own function that returns a secateur.zoo.ImageData")
        return
    images = zoo.data(name, root=root, classes_file=classes_file, holdout=holdout)
    train = "no" if images.train is None else f"{len(images.train):,}"
    typer.echo(
        f"{images.name}: {train} training images, {len(images.test):,} test images, {len(images.classes)} classes"
    )
    shown = ", ".join(images.classes[:10])
    typer.echo(f"classes: {shown}{', ...' if len(images.classes) > 10 else ''}")
    size = images.test[0][0].size
    typer.echo(f"the first test image has {size[0]}x{size[1]} pixels")
