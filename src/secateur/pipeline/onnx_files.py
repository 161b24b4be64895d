"""ONNX files that a job writes, and the folders they go to."""

import json
from pathlib import Path

import onnx

from secateur.errors import ExportError
from secateur.files import atomic_path
from secateur.zoo import Preprocessing
from secateur.zoo.onnx_preprocessing import KEY

# Protobuf refuses messages of 2 GiB and more.
MAX_FILE_BYTES = 2**31 - 1


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
