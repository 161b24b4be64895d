"""The `secateur` command: its sub-commands, and what it does with errors.

exit code 0    done
exit code 2    the user can mend it: one sentence on standard error
exit code 130  stopped with Ctrl-C; the same command goes on
"""

import errno
import importlib.metadata
import sys
from typing import Annotated

import typer

from secateur.cli import (
    bench,
    census,
    compress,
    doctor,
    explain,
    frontier,
    prune_channels,
    prune_weights,
    quantize,
    report,
    sensitivity,
    sparsify,
    thin,
    translate,
    zoo,
)
from secateur.errors import SecateurError

USER_ERROR, STOPPED = 2, 130
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)

app = typer.Typer(
    name="secateur",
    help="Make vision networks small and measurably fast: prune, distil, export, and see layer by layer what the "
    "zeros promised and what they gave.\n\nStart with: `secateur compress resnet20_cifar10 --data digits "
    "--pattern 1x4-fine --sparsity 0.8 --out run`\n\nor, with any ONNX file: `secateur explain model.onnx`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
_NEED_ARGUMENTS = (
    compress.compress,
    sparsify.sparsify,
    quantize.quantize,
    census.census,
    explain.explain,
    bench.bench,
    report.report,
    sensitivity.sensitivity,
    frontier.frontier,
    thin.thin,
    prune_channels.prune_channels,
    prune_weights.prune_weights,
    translate.translate,
)
for command in (*_NEED_ARGUMENTS, zoo.models, zoo.data, doctor.doctor):
    app.command(no_args_is_help=command in _NEED_ARGUMENTS)(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"secateur {importlib.metadata.version('secateur')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; errors that a user can mend become one sentence and exit code 2."""
    try:
        app()
    except SecateurError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "secateur":
            raise
        _fail(f"this needs the package '{error.name}', which is not installed: pip install \"secateur[torch]\".")
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _fail(f"{error.filename or 'a file'}: cannot be written: {error.strerror}.")
    except SystemExit as stop:
        if stop.code == STOPPED:
            typer.echo("secateur: stopped; the same command goes on from here.", err=True)
        raise


def _fail(sentence: str) -> None:
    typer.echo(f"secateur: {sentence}", err=True)
    sys.exit(USER_ERROR)
