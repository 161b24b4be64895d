"""Kernels as text, for people who want to read what runs.

NAME.ll    LLVM IR of a kernel as its template writes it
NAME.s     assembly of it after optimisation
"""

from collections.abc import Iterable
from pathlib import Path

from secateur.engine.compiler import assembly, ir_text
from secateur.engine.program import Kernel
from secateur.engine.target import Target
from secateur.files import atomic_path


def dump_kernels(kernels: Iterable[Kernel], target: Target, folder: Path | str) -> list[Path]:
    """Write IR and assembly of every kernel into a folder, which is made; returns the files. raises DiskError."""
    written: list[Path] = []
    for kernel in kernels:
        for suffix, text in ((".ll", ir_text([kernel], target)), (".s", assembly([kernel], target))):
            path = Path(folder) / (kernel.name + suffix)
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            written.append(path)
    return written
