"""`secateur doctor`: what this machine has."""

import typer


def doctor() -> None:
    """Say what this machine has (CPU features, threads, runtimes) and what is missing for which feature."""
    from secateur import inference, measure

    inference.register_torch()  # torch's runtimes are listed where torch is installed
    typer.echo(str(measure.examine()))
