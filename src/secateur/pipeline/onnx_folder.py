"""The folder of a job on an ONNX file: whose it is, and files that are written into it.

request.json    what was asked for; another request does not go on here
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from secateur.errors import ArtifactError, ExportError
from secateur.files import atomic_path, read_json, write_json
from secateur.pipeline.record import LOCK_FILE
from secateur.progress import say
from secateur.zoo import Preprocessing
from secateur.zoo.onnx_preprocessing import KEY

REQUEST_FILE = "request.json"
# Protobuf refuses messages of 2 GiB and more.
MAX_FILE_BYTES = 2**31 - 1


def claim(out: Path, request: Mapping[str, Any], written: Sequence[str], verb: str, overwrite: bool) -> None:
    """Make sure that writing into `out` destroys nothing that the user has not given up.

    written    names of what the verb writes, which is removed where the folder holds another request's
    raises     ArtifactError
    """
    file = out / REQUEST_FILE
    if file.is_file() and _is_same(file, request):
        return
    if file.is_file() and not overwrite:
        raise ArtifactError(
            f"{out}: holds the result of another model, other images or other options; choose another folder, or "
            "allow overwriting (--overwrite)."
        )
    if not overwrite:
        strangers = sorted(p.name for p in out.iterdir() if p.name != LOCK_FILE and not p.name.endswith(".part"))
        if strangers:
            raise ArtifactError(
                f"{out}: holds other files ({', '.join(strangers[:3])}) and no result of `secateur {verb}`; choose "
                "an empty or new folder, or allow overwriting (--overwrite)."
            )
    for path in (out / name for name in (REQUEST_FILE, *written)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    write_json(file, request)


def _is_same(file: Path, request: Mapping[str, Any]) -> bool:
    try:
        return read_json(file) == json.loads(json.dumps(request))
    except ArtifactError as error:
        say(f"starting anew: {error}")
        return False


def made(folder: Path) -> Path:
    """The folder, which then exists."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def state_preprocessing_(model: onnx.ModelProto, preprocessing: Preprocessing) -> None:
    """Write down in the file how its images are prepared."""
    kept = [entry for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=KEY, value=json.dumps(preprocessing.to_dict(), sort_keys=True))


def write_model(model: onnx.ModelProto, path: Path) -> None:
    """raises ExportError, DiskError"""
    if model.ByteSize() >= MAX_FILE_BYTES:
        raise ExportError(f"{path}: {model.ByteSize():,} bytes do not fit into one ONNX file of at most 2 GiB.")
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
