"""Bitmask over blocks: a bit for every block, and all values of the blocks that are kept.

    along `in`     a block is n consecutive input channels at one kernel position of one filter (pattern 4in)
    along `out`    a block is n consecutive filters at one input position (pattern 1xN)
    bytes = ceil(blocks / 8) + kept * n * v

Blocks are cut from the lines of a matrix, one after the other; the last one of a line may be shorter and is filled up
with zeros. A bit tells 1/n of what it tells in a bitmask over single values, so that with 8-bit values the places of
the nonzeros cost little beside the values. n and direction are not asked for: the smallest form is taken.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import ArtifactError
from secateur.sparsity.formats.base import VALUES, Bits, Form, Parts, part, storage_formats

BLOCK_SIZES = (2, 4, 8, 16)
DIRECTIONS = ("in", "out")


def block_bitmask_bytes(blocks: int, kept: int, size: int, value_bytes: int) -> int:
    """Stored size in bytes (ALGORITHMS B10, the bitmask with blocks in place of values)."""
    return -(-blocks // 8) + kept * size * value_bytes


@storage_formats.register("block_bitmask")
class _BlockBitmask:
    def best(self, bits: Bits) -> Form | None:
        if bits.ndim < 2 or bits.size == 0:
            return None
        forms: list[Form] = []
        for along in DIRECTIONS:
            lines = _lines(bits, along)
            for size in BLOCK_SIZES:
                if size <= lines.shape[1]:
                    kept = np.any(_blocks(lines, size) != 0, axis=2)
                    stored = block_bitmask_bytes(kept.size, int(np.count_nonzero(kept)), size, bits.itemsize)
                    forms.append(Form("block_bitmask", stored, {"n": size, "along": along}))
        return min(forms, key=lambda form: form.bytes) if forms else None

    def pack(self, bits: Bits, form: Form) -> Parts:
        blocks = _blocks(_lines(bits, str(form.details["along"])), int(form.details["n"]))
        kept = np.any(blocks != 0, axis=2)
        return {"mask": np.packbits(kept.ravel(), bitorder="little"), VALUES: blocks[kept].ravel()}

    def unpack(self, parts: Parts, form: Form, shape: tuple[int, ...]) -> Bits:
        size, along = form.details.get("n"), form.details.get("along")
        if not isinstance(size, int) or size not in BLOCK_SIZES or along not in DIRECTIONS:
            raise ArtifactError(f"blocks of n={size!r} along {along!r} do not exist")
        if len(shape) < 2:
            raise ArtifactError(f"blocks of channels need two dimensions, it has {len(shape)}")
        filters, channels, kernel = shape[0], shape[1], shape[2:]
        count, length = (filters * prod(kernel), channels) if along == "in" else (prod(shape[1:]), filters)
        per_line = -(-length // size)
        mask, values = part(parts, "mask", np.uint8), part(parts, VALUES)
        if len(mask) != -(-count * per_line // 8):
            raise ArtifactError(f"its mask has {len(mask)} bytes for {count * per_line} blocks")
        kept = np.unpackbits(mask, bitorder="little").view(bool)
        stored = int(np.count_nonzero(kept))
        if np.any(kept[count * per_line :]) or stored * size != len(values):
            raise ArtifactError(f"its mask keeps {stored} blocks of {size}, and {len(values)} values are stored")
        blocks = np.zeros((count * per_line, size), dtype=values.dtype)
        blocks[kept[: count * per_line]] = values.reshape(-1, size)
        lines = blocks.reshape(count, per_line * size)
        if np.any(lines[:, length:]):
            raise ArtifactError("its blocks go on behind the last channel")
        lines = lines[:, :length]
        if along == "out":
            return np.ascontiguousarray(lines.T).reshape(shape)
        return np.ascontiguousarray(np.moveaxis(lines.reshape(filters, *kernel, channels), -1, 1))


def _lines(bits: Bits, along: str) -> NDArray[Any]:
    """The lines that blocks are cut from."""
    if along == "out":
        return bits.reshape(bits.shape[0], -1).T
    return np.moveaxis(bits, 1, -1).reshape(-1, bits.shape[1])


def _blocks(lines: NDArray[Any], size: int) -> NDArray[Any]:
    """(lines, blocks of a line, n)"""
    missing = -lines.shape[1] % size
    whole = np.pad(lines, ((0, 0), (0, missing))) if missing else lines
    return whole.reshape(len(whole), -1, size)
