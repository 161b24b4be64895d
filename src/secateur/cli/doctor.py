"""`secateur doctor`: what this machine has."""

import typer


def doctor() -> None:
    """Say what this machine has (CPU features, threads, runtimes) and what is missing for which feature."""
    try:
        import secateur.pipeline.torch_runtimes  # noqa: F401  (torch's runtimes are listed where torch is installed)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("secateur"):
            raise
    from secateur import measure

    typer.echo(str(measure.examine()))
