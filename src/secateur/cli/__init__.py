"""The command line: one file per verb, no logic of its own."""

from secateur.cli.app import app, main

__all__ = ["app", "main"]
