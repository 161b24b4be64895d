"""Locks that a forked child finds free.

A child has the thread that forked and no other. A lock that another thread held at that moment stays held in the
child for ever, unless the forking thread waits for it first. Taken before a fork in the reverse order of
registration: a lock must be registered after those that are taken while it is held.
"""

import os
import sys
from typing import Protocol, TypeVar


class _Lock(Protocol):
    def acquire(self) -> object: ...

    def release(self) -> object: ...


L = TypeVar("L", bound=_Lock)


def free_in_children(lock: L) -> L:
    """The same lock, which forks wait for; the parent and the child have it free afterwards."""
    if sys.platform != "win32":
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
