"""N:M packed: of every M consecutive input channels N values are stored, and where they stand.

    bytes = groups * N * v + ceil(groups * N * b / 8)       b = ceil(log2 M): 2 bits for M = 4
          + filters * kernel * (C_in mod M) * v             channels beyond the last whole group, stored as they are

Groups run along the input channels at each kernel position, filter by filter: position (filter, ky, kx), then channel.
Positions climb inside a group; a group with fewer nonzeros stores zeros at the lowest free places. N and M are not
asked for: the smallest form over M = 2, 4, 8, 16, 32 is taken, with N as large as the fullest group. The format
applies where N < M, which is what 2:4 hardware and kernels read.

Source: Mishra et al. 2021 (2:4 with 2-bit metadata); ALGORITHMS B10.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from secateur.errors import ArtifactError
from secateur.sparsity.formats.base import VALUES, Bits, Form, Parts, part, storage_formats

GROUP_SIZES = (2, 4, 8, 16, 32)


def n_m_bytes(elements: int, n: int, m: int, value_bytes: int, loose: int = 0) -> int:
    """Stored size in bytes (ALGORITHMS B10).

    elements    in whole groups of `m`;  loose: those beyond, stored as they are
    """
    values = elements // m * n
    return (values + loose) * value_bytes + -(-values * _position_bits(m) // 8)


@storage_formats.register("n_m")
class _NM:
    def best(self, bits: Bits) -> Form | None:
        if bits.ndim < 2 or bits.size == 0:
            return None
        forms = [form for m in GROUP_SIZES if (form := _form(bits, m)) is not None]
        return min(forms, key=lambda form: form.bytes) if forms else None

    def pack(self, bits: Bits, form: Form) -> Parts:
        n, m = int(form.details["n"]), int(form.details["m"])
        groups, loose = _cut(bits, m)
        # Nonzeros first, each kind in its order; then the N that are stored, in order.
        places = np.argsort(groups == 0, axis=1, kind="stable")[:, :n]
        places.sort(axis=1)
        stored = np.take_along_axis(groups, places, axis=1)
        return {
            "positions": _packed(places.ravel().astype(np.uint8), _position_bits(m)),
            VALUES: np.concatenate([stored.ravel(), loose.ravel()]),
        }

    def unpack(self, parts: Parts, form: Form, shape: tuple[int, ...]) -> Bits:
        n, m = form.details.get("n"), form.details.get("m")
        if not isinstance(m, int) or m not in GROUP_SIZES or not isinstance(n, int) or not 1 <= n < m:
            raise ArtifactError(f"a form {n!r}:{m!r} does not exist")
        if len(shape) < 2:
            raise ArtifactError(f"groups of input channels need two dimensions, it has {len(shape)}")
        rows, channels = shape[0] * prod(shape[2:]), shape[1]
        groups, loose = rows * (channels // m), rows * (channels % m)
        positions, values = part(parts, "positions", np.uint8), part(parts, VALUES)
        if len(values) != groups * n + loose:
            raise ArtifactError(f"its {groups} groups of {n} and {loose} loose values are not {len(values)} values")
        places = _unpacked(positions, _position_bits(m), groups * n).reshape(groups, n)
        if np.any(places[:, 1:] <= places[:, :-1]):
            raise ArtifactError("its positions do not climb inside a group")
        whole = np.zeros((groups, m), dtype=values.dtype)
        np.put_along_axis(whole, places.astype(np.int64), values[: groups * n].reshape(groups, n), axis=1)
        cut = whole.reshape(rows, -1)
        matrix = np.concatenate([cut, values[groups * n :].reshape(rows, channels % m)], axis=1)
        by_position = matrix.reshape(shape[0], *shape[2:], channels)
        return np.ascontiguousarray(np.moveaxis(by_position, -1, 1))


def _position_bits(m: int) -> int:
    return (m - 1).bit_length()


def _cut(bits: Bits, m: int) -> tuple[Bits, Bits]:
    """(groups, m) whole groups, and (rows, channels mod m) what is left of each row."""
    matrix = np.moveaxis(bits, 1, -1).reshape(-1, bits.shape[1])
    whole = bits.shape[1] // m * m
    return matrix[:, :whole].reshape(-1, m), matrix[:, whole:]


def _form(bits: Bits, m: int) -> Form | None:
    groups, loose = _cut(bits, m)
    if len(groups) == 0:
        return None
    n = max(1, int(np.count_nonzero(groups, axis=1).max()))
    if n >= m:
        return None
    return Form("n_m", n_m_bytes(groups.size, n, m, bits.itemsize, loose.size), {"n": n, "m": m})


def _packed(places: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Numbers of `width` bits one after the other, lowest bit first."""
    digits = np.unpackbits(places[:, None], axis=1, count=width, bitorder="little")
    return np.packbits(digits.ravel(), bitorder="little")


def _unpacked(positions: NDArray[np.uint8], width: int, count: int) -> NDArray[np.uint8]:
    """raises ArtifactError unless there are exactly `count` numbers, and nothing after them."""
    if len(positions) != -(-count * width // 8):
        raise ArtifactError(f"its positions have {len(positions)} bytes for {count} numbers of {width} bits")
    digits = np.unpackbits(positions, bitorder="little")
    if np.any(digits[count * width :]):
        raise ArtifactError("its positions go on behind the last group")
    return np.packbits(digits[: count * width].reshape(count, width), axis=1, bitorder="little")[:, 0]
