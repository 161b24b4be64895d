"""What a convolution touches: tiles and panels, and where the streams of positions lead."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from secateur.engine.emit.byte_planes import TOGETHER
from secateur.engine.extents.extent import Extent, Fault, Reader, extents_of
from secateur.engine.kernels.conv import ConvKernel
from secateur.engine.kernels.conv_form import AHEAD, PANEL_FIELDS, TILE_FIELDS, UNIT_FIELDS
from secateur.engine.kernels.requantize import NUMBERS
from secateur.engine.weights.by_bytes import TURN
from secateur.engine.weights.streams import MAX_DELTA

Ints = NDArray[np.int64]
_COUNTS = len(PANEL_FIELDS)


@extents_of(ConvKernel)
def conv(step: Reader) -> Iterator[Extent]:
    """All tiles with all panels of the step: every combination may occur."""
    kernel: ConvKernel = step.kernel
    units = step.records("units", len(UNIT_FIELDS), np.int32)
    tiles = step.records("tiles", len(TILE_FIELDS), np.int64)
    panels = step.records("panels", kernel.panel_words, np.int32)
    if len(units) < step.units:
        raise Fault(f"'units' has {len(units)} records; {step.units} are read")
    units = units[: step.units]
    tile, first, end = int(units[:, 0].max()), int(units[:, 1].min()), int(units[:, 2].max())
    if int(units.min()) < 0 or tile >= len(tiles) or end > len(panels):
        raise Fault(f"'units' asks for tile {tile} of {len(tiles)} and panel {end - 1} of {len(panels)}")
    if first >= end:
        return
    once, arguments = step.common.once, step.step.arguments
    some = len(units) < len(tiles)
    own = tiles[units[:, 0]] if some else tiles
    key = id(arguments["units"]) if some else 0
    x, y, residual, mask = once(step.check("tiles", np.int64, 0), key, lambda: _tiles(step, own))
    if kernel.of_bytes:
        near, far, row, last_row = once(step.check("deltas", np.int32, 0), 0, lambda: _byte_panels(step))
    else:
        near, far, row, last_row = once(step.check("deltas", np.uint16, 0), 0, lambda: _panels(step))
    low, high = once(step.check("rows", np.int64, 0), (row, last_row), lambda: _rows(step, "rows", row, last_row))

    unit = step.integer("unit")
    near, far = (near, far) if kernel.of_bytes else (near * unit, far * unit)
    if kernel.packed:
        offsets, held = _packed(step, int(units[:, 3].min()), int(units[:, 4].max()))
        x = x[0] + int(offsets.min()), x[1] + int(offsets.max())
        read = 4 * step.lanes * (1 if kernel.of_bytes else max(kernel.vectors))
        written = 4 * step.lanes * (TOGETHER if kernel.of_bytes else max(kernel.vectors))
        yield Extent("scratch", near, max(far + read, (held - 1) * unit + written), write=True)
        yield Extent("x", *x)
    else:
        yield Extent("x", x[0] + near, x[1] + far)
    yield Extent("y", y[0] + low, y[1] + high, write=True)
    if kernel.residual:
        if kernel.requantize:
            low, high = _rows(step, "residual_rows", row, last_row)
        yield Extent("residual", residual[0] + low, residual[1] + high)
    step.check("bias", np.int32 if kernel.requantize else np.float32, last_row)
    if kernel.requantize:
        step.check("scales", np.float32, last_row)
        step.check("numbers", np.float32, len(NUMBERS))
    if kernel.activation and kernel.activation.kind == "prelu":
        yield Extent("slope", 4 * row, 4 * last_row)
    if kernel.masked:
        yield Extent("masks", 2 * mask[0], 2 * mask[1])


def _tiles(step: Reader, tiles: Ints) -> tuple[tuple[int, int], ...]:
    """Where tiles begin and end in the input, the output, the second operand (bytes), and the masks (vectors)."""
    sizes = tiles[:, 4]
    if int(sizes.min()) < 0 or int(sizes.max()) >= len(step.kernel.vectors):
        raise Fault(f"'tiles' has a size beyond the {len(step.kernel.vectors)} of the kernel")
    vectors = np.array(step.kernel.vectors, np.int64)[sizes]
    begins, widths = tiles[:, :4], vectors[:, None] * np.array([4 * step.lanes] * 3 + [1])
    if step.kernel.of_bytes:  # whatever is stored
        widths[:, 0] = 4 * step.lanes * (TOGETHER if step.kernel.packed else 1)
    low, high = begins.min(axis=0).tolist(), (begins + widths).max(axis=0).tolist()
    return tuple(zip(low, high, strict=True))


def _rows(step: Reader, field: str, begin: int, end: int) -> tuple[int, int]:
    """Bytes from the output's first plane to the first and last that panels write; rows that only pad are negative."""
    rows = step.table(field, end)[begin:]
    return max(int(rows.min()), 0), max(int(rows.max()), 0)


