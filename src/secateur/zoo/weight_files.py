"""Files with weights: safetensors, and torch's own format without code (`weights_only`).

A file is opened without reading its tensors; names, shapes and what it states about itself are known at once,
so that a file that does not fit is refused before anything large is read.
"""

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from secateur.errors import WeightsError
from secateur.zoo.catalogue import Renaming
from secateur.zoo.metadata import Stated, parse_metadata

TORCH_SUFFIXES = (".pth", ".pt", ".th")
# Training scripts wrap the state dict in one of these, among optimiser states and epochs.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
# Exported sparse tensors are stored in parts, as `conv.weight#values`.
COMPACT_MARK = "#"
# A torch file of the old format is read whole, whatever it holds.
LARGEST_OLD_FORMAT = 4 << 30


@dataclass(frozen=True)
class WeightsFile:
    """Names and shapes of the tensors in a file, and how to read one."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    stated: Stated

    @property
    def elements(self) -> int:
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())


def from_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], source: Path) -> WeightsFile:
    """Tensors that were read by other means, as if `source` held them."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return WeightsFile(source, shapes, tensors.__getitem__, parse_metadata(metadata, str(source)))


def open_weights(path: str | Path, renamings: tuple[Renaming, ...] = ()) -> WeightsFile:
    """Open a weights file; where it uses one of the `renamings`, its tensors appear under our names.

    raises    WeightsError  no such file, unknown suffix, truncated, holds code, holds no tensors
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a weights file" if path.is_dir() else "no such weights file"
        raise WeightsError(f"{path}: {what}.")
    if path.suffix == ".safetensors":
        file = _open_safetensors(path)
    elif path.suffix in TORCH_SUFFIXES:
        file = _open_torch(path)
    else:
        known = ", ".join((".safetensors", *TORCH_SUFFIXES))
        raise WeightsError(f"{path}: weights files end in {known}, this one in '{path.suffix}'.")
    if not file.shapes:
        raise WeightsError(f"{path}: holds no tensors.")
    for renaming in renamings:
        if renaming.marker in file.shapes:
            return _renamed(file, renaming)
    return file


def _open_safetensors(path: Path) -> WeightsFile:
    try:
        handle = safe_open(path, framework="pt")
        shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
        metadata = handle.metadata() or {}
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file: {_first_line(error)}.") from error
    if any(COMPACT_MARK in name for name in shapes):
        raise WeightsError(
            f"{path}: holds sparse tensors in compact form; read it with secateur.export.load_weights "
            "and give the tensors to secateur.zoo.load_state_."
        )
    return WeightsFile(path, shapes, handle.get_tensor, parse_metadata(metadata, str(path)))


def _open_torch(path: Path) -> WeightsFile:
    content = _load_torch(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a state dict (names with tensors).")
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise WeightsError(f"{path}: '{name}' is a {type(value).__name__}, not a tensor, so it is no state dict.")
        # DistributedDataParallel and DataParallel put this before every name.
        tensors[str(name).removeprefix("module.")] = value
    return from_tensors(tensors, {}, path)


def _load_torch(path: Path) -> Any:
    try:
        mapped = zipfile.is_zipfile(path)
        if not mapped and path.stat().st_size > LARGEST_OLD_FORMAT:
            raise WeightsError(f"{path}: larger than {LARGEST_OLD_FORMAT >> 30} GiB in torch's old format.")
        if mapped:
            _check_uncompressed(path)
        with warnings.catch_warnings():
            # It warns of pickle protocols that its own files do not have; a damaged file gets one sentence.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Weights only" in str(error):
            raise WeightsError(
                f"{path}: holds Python objects besides tensors, which could run code, and is not read; "
                "save module.state_dict() alone, best as safetensors."
            ) from error
        raise WeightsError(f"{path}: not a whole torch file: {_first_line(error)}.") from error
    # A damaged file makes the unpickler fail in whatever step the damage hits; none of them runs code.
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        UnicodeDecodeError,
        AssertionError,
        OverflowError,
        zipfile.BadZipFile,
    ) as error:
        raise WeightsError(f"{path}: not a whole torch file: {_first_line(error)}.") from error


def _check_uncompressed(path: Path) -> None:
    """torch never compresses; a compressed part could unfold to any size."""
    with zipfile.ZipFile(path) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise WeightsError(f"{path}: is a compressed archive, which torch does not write; it is not read.")


def _renamed(file: WeightsFile, renaming: Renaming) -> WeightsFile:
    theirs = {renaming.rename(name): name for name in file.shapes}
    stated = file.stated
    return WeightsFile(
        file.path,
        {name: file.shapes[old] for name, old in theirs.items()},
        lambda name: file.read(theirs[name]),
        Stated(stated.preprocessing, renaming.implies | stated.options, stated.model, stated.not_understood),
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
