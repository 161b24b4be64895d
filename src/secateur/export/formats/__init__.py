"""Storage formats of sparse tensors: one file each, found by name in `storage_formats`."""

from secateur.export.formats import bitmask as _bitmask  # noqa: F401  (registers itself)
from secateur.export.formats import block as _block  # noqa: F401
from secateur.export.formats import csr as _csr  # noqa: F401
from secateur.export.formats import n_m as _n_m  # noqa: F401
from secateur.export.formats.base import Bits, Form, Parts, StorageFormat, storage_formats

__all__ = ["Bits", "Form", "Parts", "StorageFormat", "storage_formats"]
