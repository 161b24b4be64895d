"""What tests of the command line share."""

import sys

import onnx
import pytest
import torch

import tiny_networks
from secateur.cli import main
from secateur.export import export_onnx


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


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An ONNX file that says nothing of its images."""
    torch.manual_seed(0)
    path = export_onnx(tiny_networks.network().eval(), tmp_path_factory.mktemp("file") / "tiny.onnx", (3, 16, 16))
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    return path
