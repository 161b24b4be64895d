"""Results kept on disk under the hash of everything that they depend on.

    cache = Cache(folder)
    key = key_of({"what": "gram", "layer": name, "limit": 4096, "network": subject.digest(), "images": [3, 14, 15]})
    entry = cache.get(key) or cache.put(key, {"columns": columns}, {"matrix": matrix})

An entry is one safetensors file, `KEY.safetensors`: arrays, and a JSON value in its header. It is whole or absent, and
proves when it is read that it is what was written: the header holds the key and a SHA-256 of the value and of every
array. A damaged entry is reported, counts as absent, and is replaced by the next `put`. Nothing in a file can run code.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from secateur.errors import ArtifactError
from secateur.files import atomic_path
from secateur.progress import say

VERSION = 1
SUFFIX = ".safetensors"
# One header entry: the library writes several in random order.
_HEADER = "secateur.cache"


@dataclass(frozen=True)
class Entry:
    """What was kept.

    value     plain JSON
    arrays    by name
    """

    value: Any
    arrays: Mapping[str, NDArray[Any]]


def key_of(facts: Any) -> str:
    """64 hexadecimal digits that stand for plain JSON facts; the order of keys in a mapping does not matter.

    Contents of files and arrays belong into the facts by their digest (`files.sha256_of`, `digest_of`). Facts that are
    not plain JSON, NaN among them, are a mistake of the caller: TypeError or ValueError.
    """
    return hashlib.sha256(_json(facts).encode()).hexdigest()


def digest_of(array: NDArray[Any]) -> str:
    """SHA-256 of an array's type, shape and elements."""
    total = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    total.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return total.hexdigest()


class Cache:
    """Entries in one folder, which is made when the first one is put. Processes may share it; the last one wins."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where the entry of a key lies or would lie."""
        return self.folder / f"{key}{SUFFIX}"

    def __contains__(self, key: str) -> bool:
        """Whether there is a file for the key; `get` alone knows whether it is whole."""
        return self.path(key).is_file()

    def get(self, key: str) -> Entry | None:
        """The entry of a key; None when there is none, or when it is damaged, which is said."""
        if key not in self:
            return None
        try:
            return _read(self.path(key), key)
        except ArtifactError as error:
            say(f"{str(error).rstrip('.')}; it is computed again.")
            return None

    def put(self, key: str, value: Any, arrays: Mapping[str, NDArray[Any]] | None = None) -> Entry:
        """Keep a JSON value and arrays, atomically; the entry as `get` will give it.

        raises    DiskError  the folder cannot be written
        """
        held = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
        text = _json(value)
        header = {"version": VERSION, "key": key, "value": text, "digest": _digest(text, held)}
        with atomic_path(self.path(key)) as temporary:
            save_file(held, temporary, metadata={_HEADER: _json(header)})
        return Entry(json.loads(text), held)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    names = "".join(f"{name} {digest_of(array)}\n" for name, array in sorted(arrays.items()))
    return hashlib.sha256(f"{text}\n{names}".encode()).hexdigest()


def _read(path: Path, key: str) -> Entry:
    """raises ArtifactError when the file is not exactly what `put` wrote for this key."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArtifactError(f"{path}: this entry of the cache is damaged: {reason}.") from error
    if not isinstance(header, dict) or header.get("version") != VERSION:
        raise ArtifactError(f"{path}: this entry of the cache is of another version or no entry at all.")
    text = header.get("value")
    if header.get("key") != key or not isinstance(text, str) or header.get("digest") != _digest(text, arrays):
        raise ArtifactError(f"{path}: this entry of the cache is not what was written.")
    return Entry(json.loads(text), arrays)
