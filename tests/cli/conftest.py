"""What tests of the command line share."""

import sys

import pytest

from secateur.cli import main


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line; (exit code, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["secateur", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
