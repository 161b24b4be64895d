"""The smallest lossless form of each tensor.

A tensor is stored dense, or in the storage format that needs the fewest bytes for it. A form must be worth
its entry in the file's header, and may not be smaller than 1/1024 of the dense tensor: a reader can then
refuse a small file that claims to unfold into a huge one, and no honest file is refused.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from secateur.errors import ArtifactError
from secateur.sparsity.formats import Bits, Form, Parts, storage_formats
from secateur.sparsity.formats.base import VALUES

DENSE = "dense"
MAX_EXPANSION = 1024

# What a part costs in the header of the file: its name, dtype, shape and offsets, and its share of the
# description.
PART_HEADER_BYTES = 128

_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_TORCH_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_MAX_DIMENSIONS = 16


@dataclass(frozen=True)
class Packed:
    """A tensor in a sparse form: named flat tensors, and the description that a reader needs."""

    parts: dict[str, torch.Tensor]
    description: dict[str, Any]


def stored_bytes(tensor: torch.Tensor) -> dict[str, int]:
    """Bytes of `tensor` in every storage format that applies to it, header entries not counted."""
    sizes = {DENSE: tensor.numel() * tensor.element_size()}
    bits = _to_bits(tensor)
    if bits is not None:
        for name in storage_formats:
            form = storage_formats[name]().best(bits)
            if form is not None:
                sizes[name] = form.bytes
    return sizes


def pack_tensor(tensor: torch.Tensor) -> Packed | None:
    """The smallest sparse form of `tensor`, or None when dense is the best choice."""
    bits = _to_bits(tensor)
    dense = tensor.numel() * tensor.element_size()
    if bits is None or dense <= 2 * PART_HEADER_BYTES:
        return None
    # No form is smaller than the nonzero values themselves, so a dense tensor need not be searched for
    # blocks.
    if np.count_nonzero(bits) * bits.itemsize + 2 * PART_HEADER_BYTES >= dense:
        return None
    forms = [form for name in storage_formats if (form := storage_formats[name]().best(bits)) is not None]
    honest = [form for form in forms if form.bytes * MAX_EXPANSION >= dense]
    if not honest:
        return None
    # 2:4 has one size as a bitmask and packed; of equal ones the form that shows the pattern is taken.
    form = min(honest, key=lambda form: (form.bytes, form.format == "bitmask"))
    parts = storage_formats[form.format]().pack(bits, form)
    # A dense tensor has one part as well.
    if form.bytes + (len(parts) - 1) * PART_HEADER_BYTES >= dense:
        return None
    description = {"format": form.format, "shape": list(tensor.shape), **form.details}
    return Packed({name: _to_tensor(array, tensor.dtype, name) for name, array in parts.items()}, description)


def unpack_tensor(packed: Packed) -> torch.Tensor:
    """The tensor again, bit for bit.

    raises    ArtifactError  with the end of a sentence ("its mask has 3 bytes for 80 elements") when parts
              and description contradict each other, or the tensor would be over 1024 times its stored size
    """
    shape, form = _read_description(packed.description)
    if VALUES not in packed.parts:
        raise ArtifactError(f"its part '{VALUES}' is missing")
    values = packed.parts[VALUES]
    stored = sum(part.numel() * part.element_size() for part in packed.parts.values())
    if prod(shape) * values.element_size() > MAX_EXPANSION * stored:
        raise ArtifactError(f"{stored} stored bytes claim to unfold into shape {list(shape)}")
    parts: Parts = {}
    for name, part in packed.parts.items():
        bits = _to_bits(part) if name == VALUES else part.numpy()
        if bits is None:
            raise ArtifactError(f"its part '{name}' has the type {part.dtype}, which has no sparse form")
        parts[name] = bits
    return _to_tensor(storage_formats[form.format]().unpack(parts, form, shape), values.dtype, VALUES)


def _read_description(description: dict[str, Any]) -> tuple[tuple[int, ...], Form]:
    shape, name = description.get("shape"), description.get("format")
    if not isinstance(name, str) or name not in storage_formats:
        raise ArtifactError(f"its storage format {name!r} is not known (known: {', '.join(storage_formats)})")
    sizes = cast(list[Any], shape) if isinstance(shape, list) else None
    if (
        sizes is None
        or len(sizes) > _MAX_DIMENSIONS
        or not all(isinstance(size, int) and not isinstance(size, bool) and 0 < size < 2**40 for size in sizes)
    ):
        raise ArtifactError(f"its shape {shape!r} is not a list of positive sizes")
    details = {key: value for key, value in description.items() if key not in ("format", "shape")}
    return tuple(sizes), Form(name, 0, details)


def _to_bits(tensor: torch.Tensor) -> Bits | None:
    """The elements as unsigned integers; None for element sizes that no integer has."""
    size = tensor.element_size()
    if size not in _BITS or tensor.numel() == 0:
        return None if size not in _BITS else np.zeros(tuple(tensor.shape), _BITS[size])
    plain = tensor.detach().cpu().contiguous()
    return plain.view(_TORCH_BITS[size]).numpy().view(_BITS[size])


def _to_tensor(array: NDArray[Any], dtype: torch.dtype, name: str) -> torch.Tensor:
    """Values get the tensor's own dtype back; indices and masks stay unsigned integers."""
    array = np.ascontiguousarray(array)
    if name != VALUES:
        return torch.as_tensor(array)
    signed = array.view(np.dtype(f"i{array.itemsize}") if array.itemsize > 1 else np.uint8)
    return torch.as_tensor(signed).view(dtype)
