"""Kernels as text."""

from pathlib import Path

import pytest

from engine.networks import classifier
from secateur.engine.dump import dump_kernels
from secateur.engine.session import compile_onnx
from secateur.errors import DiskError


def test_every_kernel_has_ir_and_assembly(tmp_path: Path) -> None:
    session = compile_onnx(classifier(), threads=1)
    kernels = session.kernels()
    assert {fact.kernel for fact in session.report().layers} <= set(kernels)
    files = dump_kernels(list(kernels.values())[:3], session.target, tmp_path / "kernels")
    assert len(files) == 6
    for name in list(kernels)[:3]:
        assert f'define void @"{name}"' in (tmp_path / "kernels" / f"{name}.ll").read_text()
        assert f"{name}:" in (tmp_path / "kernels" / f"{name}.s").read_text()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    session = compile_onnx(classifier(), threads=1)
    with pytest.raises(DiskError, match="cannot be written"):
        dump_kernels(session.kernels().values(), session.target, tmp_path / "file")
