"""The walk over single channels of 8-bit integers, four positions of a block of rows in each turn.

    for block of n rows:   repeat count[panel][block]:
        quads = bytes at four places of the stream, interleaved
        for r in block:  acc[r][v] += four weights quads[v]

A turn multiplies the quads that the turn before put together: interleaving has one port on x86-64, multiplying two, and
only where both stand side by side are all busy (15 % faster than one after the other on Cascade Lake).
"""

from llvmlite import ir

from secateur.engine.emit.builder import I32, PTR, Value, Var
from secateur.engine.emit.byte_planes import Interleaving
from secateur.engine.emit.integers import dot
from secateur.engine.kernels.conv_form import PANEL_FIELDS
from secateur.engine.kernels.conv_sums import Sums

# Products between two instructions that interleave.
_PRODUCTS = 2


def accumulate_bytes(sums: Sums, record: Value, start: dict[str, Value], base: Value, acc: list[list[Var]]) -> None:
    """acc += weights times inputs, for the panel of a record; `base` is where the tile begins in the first plane."""
    f, body, block = sums.f, sums.body, sums.kernel.of_bytes
    origin = f.at(base, start["x"])
    place = f.var(PTR, f.element(body.pointers["deltas"], start["delta"], I32))
    weight = f.var(PTR, f.element(body.pointers["weights"], start["weight"]))

    def next_quads() -> Interleaving:
        places = place.get()
        return Interleaving(f, [f.at(origin, f.load_i64(places, j, I32)) for j in range(4)], len(acc[0]))

    quads = [f.var(ir.VectorType(I32, f.lanes)) for _ in acc[0]]
    for i in range(sums.kernel.rows // block):
        rows = range(i * block, (i + 1) * block)
        for r in rows:
            sums.start_row(start["row"], r, acc[r])
        _set(quads, next_quads().finish())
        with f.loop(0, f.load_i64(record, len(PANEL_FIELDS) + i, I32)):
            # Behind a list's last places are those of the next one, and some behind the last.
            place.set(f.element(place.get(), 4, I32))
            coming = next_quads()
            given = weight.get()
            weights = [sums.weights(given, j) for j in range(block)]
            products = 0
            for v, quad in enumerate([quad.get() for quad in quads]):
                for r, w in zip(rows, weights, strict=True):
                    acc[r][v].set(dot(f, acc[r][v].get(), quad, w))
                    products += 1
                    if products % _PRODUCTS == 0:
                        coming.step()
            _set(quads, coming.finish())
            weight.set(f.element(given, block))


def _set(variables: list[Var], values: list[Value]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.set(value)
