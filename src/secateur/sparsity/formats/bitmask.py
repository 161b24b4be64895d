"""One bit per element, then the nonzeros in order.

    bytes = ceil(n / 8) + nnz * v

The best choice for unstructured zeros, and the one whose size is known without looking at their places.
"""

import numpy as np

from secateur.errors import ArtifactError
from secateur.sparsity.formats.base import VALUES, Bits, Form, Parts, matrix_shape, part, storage_formats


def bitmask_bytes(elements: int, nonzeros: int, value_bytes: int) -> int:
    """Stored size in bytes (ALGORITHMS B10)."""
    return -(-elements // 8) + nonzeros * value_bytes


@storage_formats.register("bitmask")
class _Bitmask:
    def best(self, bits: Bits) -> Form | None:
        size = bitmask_bytes(bits.size, int(np.count_nonzero(bits)), bits.itemsize)
        return Form("bitmask", size)

    def pack(self, bits: Bits, form: Form) -> Parts:
        flat = bits.reshape(-1)
        kept = flat != 0
        return {"mask": np.packbits(kept, bitorder="little"), VALUES: flat[kept]}

    def unpack(self, parts: Parts, form: Form, shape: tuple[int, ...]) -> Bits:
        mask, values = part(parts, "mask", np.uint8), part(parts, VALUES)
        rows, columns = matrix_shape(shape) if shape else (1, 1)
        elements = rows * columns
        if len(mask) != -(-elements // 8):
            raise ArtifactError(f"its mask has {len(mask)} bytes for {elements} elements")
        kept = np.unpackbits(mask, bitorder="little").view(bool)
        if np.any(kept[elements:]) or int(np.count_nonzero(kept)) != len(values):
            raise ArtifactError(f"its mask keeps {int(np.count_nonzero(kept))} elements, and {len(values)} are stored")
        flat = np.zeros(elements, dtype=values.dtype)
        flat[kept[:elements]] = values
        return flat.reshape(shape)
