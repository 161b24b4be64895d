"""`secateur report`: the page of a run."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option


def report(
    run: Annotated[Path, Argument(help="A run folder of `secateur compress`.")],
    title: Annotated[str | None, Option(help="Instead of model and data.")] = None,
) -> None:
    """Write report.html, report.md, report.json and tables/ of a run anew.

    The page is one file that works offline. A run that is not finished gives a page of what it has so far.

    `secateur report run`
    """
    from secateur import api

    for path in api.write_report(run, title):
        typer.echo(str(path))
