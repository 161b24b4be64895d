"""LLVM inside the process, through llvmlite (which is untyped, hence Any).

LLVM's state is shared by the process: whole sequences of its calls run under LOCK.
"""

import os
import sys
import threading
from functools import lru_cache
from importlib import import_module
from typing import Any

llvm: Any = import_module("llvmlite.binding")
LOCK = threading.RLock()
if sys.platform != "win32":
    # A child that is forked while another thread compiles would find LLVM's own locks held for ever.
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)


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
