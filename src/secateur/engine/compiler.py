"""Kernels to machine code, and machine code into the process.

An object is position independent and has no undefined symbols, so it can be kept in a file, loaded into any process on
the same kind of processor, or linked into a library (ENGINE.md 4.1). LLVM's loader writes code into pages that are
only made executable when they can no longer be written.
"""

import itertools
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from secateur.engine.emit.builder import KernelModule
from secateur.engine.llvm import LOCK, initialise, llvm
from secateur.engine.object_file import read_object
from secateur.engine.program import Kernel
from secateur.engine.target import Target
from secateur.errors import EngineError

_numbers = itertools.count()


def compile_kernels(kernels: Iterable[Kernel], target: Target) -> bytes:
    """One relocatable object that defines all `kernels`; the same kernels always give the same bytes.

    raises    EngineError  when a kernel is not valid for this processor, or calls a function of a library
    """
    return compile_text(ir_text(kernels, target), target)


def ir_text(kernels: Iterable[Kernel], target: Target) -> str:
    """LLVM IR of `kernels` before optimisation."""
    module = KernelModule(target)
    for kernel in kernels:
        kernel.emit(module)
    return str(module)


def compile_text(text: str, target: Target) -> bytes:
    """The relocatable object of a module in LLVM IR. raises EngineError when the module is not valid."""
    with _optimised(text, target) as (machine, module):
        image: bytes = machine.emit_object(module)
    undefined = read_object(image).undefined
    if undefined:
        raise EngineError(f"A kernel for {target.isa} calls {', '.join(sorted(undefined))}, which no kernel may.")
    return image


def assembly(kernels: Iterable[Kernel], target: Target) -> str:
    """Assembly text of `kernels`, as GNU tools write it."""
    with _optimised(ir_text(kernels, target), target) as (machine, module):
        machine.set_asm_verbosity(False)
        return machine.emit_assembly(module)


@contextmanager
def _optimised(text: str, target: Target) -> Generator[tuple[Any, Any], None, None]:
    with LOCK:
        initialise(target.triple.split("-")[0] != llvm.get_process_triple().split("-")[0])
        try:
            module = llvm.parse_assembly(text)
            module.verify()
        except RuntimeError as error:
            raise EngineError(f"A kernel for {target.isa} is not valid LLVM IR: {error}") from error
        # A new machine each time: it remembers attributes of the functions that it has seen.
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small"
        )
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        # Kernels are vectors already; whatever LLVM would vectorise by itself is a scalar rest.
        options.loop_vectorization = False
        options.slp_vectorization = False
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        yield machine, module


class Code:
    """Loaded machine code; its addresses are valid as long as this object lives."""

    def __init__(self, images: Sequence[bytes], symbols: Iterable[str]) -> None:
        with LOCK:
            jit = _loader()
            library = llvm.JITLibraryBuilder()
            for image in images:
                library.add_object_img(image)
            names = tuple(symbols)
            for name in names:
                library.export_symbol(name)
            try:
                self._tracker = library.link(jit, f"code{next(_numbers)}")
            except RuntimeError as error:
                raise EngineError(f"Compiled kernels cannot be loaded: {error}.") from error
            self._jit = jit
        self._addresses = {name: int(self._tracker[name]) for name in names}

    def address(self, symbol: str) -> int:
        """Where a function begins."""
        return self._addresses[symbol]


@lru_cache(maxsize=1)
def _loader() -> Any:
    """The process's loader of objects. raises EngineError where the system forbids new code."""
    initialise()
    try:
        llvm.check_jit_execution()
    except OSError as error:
        raise EngineError(
            f"This system does not let a process make its own machine code ({error.strerror}), "
            "which the engine needs; allow it for this program (SELinux: execmem) or use another runtime."
        ) from error
    return llvm.create_lljit_compiler(use_jit_link=True)
