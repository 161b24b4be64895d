"""Kernels of programs as addresses: from this process, from the cache on disk, or from the compiler."""

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import llvmlite

from secateur.engine.compiler import Code, compile_kernels, ir_text
from secateur.engine.forks import free_in_children
from secateur.engine.llvm import llvm
from secateur.engine.object_cache import ABI, ObjectCache
from secateur.engine.program import Kernel
from secateur.engine.target import Target

_HERE = Path(__file__).parent
# What decides how a kernel of this package becomes code, beside its parameters.
_SOURCES = ("emit/**/*.py", "kernels/**/*.py", "compiler.py", "runner_*.py")
_OWN = ("secateur.engine.kernels.", "secateur.engine.runner_ir")

# Never unloaded: a kernel is a few KiB, many programs share it, and LLVM does not give back all memory of loading it.
_loaded: dict[bytes, "LoadedKernel"] = {}
_lock = free_in_children(threading.RLock())


@dataclass(frozen=True)
class LoadedKernel:
    """A kernel in memory; `size` is its object in bytes."""

    name: str
    code: Code
    size: int

    @property
    def address(self) -> int:
        """Where its function begins."""
        return self.code.address(self.name)


def load_kernels(kernels: Iterable[Kernel], target: Target, cache: ObjectCache) -> dict[str, LoadedKernel]:
    """Every kernel by name. Kernels that other programs have loaded are shared with them."""
    keys = {kernel.name: (kernel, key_of(kernel, target)) for kernel in kernels}
    with _lock:
        found = {name: known for name, (_, key) in keys.items() if (known := _loaded.get(key))}
        images = {name: _image(*keys[name], target, cache) for name in keys if name not in found}
        if images:
            symbols = [symbol for name in images for symbol in symbols_of(keys[name][0])]
            code = Code(list(images.values()), symbols)
            for name, image in images.items():
                found[name] = _loaded[keys[name][1]] = LoadedKernel(name, code, len(image))
        return found


def _image(kernel: Kernel, key: bytes, target: Target, cache: ObjectCache) -> bytes:
    image = cache.get(key, symbols_of(kernel), target)
    if image is None:
        image = compile_kernels([kernel], target)
        cache.put(key, image)
    return image


def symbols_of(kernel: Kernel) -> tuple[str, ...]:
    """The functions that a kernel's object defines: its name, except for the runner."""
    return getattr(kernel, "symbols", (kernel.name,))


def key_of(kernel: Kernel, target: Target) -> bytes:
    """SHA-256 of everything that decides the object of a kernel.

    A kernel of this package is known by its parameters and the package's source, which saves writing its IR when the
    cache has the object; any other kernel by its IR.
    """
    own = type(kernel).__module__.startswith(_OWN)
    what = (repr(kernel), _source_hash()) if own else (ir_text([kernel], target),)
    code = (target.isa, target.triple, target.cpu, target.features)
    everything = (ABI, llvmlite.__version__, llvm.llvm_version_info, code, kernel.name, what)
    return hashlib.sha256(repr(everything).encode()).digest()


@lru_cache(maxsize=1)
def _source_hash() -> str:
    files = sorted(path for pattern in _SOURCES for path in _HERE.glob(pattern))
    contents = hashlib.sha256()
    for path in files:
        contents.update(hashlib.sha256(path.read_bytes()).digest())
    return contents.hexdigest()
