"""Memory straight from the system: zeroed, page-aligned, in huge pages where it is large."""

import ctypes
import errno
import mmap
import os
import sys

import numpy as np

from secateur.errors import EngineError

_HUGE = 2 << 20


class Pages:
    """`size` bytes of zeros; given back when nothing refers to this object or to `bytes` any more.

    bytes      the memory, uint8
    address    where it begins, a multiple of the page size
    """

    def __init__(self, size: int) -> None:
        huge = size >= 2 * _HUGE
        rounded = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            # Python's default is memory that forked children share.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            mapping = mmap.mmap(-1, rounded + (_HUGE if huge else 0), flags=flags)
        except (OSError, ValueError, OverflowError) as error:
            raise EngineError(f"The system has no {size / 2**20:.0f} MiB of memory for the engine: {error}.") from error
        everything = np.frombuffer(mapping, np.uint8)
        start = -everything.ctypes.data % _HUGE if huge else 0
        if huge and sys.platform == "linux":
            try:
                mapping.madvise(mmap.MADV_HUGEPAGE)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a kernel without huge pages
                    raise
        self._rounded = rounded
        self.bytes = everything[start : start + size]
        self.address: int = everything.ctypes.data + start

    def make_read_only(self) -> None:
        """From now on a write into this memory ends the process."""
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.mprotect(ctypes.c_void_p(self.address), ctypes.c_size_t(self._rounded), 1)
        if failed:
            raise EngineError(f"Constants cannot be made read-only: {os.strerror(ctypes.get_errno())}.")
        self.bytes.flags.writeable = False
