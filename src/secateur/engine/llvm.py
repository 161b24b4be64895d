"""LLVM inside the process, through llvmlite (which is untyped, hence Any).

LLVM's state is shared by the process: whole sequences of its calls run under LOCK.
"""

import threading
from functools import lru_cache
from importlib import import_module
from typing import Any

from secateur.engine.forks import free_in_children

llvm: Any = import_module("llvmlite.binding")
# llvmlite's own lock, which finalizers of its objects take on whatever thread they run. It has no public name.
_library_lock: Any = getattr(getattr(getattr(llvm, "ffi", None), "lib", None), "_lock", None)
if isinstance(getattr(_library_lock, "_lock", None), type(threading.RLock())):
    free_in_children(_library_lock._lock)
LOCK = free_in_children(threading.RLock())


@lru_cache(maxsize=2)
def initialise(every_target: bool = False) -> None:
    """Make LLVM ready to emit code for this machine, or for every processor that it knows."""
    with LOCK:
        if every_target:
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
        else:
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
