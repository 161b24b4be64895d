"""Files that are either whole or absent.

Everything Secateur writes goes to a temporary neighbour first and is renamed over its target when it is complete and
on disk, so that a killed process or a full disk never leaves a half-written file under the final name.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secateur.errors import ArtifactError, DiskError

TEMPORARY_SUFFIX = ".part"
# In a run folder: the compressed network, and the folder that holds the dense one under the same name.
MODEL_FILE = "model.onnx"
DENSE_FOLDER = "dense"
# Beside it, the same network in other numbers: model.int8.onnx and the like.
QUANTIZED_FILES = {numbers: f"model.{numbers}.onnx" for numbers in ("int8", "fp16", "bf16")}


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`; renamed to it when the block ends without an error, removed otherwise.

    raises    DiskError  when the folder cannot be made or the disk refuses the bytes
    """
    target = Path(path)
    # The process id keeps two processes that write the same target apart; the last one wins, both are whole.
    temporary = target.with_name(f".{target.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        # Some libraries create files that only their owner may read; what is published here follows the umask.
        temporary.chmod(0o666 & ~_umask())
        _flush_to_disk(temporary)
        temporary.replace(target)
    except OSError as error:
        raise DiskError(f"{target}: cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, atomically. raises DiskError."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused. raises DiskError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """The value in a JSON file. raises ArtifactError when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not readable as JSON: {error}.") from error


def sha256_of(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed process left in `folder` and below."""
    for leftover in folder.rglob(f".*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            leftover.unlink()
