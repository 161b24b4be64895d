"""Storage formats of sparse tensors: one file each, found by name in `storage_formats`."""

from secateur.sparsity.formats import bitmask as _bitmask  # noqa: F401  # pyright: ignore[reportUnusedImport]  (registers itself)
from secateur.sparsity.formats import block as _block  # noqa: F401  # pyright: ignore[reportUnusedImport]
from secateur.sparsity.formats import block_bitmask as _block_bitmask  # noqa: F401  # pyright: ignore[reportUnusedImport]
from secateur.sparsity.formats import csr as _csr  # noqa: F401  # pyright: ignore[reportUnusedImport]
from secateur.sparsity.formats import n_m as _n_m  # noqa: F401  # pyright: ignore[reportUnusedImport]
from secateur.sparsity.formats.base import Bits, Form, Parts, StorageFormat, storage_formats

__all__ = ["Bits", "Form", "Parts", "StorageFormat", "storage_formats"]