def _packed(step: Reader, begin: int, end: int) -> tuple[NDArray[np.int32], int]:
    """Offsets of the positions that are copied, and how many at most."""
    shift, most = step.integers("pack_shift", "pack_most")
    offsets = step.table("pack_offsets", end, np.int32)[begin + shift :]
    if not len(offsets):
        raise Fault("'pack_shift' lies behind the last position")
    return offsets, min(most, len(offsets))


def _panels(step: Reader) -> tuple[int, int, int, int]:
    """Least and greatest place of positions, in units; the first row of the panels, and the one behind their last.

    Of all steps that walk along the same stream: a layer has one for each block of positions.
    """
    kernel: ConvKernel = step.kernel
    deltas = step.check("deltas", np.uint16, 0)
    tables = {
        id(table): table.reshape(-1, kernel.panel_words)
        for each in step.common.readers("deltas", deltas)
        if each.kernel == kernel
        for table in [each.arguments["panels"]]
        if isinstance(table, np.ndarray)
    }
    panels = np.concatenate(sorted(tables.values(), key=lambda table: int(table[0, 1])))
    if int(panels.min()) < 0:
        raise Fault("'panels' has negative numbers")
    counts = panels[:, _COUNTS:].astype(np.int64)
    sizes = np.array([pattern.bit_count() for pattern in kernel.patterns] or [kernel.rows], np.int64)
    kind = np.uint32 if kernel.requantize or kernel.pairs else np.float32
    step.check("weights", kind, int((panels[:, 2] + counts @ sizes).max()))
    ahead = AHEAD if kernel.prefetch else 0
    if kernel.shared_deltas:
        length = int(counts.max())
        step.check("deltas", np.uint16, length + ahead)
        far = int(panels[:, 0].max()) + int(deltas[:length].sum(dtype=np.int64))
    else:
        each = 1 if kernel.patterns else kernel.rows
        total = counts.sum(axis=1) * each
        begins = panels[:, 1].astype(np.int64)
        if (begins[1:] != begins[:-1] + total[:-1]).any():
            raise Fault("'panels' does not walk along 'deltas'")
        step.check("deltas", np.uint16, int(begins[-1] + total[-1]) + ahead)
        stream = deltas[int(begins[0]) : int(begins[-1] + total[-1])]
        if kernel.patterns:
            ways = _sums(stream, counts.reshape(-1)).reshape(counts.shape)
        else:
            # Entry i rows + r is the i-th position of row r.
            ways = np.stack([_sums(stream[row :: kernel.rows], counts[:, 0]) for row in range(kernel.rows)], 1)
        far = int((panels[:, 0] + ways.max(axis=1)).max())
    rows = panels[:, 3]
    return int(panels[:, 0].min()), far, int(rows.min()), int(rows.max()) + kernel.rows


def _byte_panels(step: Reader) -> tuple[int, int, int, int]:
    """The same of streams that walk planes of bytes: places are there as they are."""
    kernel: ConvKernel = step.kernel
    panels = step.records("panels", kernel.panel_words, np.int32)
    if int(panels.min()) < 0:
        raise Fault("'panels' has negative numbers")
    turns = panels[:, _COUNTS:].sum(axis=1, dtype=np.int64)
    places = step.check("deltas", np.int32, int((panels[:, 1] + (turns + 1) * TURN).max()))
    step.check("weights", np.uint32, int((panels[:, 2] + turns * kernel.of_bytes).max()))
    low, high = (int(places.min()), int(places.max())) if places.size else (0, 0)
    rows = panels[:, 3]
    return int(panels[:, 0].min()) + low, int(panels[:, 0].max()) + high, int(rows.min()), int(rows.max()) + kernel.rows


def _sums(stream: NDArray[np.uint16], counts: Ints) -> Ints:
    """Sums of neighbouring segments of a stream."""
    if not len(stream):
        return np.zeros(len(counts), np.int64)
    longest = int(counts.max())
    kind = np.uint32 if longest <= 0xFFFFFFFF // MAX_DELTA else np.int64  # several times as fast
    if longest * len(counts) == len(stream):
        return stream.reshape(-1, longest).sum(axis=1, dtype=kind).astype(np.int64)
    begins = np.minimum(np.cumsum(counts) - counts, len(stream) - 1)
    sums = np.add.reduceat(stream, begins, dtype=kind)
    return np.where(counts > 0, sums, 0).astype(np.int64)
