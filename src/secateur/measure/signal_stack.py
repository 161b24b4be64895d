"""The alternate signal stack of the calling thread, kept while a runtime is loaded that exchanges it.

    sigaltstack(NULL, &kept)  ->  load  ->  sigaltstack(&kept, NULL)

OpenVINO gives the thread that opens its CPU plug-in a signal stack of its own, and unmaps it with the plug-in. When two
networks are dropped in the order in which they were loaded, the thread is left with the address of unmapped memory, and
the next signal that Python handles there (an interrupt, the end of a child) ends the process without a word.
"""

import ctypes
import sys
from collections.abc import Generator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def signal_stack() -> tuple[int, int]:
    """Address and size of the calling thread's alternate signal stack; (0, 0) without one, and outside of Linux."""
    if sys.platform != "linux":
        return 0, 0
    stack = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack.address or 0, stack.size


@contextmanager
def kept_signal_stack() -> Generator[None]:
    """Inside, anything may exchange the thread's signal stack; afterwards it is the one that it was before."""
    if sys.platform != "linux":
        yield
        return
    libc, kept = ctypes.CDLL(None), _Stack()
    libc.sigaltstack(None, ctypes.byref(kept))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(kept), None)
