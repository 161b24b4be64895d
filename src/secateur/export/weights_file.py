"""Weights in a file whose size follows the nonzeros: safetensors, with sparse tensors in compact parts.

A tensor `conv.weight` that is stored sparsely appears as `conv.weight#values`, `conv.weight#columns`, ... and
has a line in the header that says how to put them together. Everything else is a plain safetensors entry, and
a plain safetensors file from elsewhere loads as well. A loaded tensor equals the saved one bit for bit.
"""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from secateur.errors import ArtifactError
from secateur.files import atomic_path
from secateur.sparsity.compact import Packed, pack_tensor, unpack_tensor

# The library writes several header entries in random order; one entry keeps equal content equal byte for
# byte.
HEADER_KEY = "secateur"
HEADER_VERSION = 1
SEPARATOR = "#"

# All tensors of one file, unfolded. Larger than any vision network, small enough not to bring a machine down.
MAX_BYTES = 16 * 2**30


def save_weights(path: Path | str, state_dict: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write `state_dict` and `metadata` atomically, every tensor in its smallest form.

    raises    ArtifactError  when a tensor has a type that safetensors does not know, or a name that is taken
              DiskError      when the file cannot be written
    """
    stored: dict[str, torch.Tensor] = {}
    descriptions: dict[str, dict[str, Any]] = {}
    total = sum(tensor.numel() * tensor.element_size() for tensor in state_dict.values())
    if total > MAX_BYTES:
        raise ArtifactError(f"{path}: {total:,} bytes of weights are more than the {MAX_BYTES:,} that can be loaded.")
    for name, tensor in state_dict.items():
        packed = pack_tensor(tensor)
        if packed is None:
            # A copy, because safetensors refuses two tensors that share memory, as tied weights do.
            entries = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)}
        else:
            entries = {f"{name}{SEPARATOR}{part}": values for part, values in packed.parts.items()}
            descriptions[name] = packed.description
        for entry, values in entries.items():
            if entry in stored or (entry != name and entry in state_dict):
                raise ArtifactError(f"{path}: the tensor name '{entry}' is needed twice. Rename it.")
            stored[entry] = values
    header = {"version": HEADER_VERSION, "metadata": dict(metadata), "tensors": descriptions}
    text = json.dumps(header, separators=(",", ":"), sort_keys=True)
    with atomic_path(path) as temporary:
        try:
            save_file(stored, temporary, metadata={HEADER_KEY: text})
        except (SafetensorError, KeyError, ValueError) as error:
            raise ArtifactError(f"{path}: the weights cannot be stored: {error}.") from error


def load_weights(path: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(tensors by name, metadata) of a file written by `save_weights`, or of any plain safetensors file.

    raises    ArtifactError  when it is missing or damaged, contradicts itself, or would unfold beyond 16 GiB
    """
    if not Path(path).is_file():
        raise ArtifactError(f"{path}: no such file.")
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            foreign = dict(file.metadata() or {})
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ArtifactError(f"{path}: not a whole safetensors file: {str(error).splitlines()[0]}.") from error
    if HEADER_KEY not in foreign:
        return stored, foreign
    metadata, descriptions = _read_header(path, foreign[HEADER_KEY])
    return _unpack_all(path, stored, descriptions), metadata


def _read_header(path: Path | str, text: str) -> tuple[dict[str, str], dict[str, Any]]:
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (json.JSONDecodeError, RecursionError, ArtifactError) as error:
        raise ArtifactError(f"{path}: its header is damaged: {error}.") from error
    if not isinstance(header, dict) or header.get("version") != HEADER_VERSION:
        raise ArtifactError(f"{path}: its header is not of version {HEADER_VERSION}, the only one that is read here.")
    metadata, descriptions = header.get("metadata"), header.get("tensors")
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ArtifactError(f"{path}: the metadata in its header is not text by name.")
    if not isinstance(descriptions, dict) or not all(isinstance(value, dict) for value in descriptions.values()):
        raise ArtifactError(f"{path}: its header does not describe tensors by name.")
    return metadata, descriptions


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        names = [name for name, _ in pairs]
        raise ArtifactError(f"'{next(name for name in names if names.count(name) > 1)}' appears twice")
    return entries


def _unpack_all(
    path: Path | str, stored: dict[str, torch.Tensor], descriptions: dict[str, Any]
) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[str, torch.Tensor]] = {name: {} for name in descriptions}
    for entry, tensor in stored.items():
        name, _, part = entry.rpartition(SEPARATOR)
        if name in parts:
            parts[name][part] = tensor
        else:
            state[entry] = tensor
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    for name, description in descriptions.items():
        if name in state:
            raise ArtifactError(f"{path}: tensor '{name}' is stored twice, dense and sparse.")
        try:
            total += _claimed_bytes(description, parts[name])
            if total > MAX_BYTES:
                raise ArtifactError(f"with it the tensors would take more than {MAX_BYTES:,} bytes")
            state[name] = unpack_tensor(Packed(parts[name], description))
        except ArtifactError as error:
            raise ArtifactError(f"{path}: tensor '{name}' is damaged: {error}.") from error
    return state


def _claimed_bytes(description: dict[str, Any], parts: dict[str, torch.Tensor]) -> int:
    shape = description.get("shape")
    if "values" not in parts or not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
        return 0  # unpack_tensor says what is wrong
    return prod(shape) * parts["values"].element_size()
