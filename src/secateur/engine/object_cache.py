"""Compiled kernels kept on disk for the next process.

A cached object is code that will run, so the folder must be private to the user: created with mode 0700, no symbolic
link, owned by the effective user, writable by nobody else. Where that does not hold the cache is off. The hash in a
file guards against damage and mix-ups, the folder against other users (ENGINE.md 4.2). A file that is not exactly
what was asked for is ignored; the object is compiled again and replaces it.

A file: magic, ABI, key, length and SHA-256 of the object, then the object.
"""

import contextlib
import hashlib
import os
import stat
import struct
import sys
from collections.abc import Callable, Collection, Generator
from pathlib import Path

from secateur.engine.object_file import read_object
from secateur.engine.target import Target

ABI = 1
LIMIT = 64 << 20
_MAGIC = b"SECATOBJ"
_HEADER = struct.Struct("<8sI32sQ32s")
_MOST = 16 << 20


class ObjectCache:
    """Objects by key in one private folder.

    off    why nothing is cached, "" when the cache works
    """

    def __init__(self, folder: Path | None, limit: int = LIMIT) -> None:
        """`folder` None is a cache that keeps nothing."""
        self._limit = limit
        self._folder = folder
        self.off = "switched off" if folder is None else ""
        with self._open():
            pass

    def beside(self, name: str) -> Path | None:
        """A folder for other cached data next to this one, or None when nothing is cached."""
        return None if self._folder is None or self.off else self._folder.parent / name

    def get(self, key: bytes, symbols: Collection[str], target: Target) -> bytes | None:
        """The object of a key (32 bytes) if a file has it, whole, and it defines exactly `symbols`."""
        with self._open() as folder:
            if folder is None:
                return None
            try:
                file = os.open(_name(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
            except OSError:
                return None  # not there, or a symbolic link
            try:
                found = os.fstat(file)
                if not _is_ours(found, stat.S_ISREG) or found.st_size > _MOST + _HEADER.size:
                    return None
                with os.fdopen(file, "rb", closefd=False) as stream:
                    image = _checked(stream.read(), key, symbols, target)
                if image is not None:
                    with contextlib.suppress(OSError):  # only tells how recently it was used
                        os.utime(file)
                return image
            finally:
                os.close(file)

    def put(self, key: bytes, image: bytes) -> None:
        """Keep an object. A folder that refuses it costs the next process time, nothing else."""
        with self._open() as folder:
            if folder is None or len(image) > _MOST:
                return
            data = _HEADER.pack(_MAGIC, ABI, key, len(image), hashlib.sha256(image).digest()) + image
            temporary = f".{_name(key)}.{os.getpid()}.{os.urandom(4).hex()}"
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                file = os.open(temporary, flags, 0o600, dir_fd=folder)
                try:
                    with os.fdopen(file, "wb") as stream:
                        stream.write(data)
                    os.rename(temporary, _name(key), src_dir_fd=folder, dst_dir_fd=folder)
                except OSError:
                    os.unlink(temporary, dir_fd=folder)
                    raise
                _evict(folder, self._limit)
            except OSError as error:
                self.off = f"{self._folder} cannot be written: {error.strerror}"

    @contextlib.contextmanager
    def _open(self) -> Generator[int | None, None, None]:
        """A descriptor of the folder, checked anew each time, or None."""
        if self._folder is None or self.off:
            yield None
            return
        folder, self.off = _open_folder(self._folder)
        try:
            yield folder
        finally:
            if folder is not None:
                os.close(folder)


def default_cache() -> ObjectCache:
    """The user's cache. SECATEUR_CACHE names another folder, or is "off"."""
    chosen = os.environ.get("SECATEUR_CACHE", "")
    if chosen == "off":
        return ObjectCache(None)
    if chosen:
        return ObjectCache(Path(chosen).absolute() / f"kernels-v{ABI}")
    if sys.platform == "darwin":
        base = Path("~/Library/Caches")
    else:
        # The XDG specification: a relative path there is to be ignored.
        named = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(named) if named.startswith("/") else Path("~/.cache")
    try:
        return ObjectCache(base.expanduser() / "secateur" / f"kernels-v{ABI}")
    except RuntimeError:  # a user without home
        return ObjectCache(None)


def _open_folder(folder: Path) -> tuple[int | None, str]:
    """A descriptor of the folder, made where missing, or the reason why it cannot be used."""
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        return None, f"{folder} cannot be opened as a folder: {error.strerror}"
    if _is_ours(os.fstat(opened), stat.S_ISDIR):
        return opened, ""
    os.close(opened)
    return None, f"{folder} must belong to this user and be writable by nobody else"


def _is_ours(found: os.stat_result, kind: Callable[[int], bool]) -> bool:
    return kind(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _checked(data: bytes, key: bytes, symbols: Collection[str], target: Target) -> bytes | None:
    if len(data) < _HEADER.size:
        return None
    magic, abi, written_key, length, digest = _HEADER.unpack_from(data)
    image = data[_HEADER.size :]
    if (magic, abi, written_key, length) != (_MAGIC, ABI, key, len(image)):
        return None
    if hashlib.sha256(image).digest() != digest:
        return None
    try:
        found = read_object(image)
    except ValueError:
        return None
    if found.undefined or found.runs_itself or found.defined != frozenset(symbols):
        return None
    return image if found.machine == target.machine else None


def _evict(folder: int, limit: int) -> None:
    """Remove the files that have not been used for longest until three quarters of `limit` bytes are left."""
    files: list[tuple[int, int, str]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            files.append((found.st_mtime_ns, found.st_size, entry.name))
    total = sum(size for _, size, _ in files)
    if total <= limit:
        return
    for _, size, name in sorted(files):
        if total <= limit * 3 // 4:
            return
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            os.unlink(name, dir_fd=folder)
        total -= size


def _name(key: bytes) -> str:
    return key.hex() + ".o"
